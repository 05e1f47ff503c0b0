// Command match-conditions answers whether a webhook would be called, or a guard would look, by the API server's own evaluator of
// matchConditions: the same compiler, the same environment, the same budget.
//
// Each question is one JSON value on standard input, each answer one line on standard output; it ends when its input does. It must
// never take an error for an answer: an error of a condition is told as one.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	// Numbers as an API server reads them.
	apijson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/cel/environment"
	"ringfence.dev/oracle"
)

// A question: whether a request matches all of these conditions.
type question struct {
	Conditions []registrationv1.MatchCondition `json:"conditions"`
	Operation  admission.Operation             `json:"operation"`
	Kind       schema.GroupVersionKind         `json:"kind"`
	// `pods` or `pods/status`.
	Resource  schema.GroupVersionResource `json:"resource"`
	Namespace string                      `json:"namespace"`
	Name      string                      `json:"name"`
	User      string                      `json:"user"`
	Groups    []string                    `json:"groups"`
	Object    json.RawMessage             `json:"object"`
	OldObject json.RawMessage             `json:"oldObject"`
	// Whether the user has whatever rights a condition asks about.
	Allowed bool `json:"allowed"`
}

// An answer: whether it matches, the condition by which it does not, and what an error says.
type answer struct {
	Matches bool   `json:"matches"`
	Failed  string `json:"failed,omitempty"`
	Error   string `json:"error,omitempty"`
}

// Compiling is most of the work, and there are few sets of conditions.
type compiled map[string]matchconditions.Matcher

func main() {
	matchers := compiled{}
	compiler := cel.NewConditionCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	oracle.Main("match-conditions", func(asked *question) (answer, error) { return matchers.reply(compiler, asked) })
}

func (c compiled) reply(compiler cel.ConditionCompiler, asked *question) (answer, error) {
	object, err := read(asked.Object)
	if err != nil {
		return answer{}, err
	}
	old, err := read(asked.OldObject)
	if err != nil {
		return answer{}, err
	}
	resource, subresource, _ := strings.Cut(asked.Resource.Resource, "/")
	asked.Resource.Resource = resource
	who := &user.DefaultInfo{Name: asked.User, Groups: asked.Groups}
	attributes := admission.NewAttributesRecord(object, old, asked.Kind, asked.Namespace, asked.Name, asked.Resource, subresource,
		asked.Operation, options(asked.Operation), false, who)
	versioned := &admission.VersionedAttributes{Attributes: attributes, VersionedKind: asked.Kind, VersionedObject: object, VersionedOldObject: old}
	said := c.matcher(compiler, asked.Conditions).Match(context.Background(), versioned, nil, rights(asked.Allowed))
	told := answer{Matches: said.Matches, Failed: said.FailedConditionName}
	if said.Error != nil {
		told.Error = said.Error.Error()
	}
	return told, nil
}

func (c compiled) matcher(compiler cel.ConditionCompiler, conditions []registrationv1.MatchCondition) matchconditions.Matcher {
	key := fmt.Sprint(conditions)
	if known, is := c[key]; is {
		return known
	}
	expressions := make([]cel.ExpressionAccessor, len(conditions))
	for i, condition := range conditions {
		expressions[i] = &matchconditions.MatchCondition{Name: condition.Name, Expression: condition.Expression}
	}
	evaluator := compiler.CompileCondition(expressions, cel.OptionalVariableDeclarations{HasAuthorizer: true}, environment.StoredExpressions)
	fails := registrationv1.Fail
	c[key] = matchconditions.NewMatcher(evaluator, &fails, "webhook", "validating", "ringfence")
	return c[key]
}

// All of them, or none.
func rights(allowed bool) authorizer.Authorizer {
	return authorizer.AuthorizerFunc(func(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
		if allowed {
			return authorizer.DecisionAllow, "", nil
		}
		return authorizer.DecisionNoOpinion, "", nil
	})
}

// Nothing is nil, as the API server has it for a CREATE or a CONNECT.
func read(sent json.RawMessage) (runtime.Object, error) {
	if len(sent) == 0 || string(sent) == "null" {
		return nil, nil
	}
	fields := map[string]any{}
	if err := apijson.Unmarshal(sent, &fields); err != nil {
		return nil, fmt.Errorf("reading an object: %w", err)
	}
	return &unstructured.Unstructured{Object: fields}, nil
}

func options(operation admission.Operation) runtime.Object {
	switch operation {
	case admission.Create:
		return &metav1.CreateOptions{}
	case admission.Update:
		return &metav1.UpdateOptions{}
	case admission.Delete:
		return &metav1.DeleteOptions{}
	}
	return nil
}
