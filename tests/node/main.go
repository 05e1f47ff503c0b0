// Command guest is what runs in the test images of tests/e2e: one static binary in an empty image.
//
// It must never do what an image of a real cluster would not: it is judged, fenced and run like any other.
//
//	guest pause    what a pod's sandbox runs: nothing, until it is told to end
//	guest triage   what a workflow's pod runs: ends with 0 where it is who and what its workflow declares, and holds no more rights
//	guest score    what a Job of a pipeline runs: ends with 0 where it holds the declared key, and talks to nobody
//	guest user     what somebody runs who enters a pod: says as which user
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const (
	account = "/var/run/secrets/kubernetes.io/serviceaccount/"
	within  = 30 * time.Second
)

func main() {
	command := ""
	if len(os.Args) == 2 {
		command = os.Args[1]
	}
	var err error
	switch command {
	case "pause":
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, os.Interrupt, syscall.SIGTERM)
		<-ended
	case "triage":
		err = triage()
	case "score":
		err = score()
	case "user":
		fmt.Println(os.Getuid())
	default:
		err = errors.New("usage: guest pause | triage | score | user")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

func triage() error {
	if os.Getuid() == 0 {
		return errors.New("it runs as root")
	}
	// Its value is a secret, here as anywhere.
	if os.Getenv("OPENAI_API_KEY") == "" {
		return errors.New("the declared key is not in OPENAI_API_KEY")
	}
	namespace, err := os.ReadFile(account + "namespace")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for _, want := range []struct {
		path string
		code int
	}{
		{"configmaps/triage-config", http.StatusOK},
		{"configmaps", http.StatusForbidden},
		{"secrets/openai", http.StatusForbidden},
		{"pods", http.StatusForbidden},
	} {
		code, err := ask(ctx, "/api/v1/namespaces/"+string(namespace)+"/"+want.path)
		if err != nil {
			return err
		}
		if code != want.code {
			return fmt.Errorf("%s: the API server answered %d, and should have answered %d", want.path, code, want.code)
		}
	}
	fmt.Println("triaged: the declared key, the declared rights, and no more")
	return nil
}

func score() error {
	if os.Getuid() == 0 {
		return errors.New("it runs as root")
	}
	// Its value is a secret, here as anywhere.
	if os.Getenv("MODEL_API_KEY") == "" {
		return errors.New("the declared key is not in MODEL_API_KEY")
	}
	fmt.Println("scored: with the declared key")
	return nil
}

// ask goes the way that every client in a cluster goes: to the Service "kubernetes", with the pod's own token.
func ask(ctx context.Context, path string) (int, error) {
	authority, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return 0, err
	}
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return 0, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return 0, errors.New("ca.crt holds no certificate")
	}
	server := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+server+path, nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<20))
	return response.StatusCode, err
}
