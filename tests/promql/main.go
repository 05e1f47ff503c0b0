// Command promql reads expressions and evaluates alerts as the real Prometheus does, for tests of the chart's alerts and dashboard.
//
// Each question is one JSON value on standard input, each answer one line on standard output; it ends when its input does. It
// must never call an alert silent that could not be evaluated.
package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"ringfence.dev/oracle"
)

// How often rules are evaluated, and how far apart samples are.
const interval = time.Minute

// A question: either of the two.
type question struct {
	// Expressions to read.
	Expressions []string `json:"expressions"`
	// File of rules to evaluate.
	Rules string `json:"rules"`
	// Samples by series, one a minute, in the notation of promtool: "1 2x3 _".
	Series map[string]string `json:"series"`
	// Minute at which alerts are looked at.
	Minute int `json:"minute"`
}

// What an expression looks at: names of metrics, each with the labels that it is selected by.
type selected map[string][]string

// An alert that fires.
type alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

type answer struct {
	Selected []selected `json:"selected,omitempty"`
	Alerts   []alert    `json:"alerts"`
	Error    string     `json:"error,omitempty"`
}

func main() {
	oracle.Main("promql", func(asked *question) (answer, error) {
		var said answer
		var err error
		if asked.Rules == "" {
			said.Selected, err = asked.read()
		} else {
			said.Alerts, err = asked.evaluate()
		}
		if err != nil {
			return answer{Error: err.Error()}, nil
		}
		return said, nil
	})
}

func (q *question) read() ([]selected, error) {
	reader := parser.NewParser(parser.Options{})
	all := make([]selected, 0, len(q.Expressions))
	for _, text := range q.Expressions {
		expression, err := reader.ParseExpr(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
		found := selected{}
		parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
			if selector, ok := node.(*parser.VectorSelector); ok {
				matched := append([]string{}, found[selector.Name]...)
				for _, matcher := range selector.LabelMatchers {
					if matcher.Name != "__name__" {
						matched = append(matched, matcher.Name+"="+matcher.Value)
					}
				}
				slices.Sort(matched)
				found[selector.Name] = slices.Compact(matched)
			}
			return nil
		})
		all = append(all, found)
	}
	return all, nil
}

func (q *question) evaluate() (firing []alert, err error) {
	var load strings.Builder
	fmt.Fprintf(&load, "load %s\n", interval)
	for name, samples := range q.Series {
		fmt.Fprintf(&load, "  %s %s\n", name, samples)
	}
	reader := parser.NewParser(parser.Options{})
	suite, err := promqltest.NewLazyLoader(load.String(), promqltest.LazyLoaderOpts{
		EnableAtModifier: true, EnableNegativeOffset: true, Parser: reader,
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if closing := suite.Close(); err == nil {
			err = closing
		}
	}()
	manager := rules.NewManager(&rules.ManagerOptions{
		QueryFunc:    rules.EngineQueryFunc(suite.QueryEngine(), suite.Storage()),
		AppendableV2: suite.Storage(),
		Context:      context.Background(),
		NotifyFunc:   func(context.Context, string, ...*rules.Alert) {},
		Logger:       promslog.NewNopLogger(),
		Parser:       reader,
	})
	if _, err := os.Stat(q.Rules); err != nil {
		return nil, err
	}
	groups, problems := manager.LoadGroups(interval, labels.EmptyLabels(), "", nil, false, q.Rules)
	if len(problems) > 0 {
		return nil, problems[0]
	}
	for minute := 0; minute <= q.Minute; minute++ {
		now := time.Unix(0, 0).UTC().Add(time.Duration(minute) * interval)
		suite.WithSamplesTill(now, func(loading error) {
			if loading != nil {
				err = loading
				return
			}
			for _, group := range groups {
				group.Eval(suite.Context(), now)
				for _, rule := range group.Rules() {
					if failed := rule.LastError(); failed != nil {
						err = fmt.Errorf("%s: %w", rule.Name(), failed)
					}
				}
			}
		})
		if err != nil {
			return nil, err
		}
	}
	firing = []alert{}
	for _, group := range groups {
		for _, rule := range group.AlertingRules() {
			for _, active := range rule.ActiveAlerts() {
				if active.State == rules.StateFiring {
					firing = append(firing, alert{Labels: active.Labels.Map(), Annotations: active.Annotations.Map()})
				}
			}
		}
	}
	return firing, nil
}
