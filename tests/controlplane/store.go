package main

// What can happen to the storage of a cluster: it is copied, a copy is put back, it is full, and there is room again.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

const (
	storeWithin = time.Minute
	data        = "etcd"
	copied      = "etcd.copy"
)

// carryOut does what a line on standard input asks for. It has been done when this returns.
func (p *plane) carryOut(ctx context.Context, order string) error {
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	switch order {
	case "copy":
		return p.copyStore(ctx)
	case "restore":
		return p.restoreStore(ctx)
	case "free":
		return p.freeStore(ctx)
	}
	return errors.New("there is no such order: copy, restore and free are")
}

// copyStore takes a copy while etcd is down, for no longer than that takes.
func (p *plane) copyStore(ctx context.Context) error {
	err := p.restart("etcd", func() error {
		if err := os.RemoveAll(p.path(copied)); err != nil {
			return err
		}
		return os.CopyFS(p.path(copied), os.DirFS(p.path(data)))
	})
	if err != nil {
		return err
	}
	return p.ready(ctx)
}

// restoreStore puts the copy back as it is: revisions go back with it, which is what somebody gets who does not bump them. The components
// of the control plane start anew, as everybody is told to do; whoever watches is told nothing.
func (p *plane) restoreStore(ctx context.Context) error {
	// Whoever writes on through the API server would write into what is thrown away.
	err := p.restart(apiServer, func() error {
		return p.restart("etcd", func() error {
			if err := os.RemoveAll(p.path(data)); err != nil {
				return err
			}
			return os.CopyFS(p.path(data), os.DirFS(p.path(copied)))
		})
	})
	if err != nil {
		return err
	}
	if err := p.restart("kube-controller-manager", func() error { return nil }); err != nil {
		return err
	}
	return p.ready(ctx)
}

// freeStore lets go of what was deleted, and has etcd take writes again, as an administrator does after an alarm of its quota.
func (p *plane) freeStore(ctx context.Context) error {
	var status struct {
		Header struct {
			Revision string `json:"revision"`
			Member   string `json:"member_id"`
		} `json:"header"`
	}
	if err := p.tell(ctx, "maintenance/status", map[string]any{}, &status); err != nil {
		return err
	}
	for _, step := range []struct {
		path string
		body map[string]any
	}{
		{"kv/compaction", map[string]any{"revision": status.Header.Revision, "physical": true}},
		{"maintenance/defragment", map[string]any{}},
		{"maintenance/alarm", map[string]any{"action": "DEACTIVATE", "alarm": "NOSPACE", "memberID": status.Header.Member}},
	} {
		if err := p.tell(ctx, step.path, step.body, nil); err != nil {
			return err
		}
	}
	return nil
}

// tell asks etcd by the JSON that it also speaks.
func (p *plane) tell(ctx context.Context, path string, body, into any) error {
	content, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return p.ask(ctx, http.MethodPost, p.etcd+"/v3/"+path, bytes.NewReader(content), into)
}

func (p *plane) ready(ctx context.Context) error {
	for {
		last := p.get(ctx, p.server+"/readyz", nil)
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the API server is not ready (last answer: %w)", last)
		case <-time.After(poll):
		}
	}
}
