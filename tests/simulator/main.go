// Command simulator answers who may talk to whom under NetworkPolicies, as cyclonus reads them: an implementation that shares
// nothing with Ringfence, neither code nor language.
//
// Each question is one JSON value on standard input, each answer one line on standard output; it ends when its input does. It
// must never look at anything but the question.
package main

import (
	"fmt"
	"net"
	"strings"

	"github.com/mattfenwick/cyclonus/pkg/matcher"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"ringfence.dev/oracle"
)

// A question: every pod is asked about as source and as destination, with every other pod and every address.
type question struct {
	// As the API server sends them.
	Policies []*networkingv1.NetworkPolicy `json:"policies"`
	// Labels by name.
	Namespaces map[string]map[string]string `json:"namespaces"`
	Pods       []pod                        `json:"pods"`
	// Addresses of no pod.
	Addresses []string `json:"addresses"`
	Ports     []port   `json:"ports"`
}

type pod struct {
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	Labels    map[string]string `json:"labels"`
	IP        string            `json:"ip"`
}

type port struct {
	Port     int             `json:"port"`
	Protocol corev1.Protocol `json:"protocol"`
}

// An answer: one path for each ordered pair of ends, or what is wrong with the question.
type answer struct {
	Paths []path `json:"paths"`
	Error string `json:"error,omitempty"`
}

// What is open between two ends: for each port of the question, in its order, '1' where it is and '0' where it is not. An end
// is `namespace/name` of a pod, or an address.
type path struct {
	From string `json:"from"`
	To   string `json:"to"`
	// What the source's policies let out, and the destination's let in. An address has none: it lets everything.
	Egress  string `json:"egress"`
	Ingress string `json:"ingress"`
	// What gets through.
	Both string `json:"both"`
}

type end struct {
	name string
	peer *matcher.TrafficPeer
}

func main() {
	oracle.Main("simulator", func(asked *question) (answer, error) { return reply(asked), nil })
}

func reply(asked *question) (said answer) {
	// cyclonus panics on what it cannot read.
	defer func() {
		if problem := recover(); problem != nil {
			said = answer{Error: fmt.Sprint(problem)}
		}
	}()
	ends, err := asked.ends()
	if err != nil {
		return answer{Error: err.Error()}
	}
	for _, policy := range asked.Policies {
		if err := spellOut(policy); err != nil {
			return answer{Error: fmt.Sprintf("NetworkPolicy %s/%s: %v", policy.Namespace, policy.Name, err)}
		}
	}
	policies := matcher.BuildNetworkPolicies(false, asked.Policies)
	paths := []path{}
	for _, from := range ends {
		for _, to := range ends {
			if from == to || (from.peer.IsExternal() && to.peer.IsExternal()) {
				continue
			}
			paths = append(paths, open(policies, from, to, asked.Ports))
		}
	}
	return answer{Paths: paths}
}

func (q *question) ends() ([]*end, error) {
	var ends []*end
	for _, pod := range q.Pods {
		labels, known := q.Namespaces[pod.Namespace]
		if !known {
			return nil, fmt.Errorf("pod %s/%s: its namespace is not given", pod.Namespace, pod.Name)
		}
		inside := &matcher.InternalPeer{PodLabels: pod.Labels, NamespaceLabels: labels, Namespace: pod.Namespace}
		peer := &matcher.TrafficPeer{Internal: inside, IP: pod.IP}
		ends = append(ends, &end{name: pod.Namespace + "/" + pod.Name, peer: peer})
	}
	for _, address := range q.Addresses {
		ends = append(ends, &end{name: address, peer: &matcher.TrafficPeer{IP: address}})
	}
	for _, end := range ends {
		if net.ParseIP(end.peer.IP) == nil {
			return nil, fmt.Errorf("%s: %q is no address", end.name, end.peer.IP)
		}
	}
	return ends, nil
}

func open(policies *matcher.Policy, from, to *end, ports []port) path {
	var egress, ingress, both strings.Builder
	for _, port := range ports {
		allowed := policies.IsTrafficAllowed(&matcher.Traffic{
			Source:       from.peer,
			Destination:  to.peer,
			ResolvedPort: port.Port,
			Protocol:     port.Protocol,
		})
		egress.WriteByte(bit(allowed.Egress.IsAllowed()))
		ingress.WriteByte(bit(allowed.Ingress.IsAllowed()))
		both.WriteByte(bit(allowed.IsAllowed()))
	}
	return path{From: from.name, To: to.name, Egress: egress.String(), Ingress: ingress.String(), Both: both.String()}
}

func bit(allowed bool) byte {
	if allowed {
		return '1'
	}
	return '0'
}
