// Command pod-security answers what the Pod Security Standards' own implementation says of pods, for tests that hold Ringfence's
// policies to it: an implementation that shares nothing with Ringfence, neither code nor language.
//
// Each question is one JSON value on standard input, each answer one line on standard output; it ends when its input does. It
// must never soften an answer, nor answer for a pod that it could not read as an API server reads one.
package main

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	// Upper and lower case of a field's name differ, as they do to an API server.
	apijson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"ringfence.dev/oracle"
)

// A question: what the standard says of a pod in each of these versions.
type question struct {
	Pod      json.RawMessage `json:"pod"`
	Versions []string        `json:"versions"`
	// Instead: folder of fixtures to hand out.
	Fixtures string `json:"fixtures"`
}

// An answer: one of the three.
type answer struct {
	// One for each version asked for, in their order.
	Verdicts []verdict `json:"verdicts,omitempty"`
	Fixtures []fixture `json:"fixtures,omitempty"`
	Error    string    `json:"error,omitempty"`
}

type verdict struct {
	// Whether the level as a whole lets the pod pass, with the overrides between its checks.
	Baseline   bool `json:"baseline"`
	Restricted bool `json:"restricted"`
	// Each check by itself, by identifier, overridden or not; those that the version has.
	Checks map[policy.CheckID]bool `json:"checks"`
}

func main() {
	standard, err := newStandard()
	if err != nil {
		oracle.Fail("pod-security", err)
	}
	oracle.Main("pod-security", func(asked *question) (answer, error) { return standard.reply(asked), nil })
}

// The checks, together and one by one.
type standard struct {
	whole policy.Evaluator
	alone map[policy.CheckID]policy.Evaluator
	level map[policy.CheckID]api.Level
}

func newStandard() (*standard, error) {
	checks := policy.DefaultChecks()
	whole, err := policy.NewEvaluator(checks, nil)
	if err != nil {
		return nil, err
	}
	all := &standard{whole: whole, alone: map[policy.CheckID]policy.Evaluator{}, level: map[policy.CheckID]api.Level{}}
	for _, check := range checks {
		if all.alone[check.ID], err = policy.NewEvaluator([]policy.Check{check}, nil); err != nil {
			return nil, err
		}
		all.level[check.ID] = check.Level
	}
	return all, nil
}

func (s *standard) reply(asked *question) answer {
	if asked.Fixtures != "" {
		found, err := load(asked.Fixtures)
		if err != nil {
			return answer{Error: err.Error()}
		}
		return answer{Fixtures: found}
	}
	var pod corev1.Pod
	if err := apijson.Unmarshal(asked.Pod, &pod); err != nil {
		return answer{Error: err.Error()}
	}
	// The one default of an API server that changes a verdict: a volume of no type is an emptyDir.
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].VolumeSource == (corev1.VolumeSource{}) {
			pod.Spec.Volumes[i].EmptyDir = &corev1.EmptyDirVolumeSource{}
		}
	}
	var said answer
	for _, text := range asked.Versions {
		version, err := api.ParseVersion(text)
		if err != nil {
			return answer{Error: fmt.Sprintf("version %q %v", text, err)}
		}
		said.Verdicts = append(said.Verdicts, s.judge(&pod, version))
	}
	return said
}

func (s *standard) judge(pod *corev1.Pod, version api.Version) verdict {
	said := verdict{
		Baseline:   allowed(s.ask(s.whole, pod, api.LevelBaseline, version)),
		Restricted: allowed(s.ask(s.whole, pod, api.LevelRestricted, version)),
		Checks:     map[policy.CheckID]bool{},
	}
	for id, check := range s.alone {
		if results := s.ask(check, pod, s.level[id], version); len(results) > 0 {
			said.Checks[id] = allowed(results)
		}
	}
	return said
}

func (s *standard) ask(of policy.Evaluator, pod *corev1.Pod, level api.Level, version api.Version) []policy.CheckResult {
	return of.EvaluatePod(api.LevelVersion{Level: level, Version: version}, &pod.ObjectMeta, &pod.Spec)
}

func allowed(results []policy.CheckResult) bool {
	return policy.AggregateCheckResults(results).Allowed
}
