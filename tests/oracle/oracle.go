// Package oracle is what every other implementation that tests ask has in common: how it is asked, and how it answers.
//
// Each question is one JSON value on standard input, each answer one line on standard output; it ends when its input does. It must
// never answer a question of which it knows only a part.
package oracle

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// Main answers until there are no more questions. An error of reply ends it: the question was not one that can be answered.
func Main[Question, Answer any](name string, reply func(*Question) (Answer, error)) {
	if err := serve(os.Stdin, os.Stdout, reply); err != nil {
		Fail(name, err)
	}
}

// Fail says why there is no answer, and ends.
func Fail(name string, err error) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	os.Exit(1)
}

func serve[Question, Answer any](in io.Reader, out io.Writer, reply func(*Question) (Answer, error)) error {
	questions := json.NewDecoder(bufio.NewReader(in))
	// A field that is not known here would be a part of the question that is not answered.
	questions.DisallowUnknownFields()
	answers := json.NewEncoder(out)
	for {
		var asked Question
		if err := questions.Decode(&asked); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading a question: %w", err)
		}
		replied, err := reply(&asked)
		if err != nil {
			return err
		}
		if err := answers.Encode(replied); err != nil {
			return err
		}
	}
}
