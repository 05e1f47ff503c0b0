{{/* Labels of every object. */}}
{{- define "ringfence.labels" -}}
app.kubernetes.io/name: ringfence
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What the Deployment and the Service select. Immutable in a Deployment: never add to it. */}}
{{- define "ringfence.selector" -}}
app.kubernetes.io/name: ringfence
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The same of the egress proxy, which is not to be asked for reviews: its name is another. Workflows' NetworkPolicies select it by name and component. */}}
{{- define "ringfence.egressLabels" -}}
{{ include "ringfence.labels" . | replace "app.kubernetes.io/name: ringfence\n" "app.kubernetes.io/name: ringfence-egress\n" }}
app.kubernetes.io/component: egress
{{- end }}

{{- define "ringfence.egressSelector" -}}
app.kubernetes.io/name: ringfence-egress
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: egress
{{- end }}

{{- define "ringfence.image" -}}
{{- with .Values.image -}}
{{ with .registry }}{{ . }}/{{ end }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end -}}
{{- end }}

{{/* Ringfence as the API server knows it. Guards and registrations let this account pass. */}}
{{- define "ringfence.username" -}}
system:serviceaccount:{{ .Release.Namespace }}:ringfence
{{- end }}

{{/* Namespaces that are never fenced, as a JSON list, which is a YAML list too. */}}
{{- define "ringfence.exempt" -}}
{{- list "kube-system" "kube-node-lease" "kube-public" .Release.Namespace | uniq | toJson -}}
{{- end }}

{{/* The same as a CEL list. */}}
{{/* The labels and annotations of ours that mean something, beside modes and the workflow label. */}}
{{- define "ringfence.reservedKeysCel" -}}
['ringfence.dev/adopt', 'ringfence.dev/aggregate-to-ceiling', 'ringfence.dev/aggregate-to-inventory', 'ringfence.dev/aggregate-to-owners', 'ringfence.dev/egress-domains', 'ringfence.dev/owner', 'ringfence.dev/owner-uid', 'ringfence.dev/reviewed', 'ringfence.dev/revision']
{{- end }}

{{- define "ringfence.exemptCel" -}}
{{ include "ringfence.exempt" . | replace "\"" "'" }}
{{- end }}

{{/* Host of webhook.url.host without port and brackets: a name for the served certificate. */}}
{{- define "ringfence.webhookHost" -}}
{{ .Values.webhook.url.host | regexFind "^(\\[[^]]*\\]|[^:]*)" | trimPrefix "[" | trimSuffix "]" }}
{{- end }}

{{/* The Secret that holds the served certificate. */}}
{{- define "ringfence.certificateSecret" -}}
{{ .Values.webhook.certificate.secretName | default "ringfence-webhook-tls" }}
{{- end }}

{{/* Where a registration's requests go: (list $ "/path"). No caBundle: the operator fills it. */}}
{{- define "ringfence.clientConfig" -}}
{{- $top := index . 0 -}}
{{- $path := index . 1 -}}
{{- with $top.Values.webhook.url.host -}}
url: https://{{ . }}{{ $path }}
{{- else -}}
service:
  name: ringfence-webhook
  namespace: {{ $top.Release.Namespace }}
  path: {{ $path }}
  port: 443
{{- end -}}
{{- end }}

{{/* Variables of the guards on what Ringfence made: the built-in controllers, and whether a write changes only what these keep. */}}
{{- define "ringfence.ownedVariables" -}}
{{- $server := "['finalizers', 'ownerReferences', 'managedFields', 'resourceVersion', 'generation', 'deletionTimestamp', 'deletionGracePeriodSeconds']" }}
- name: collector
  expression: |-
    request.userInfo.username in ['system:kube-controller-manager', 'system:serviceaccount:kube-system:generic-garbage-collector']
- name: namespaceController
  expression: |-
    request.userInfo.username in ['system:kube-controller-manager', 'system:serviceaccount:kube-system:namespace-controller']
# dyn: the kinds have different fields.
- name: new
  expression: "dyn(object)"
- name: old
  expression: "dyn(oldObject)"
- name: sameOutsideMetadata
  expression: |-
    variables.new != null && variables.old != null
    && variables.new.all(k, k == 'metadata' || (k in variables.old && variables.new[k] == variables.old[k]))
    && variables.old.all(k, k in variables.new)
- name: sameMetadata
  expression: |-
    variables.new != null && variables.old != null && has(variables.new.metadata) && has(variables.old.metadata)
    && variables.new.metadata.all(k, k in {{ $server }}
      || (k in variables.old.metadata && variables.new.metadata[k] == variables.old.metadata[k]))
    && variables.old.metadata.all(k, k in {{ $server }} || k in variables.new.metadata)
- name: sameOwners
  expression: |-
    has(variables.new.metadata.ownerReferences) == has(variables.old.metadata.ownerReferences)
    && (!has(variables.new.metadata.ownerReferences) || variables.new.metadata.ownerReferences == variables.old.metadata.ownerReferences)
