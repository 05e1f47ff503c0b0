// Command gatekeeper answers what the real Gatekeeper says, for tests that hold Ringfence's reading of its templates and constraints
// to it: Gatekeeper's own constraint client, target and expansion, put together as its webhook puts them together.
//
// Each question is one JSON value on standard input, each answer one line on standard output; it ends when its input does. It must
// never decide anything that Gatekeeper decides.
package main

import (
	"context"
	"fmt"
	"sort"
	"time"

	"github.com/open-policy-agent/frameworks/constraint/pkg/apis"
	constraintclient "github.com/open-policy-agent/frameworks/constraint/pkg/client"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/drivers/rego"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/reviews"
	"github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"
	"github.com/open-policy-agent/frameworks/constraint/pkg/types"
	configv1alpha1 "github.com/open-policy-agent/gatekeeper/v3/apis/config/v1alpha1"
	expansionv1alpha1 "github.com/open-policy-agent/gatekeeper/v3/apis/expansion/unversioned"
	"github.com/open-policy-agent/gatekeeper/v3/pkg/controller/config/process"
	"github.com/open-policy-agent/gatekeeper/v3/pkg/expansion"
	mutationtypes "github.com/open-policy-agent/gatekeeper/v3/pkg/mutation/types"
	"github.com/open-policy-agent/gatekeeper/v3/pkg/target"
	"github.com/open-policy-agent/gatekeeper/v3/pkg/util"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"ringfence.dev/oracle"
)

// Longest time for one question.
const limit = 60 * time.Second

// A question: what Gatekeeper says of requests, with these documents in the cluster.
type question struct {
	// Templates, constraints, Config, ExpansionTemplates.
	Documents []*unstructured.Unstructured `json:"documents"`
	// Objects that are synced.
	Inventory []*unstructured.Unstructured `json:"inventory"`
	Requests  []request                    `json:"requests"`
}

type request struct {
	Request admissionv1.AdmissionRequest `json:"request"`
	// The Namespace that the request names, if it is there.
	Namespace *corev1.Namespace `json:"namespace"`
}

type answer struct {
	// Documents that Gatekeeper refuses, as kind/name, and why.
	Refused map[string]string `json:"refused"`
	// Of each request.
	Said []said `json:"said"`
}

type said struct {
	// Why the request could not be reviewed: the webhook refuses it then.
	Error   string   `json:"error,omitempty"`
	Results []result `json:"results"`
}

type result struct {
	// The constraint, as kind/name.
	Constraint string   `json:"constraint"`
	Message    string   `json:"message"`
	Actions    []string `json:"actions"`
}

var decoder = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	if err := apis.AddToScheme(scheme); err != nil {
		panic(err)
	}
	return serializer.NewCodecFactory(scheme).UniversalDeserializer()
}()

func main() {
	oracle.Main("gatekeeper", (*question).reply)
}

// What of Gatekeeper there is in a cluster.
type cluster struct {
	client    *constraintclient.Client
	expansion *expansion.System
	excluder  *process.Excluder
}

