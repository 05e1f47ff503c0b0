// Command opa answers what the real Open Policy Agent says, for tests that hold Ringfence's engine to it: an implementation
// that shares nothing with Ringfence, neither code nor language.
//
// Each question is one JSON value on standard input, each answer one line on standard output; it ends when its input does. It
// must never soften an answer: an error of a built-in function is an error, and not undefined, unless that is what is asked.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"ringfence.dev/oracle"
)

// Longest evaluation of one question.
const limit = 20 * time.Second

// A question: what the query gives under these modules.
type question struct {
	// Sources by file name.
	Modules map[string]string `json:"modules"`
	// Whether they are written in version 0 of the language.
	V0    bool            `json:"v0"`
	Data  json.RawMessage `json:"data"`
	Input json.RawMessage `json:"input"`
	Query string          `json:"query"`
	// Whether an error of a built-in function is undefined, as OPA has it where nobody says otherwise.
	Lax bool `json:"lax"`
	// Instead of all that: folder of the compliance cases to hand out.
	Cases string `json:"cases"`
}

// An answer: exactly one of the three.
type answer struct {
	Result    any    `json:"result,omitempty"`
	Undefined bool   `json:"undefined,omitempty"`
	Error     string `json:"error,omitempty"`
}

func main() {
	oracle.Main("opa", func(asked *question) (answer, error) { return reply(asked), nil })
}

func reply(asked *question) (said answer) {
	defer func() {
		if problem := recover(); problem != nil {
			said = answer{Error: fmt.Sprint("panic: ", problem)}
		}
	}()
	if asked.Cases != "" {
		set, err := load(asked.Cases)
		if err != nil {
			return answer{Error: err.Error()}
		}
		return answer{Result: set}
	}
	result, err := asked.evaluate()
	switch {
	case err != nil:
		return answer{Error: err.Error()}
	case len(result) == 0 || len(result[0].Expressions) == 0:
		return answer{Undefined: true}
	}
	value, err := json.Marshal(result[0].Expressions[0].Value)
	if err != nil {
		return answer{Error: err.Error()}
	}
	// As raw JSON, so that null is a result and not left out.
	return answer{Result: json.RawMessage(value)}
}

func (q *question) evaluate() (rego.ResultSet, error) {
	version := ast.RegoV1
	if q.V0 {
		version = ast.RegoV0
	}
	options := []func(*rego.Rego){
		rego.Query(q.Query),
		rego.SetRegoVersion(version),
		rego.StrictBuiltinErrors(!q.Lax),
	}
	for name, source := range q.Modules {
		options = append(options, rego.Module(name, source))
	}
	if len(q.Data) > 0 {
		options = append(options, rego.Store(inmem.NewFromReader(bytes.NewReader(q.Data))))
	}
	if len(q.Input) > 0 {
		input, err := ast.ValueFromReader(bytes.NewReader(q.Input))
		if err != nil {
			return nil, err
		}
		options = append(options, rego.ParsedInput(input))
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return rego.New(options...).Eval(ctx)
}