# As a migration of stored objects writes them again. Not that record either: what is as large as can be stored is written no more.
- name: unchanged
  expression: |-
    variables.sameOutsideMetadata && variables.sameMetadata && variables.sameOwners
    && has(variables.new.metadata.finalizers) == has(variables.old.metadata.finalizers)
    && (!has(variables.new.metadata.finalizers) || variables.new.metadata.finalizers == variables.old.metadata.finalizers)
    && has(variables.new.metadata.managedFields) == has(variables.old.metadata.managedFields)
    && (!has(variables.new.metadata.managedFields) || variables.new.metadata.managedFields == variables.old.metadata.managedFields)
{{- end }}

{{/* Domains below which names are the cluster's, its own first, as a JSON list. Values of an earlier version may say nothing of them. */}}
{{- define "ringfence.clusterDomains" -}}
{{- prepend ((.Values.egress).clusterDomains | default list) (.Values.clusterDomain | default "cluster.local") | uniq | toJson }}
{{- end }}

{{/* Whether no owner of Ringfence's answers for the old object: none whose UID its annotation names. Whoever may set an owner may set any. */}}
{{- define "ringfence.leftBehind" -}}
!(has(oldObject.metadata.ownerReferences)
  && oldObject.metadata.ownerReferences.exists(r,
    r.apiVersion.startsWith('ringfence.dev/') && r.uid == oldObject.metadata.annotations['ringfence.dev/owner-uid']))
{{- end }}

{{/* Whether somebody else asks than a controller of Kubernetes that ends things and lets go of them by its work. */}}
{{- define "ringfence.notAControllerOfKubernetesCel" -}}
!(request.userInfo.username in [
  'system:kube-controller-manager',
  'system:serviceaccount:kube-system:cronjob-controller',
  'system:serviceaccount:kube-system:daemon-set-controller',
  'system:serviceaccount:kube-system:deployment-controller',
  'system:serviceaccount:kube-system:generic-garbage-collector',
  'system:serviceaccount:kube-system:job-controller',
  'system:serviceaccount:kube-system:namespace-controller',
  'system:serviceaccount:kube-system:replicaset-controller',
  'system:serviceaccount:kube-system:replication-controller',
  'system:serviceaccount:kube-system:statefulset-controller'])
{{- end }}

{{/* Whether who asks holds `approve` on the class by which the namespace enforces. */}}
{{- define "ringfence.approverCel" -}}
namespaceObject != null && has(namespaceObject.metadata.labels) && 'ringfence.dev/enforce' in namespaceObject.metadata.labels
&& authorizer.group('ringfence.dev').resource('aiworkflowclasses').name(namespaceObject.metadata.labels['ringfence.dev/enforce']).check('approve').allowed()
{{- end }}

{{/* What a DELETE says is to become of what the object owns, in the new spelling, whichever it is written in; nothing where it says nothing. */}}
{{- define "ringfence.propagationCel" -}}
!has(request.options) || request.options == null ? ''
: has(request.options.orphanDependents) && request.options.orphanDependents != null
? (request.options.orphanDependents == true ? 'Orphan' : 'Background')
: has(request.options.propagationPolicy) && request.options.propagationPolicy != null ? request.options.propagationPolicy : ''
{{- end }}

{{/* Names of the guards, as a JSON list, which is a YAML list too: each is called as its file. */}}
{{- define "ringfence.guards" -}}
{{- $names := list }}
{{- range $path, $_ := .Files.Glob "guards/*.yaml" }}
{{- $names = append $names (printf "ringfence-%s" (base $path | trimSuffix ".yaml")) }}
{{- end }}
{{- toJson $names }}
{{- end }}

{{/*
  Whoever writes an object may write its managedFields. A time of the last days of the year 9999, of a year of five digits or before 0, which
  offsets lead to, is stored and cannot be read again: not by Ringfence, nor by the API server, which fails each PATCH of the object before
  it asks anybody. What is so already may still be ended.
*/}}
{{- define "ringfence.readableTimesCel" -}}
object == null || !has(object.metadata) || !has(object.metadata.managedFields)
|| object.metadata.managedFields.all(f, !has(f.time) || f.time == null || string(f.time).matches('^[0-9]{4}-') && string(f.time) < '9999')
|| (oldObject != null && has(oldObject.metadata) && has(oldObject.metadata.managedFields)
  && oldObject.metadata.managedFields.exists(f, has(f.time) && f.time != null && !(string(f.time).matches('^[0-9]{4}-') && string(f.time) < '9999')))
{{- end }}

{{/* The same as a validation of what runs, or makes what runs. */}}
{{- define "ringfence.readableTimes" -}}
- expression: |-
    {{- include "ringfence.readableTimesCel" . | nindent 4 }}
  reason: Forbidden
  message: "a time in metadata.managedFields lies beyond what can be read again: nobody could PATCH the object, its controllers neither. Fix: leave managedFields out, which the API server writes; where it is so already, patch metadata.managedFields to [{}]."
{{- end }}

{{/* How many have applied an object, before and now. */}}
{{- define "ringfence.appliedVariables" -}}
{{- range $side := list "object" "oldObject" }}
- name: {{ $side }}Applied
  expression: |-
    {{ $side }} != null && has({{ $side }}.metadata) && has({{ $side }}.metadata.managedFields)
    ? size({{ $side }}.metadata.managedFields.filter(m, has(m.operation) && m.operation == 'Apply')) : 0
{{- end }}
{{- end }}
