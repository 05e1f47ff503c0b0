package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// A pod of the implementation's own tests: FOLDER/LEVEL/VERSION/pass or fail/NAME.yaml.
type fixture struct {
	Level   string `json:"level"`
	Version string `json:"version"`
	// Identifier of the check in lower case and a number, or `base` and what is based on it.
	Name    string          `json:"name"`
	Allowed bool            `json:"allowed"`
	Pod     json.RawMessage `json:"pod"`
}

func load(folder string) ([]fixture, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*", "*", "*", "*.yaml"))
	if err != nil {
		return nil, err
	}
	var found []fixture
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		pod, err := yaml.YAMLToJSON(text)
		if err != nil {
			return nil, err
		}
		relative, err := filepath.Rel(folder, file)
		if err != nil {
			return nil, err
		}
		parts := strings.Split(filepath.ToSlash(relative), "/")
		found = append(found, fixture{
			Level:   parts[0],
			Version: parts[1],
			Name:    strings.TrimSuffix(parts[3], ".yaml"),
			Allowed: parts[2] == "pass",
			Pod:     pod,
		})
	}
	return found, nil
}
