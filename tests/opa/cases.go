package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/test/cases"
)

// One of OPA's own compliance cases, as far as it can be asked of a single policy.
type compliance struct {
	// Unique within its file.
	Note string `json:"note"`
	// Folder that it comes from: what it is about.
	Folder  string   `json:"folder"`
	Modules []string `json:"modules"`
	Data    any      `json:"data"`
	Input   any      `json:"input"`
	// Path of the document that is asked for, from `data` on; empty where the query is another.
	Path []string `json:"path"`
	// Why it cannot be asked.
	Unasked string `json:"unasked"`
}

// Reads the cases below a folder of OPA's source.
func load(directory string) ([]compliance, error) {
	set, err := cases.Load(directory)
	if err != nil {
		return nil, err
	}
	if len(set.Cases) == 0 {
		return nil, fmt.Errorf("no cases in %s", directory)
	}
	read := make([]compliance, 0, len(set.Cases))
	for _, one := range set.Cases {
		folder := filepath.Base(filepath.Dir(one.Filename))
		asked := compliance{Note: one.Note, Folder: folder, Modules: one.Modules, Path: path(one.Query)}
		if one.Data != nil {
			asked.Data = *one.Data
		}
		switch {
		case one.InputTerm != nil:
			if asked.Input, err = input(*one.InputTerm); err != nil {
				asked.Unasked = err.Error()
			}
		case one.Input != nil:
			asked.Input = *one.Input
		}
		read = append(read, asked)
	}
	return read, nil
}

// The document of a query like `data.p.q = x`.
func path(query string) []string {
	body, err := ast.ParseBody(query)
	if err != nil || len(body) != 1 || body[0].Negated || !body[0].IsEquality() {
		return nil
	}
	ref, isRef := body[0].Operand(0).Value.(ast.Ref)
	_, isVar := body[0].Operand(1).Value.(ast.Var)
	if !isRef || !isVar || !ref.HasPrefix(ast.DefaultRootRef) {
		return nil
	}
	var names []string
	for _, term := range ref[1:] {
		name, isString := term.Value.(ast.String)
		if !isString {
			return nil
		}
		names = append(names, string(name))
	}
	return names
}

// An input that is written as a term, if JSON can say it.
func input(text string) (any, error) {
	term, err := ast.ParseTerm(text)
	if err != nil {
		return nil, err
	}
	sets := false
	ast.WalkTerms(term, func(term *ast.Term) bool {
		_, isSet := term.Value.(ast.Set)
		sets = sets || isSet
		return sets
	})
	if sets {
		return nil, errors.New("its input is no JSON")
	}
	value, err := ast.JSON(term.Value)
	if err != nil {
		return nil, err
	}
	if _, err := json.Marshal(value); err != nil {
		return nil, err
	}
	return value, nil
}