func (q *question) reply() (*answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	driver, err := rego.New()
	if err != nil {
		return nil, err
	}
	client, err := constraintclient.NewClient(
		constraintclient.Targets(&target.K8sValidationTarget{}),
		constraintclient.Driver(driver),
		constraintclient.EnforcementPoints(util.WebhookEnforcementPoint, util.AuditEnforcementPoint),
	)
	if err != nil {
		return nil, err
	}
	all := cluster{client: client, expansion: expansion.NewSystem(nil), excluder: process.New()}
	replied := &answer{Refused: map[string]string{}}
	// Gatekeeper looks at templates before it looks at what is made of them.
	for _, take := range []func(context.Context, *unstructured.Unstructured) error{all.takeTemplate, all.takeOther} {
		for _, document := range q.Documents {
			if err := take(ctx, document); err != nil {
				replied.Refused[document.GetKind()+"/"+document.GetName()] = err.Error()
			}
		}
	}
	for _, object := range q.Inventory {
		if _, err := client.AddData(ctx, object); err != nil {
			return nil, fmt.Errorf("adding %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	for number := range q.Requests {
		replied.Said = append(replied.Said, all.review(ctx, &q.Requests[number]))
	}
	return replied, nil
}

func (c *cluster) takeTemplate(ctx context.Context, document *unstructured.Unstructured) error {
	if document.GroupVersionKind().Group != "templates.gatekeeper.sh" {
		return nil
	}
	raw, err := document.MarshalJSON()
	if err != nil {
		return err
	}
	typed, _, err := decoder.Decode(raw, nil, nil)
	if err != nil {
		return err
	}
	template, err := typed.(interface {
		ToVersionless() (*templates.ConstraintTemplate, error)
	}).ToVersionless()
	if err != nil {
		return err
	}
	_, err = c.client.AddTemplate(ctx, template)
	return err
}

func (c *cluster) takeOther(ctx context.Context, document *unstructured.Unstructured) error {
	switch document.GroupVersionKind().Group {
	case "constraints.gatekeeper.sh":
		// What Gatekeeper's webhook holds a constraint to, beside its client.
		action, found, err := unstructured.NestedString(document.Object, "spec", "enforcementAction")
		if err != nil {
			return err
		}
		if found && action != "" {
			if err := util.ValidateEnforcementAction(util.EnforcementAction(action), document.Object); err != nil {
				return err
			}
		}
		_, err = c.client.AddConstraint(ctx, document)
		return err
	case "config.gatekeeper.sh":
		config := &configv1alpha1.Config{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(document.Object, config); err != nil {
			return err
		}
		c.excluder.Add(config.Spec.Match)
	case "expansion.gatekeeper.sh":
		template := &expansionv1alpha1.ExpansionTemplate{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(document.Object, template); err != nil {
			return err
		}
		return c.expansion.UpsertTemplate(template)
	}
	return nil
}

// As Gatekeeper's webhook does with a request.
func (c *cluster) review(ctx context.Context, asked *request) said {
	failed := func(err error) said { return said{Error: err.Error()} }
	admission := asked.Request
	raw := admission.Object.Raw
	if admission.Operation == admissionv1.Delete {
		raw = admission.OldObject.Raw
	}
	var object *unstructured.Unstructured
	if raw != nil {
		object = &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(raw); err != nil {
			return failed(err)
		}
		object.SetNamespace(admission.Namespace)
		excluded, err := c.excluder.IsNamespaceExcluded(process.Webhook, object)
		if err != nil {
			return failed(err)
		}
		if excluded {
			return said{}
		}
	}
	if admission.Kind.Kind == "Namespace" && admission.Kind.Group == "" {
		admission.Namespace = ""
	}
	var namespace *corev1.Namespace
	if admission.Namespace != "" {
		namespace = asked.Namespace
		if namespace == nil {
			return failed(fmt.Errorf("namespace %q is not there", admission.Namespace))
		}
	}
	options := []reviews.ReviewOpt{reviews.EnforcementPoint(util.WebhookEnforcementPoint)}
	if namespace != nil {
		fields, err := util.NamespaceToMap(namespace)
		if err != nil {
			return failed(err)
		}
		options = append(options, reviews.Namespace(fields))
	}
	responses, err := c.client.Review(ctx, target.AugmentedReview{
		AdmissionRequest: &admission, Namespace: namespace, Source: mutationtypes.SourceTypeOriginal, IsAdmission: true,
	}, options...)
	if err != nil {
		return failed(err)
	}
	if object != nil {
		object.SetNamespace(admission.Namespace)
		object.SetGroupVersionKind(schema.GroupVersionKind(admission.Kind))
		resultants, err := c.expansion.Expand(&mutationtypes.Mutable{
			Object: object, Namespace: namespace, Username: admission.UserInfo.Username,
		})
		if err != nil {
			return failed(err)
		}
		for _, resultant := range resultants {
			made, err := c.client.Review(ctx, target.AugmentedUnstructured{
				Object: *resultant.Obj, Namespace: namespace, Operation: admission.Operation,
				Source: mutationtypes.SourceTypeGenerated,
			}, options...)
			if err != nil {
				return failed(err)
			}
			expansion.OverrideEnforcementAction(resultant.EnforcementAction, made)
			expansion.AggregateResponses(resultant.TemplateName, responses, made)
		}
	}
	return said{Results: results(responses)}
}

func results(responses *types.Responses) []result {
	var told []result
	for _, found := range responses.Results() {
		actions := []string{found.EnforcementAction}
		if found.EnforcementAction == string(util.Scoped) {
			actions = append([]string{}, found.ScopedEnforcementActions...)
			sort.Strings(actions)
		}
		told = append(told, result{
			Constraint: found.Constraint.GetKind() + "/" + found.Constraint.GetName(),
			Message:    found.Msg,
			Actions:    actions,
		})
	}
	return told
}
