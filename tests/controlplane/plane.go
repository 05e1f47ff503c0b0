package main

// The three components: what they are told, in which order they start, and when they count as ready.

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

const (
	// A documentation address (RFC 5737). The API server publishes no EndpointSlice for a loopback address, and without
	// one there is no "kubernetes" Service as workflows see it.
	advertised = "192.0.2.1"
	attempts   = 4
	apiServer  = "kube-apiserver"
	// Requests have ended by then; watches would keep the API server for a minute.
	componentEnds = 10 * time.Second
	// The Service "kubernetes" of the range below.
	serviceAddress = "10.96.0.1"
	// Of the pods of real nodes: a /24 each.
	podAddresses = "10.244.0.0/16"
	poll         = 50 * time.Millisecond
)

type plane struct {
	bin           string
	directory     directory
	address       string
	nodes         bool
	perController bool
	admission     string
	quota         int64

	server   string
	etcd     string
	children []*process
	exited   chan *process
	client   *http.Client
}

// errPortTaken marks a failure that another port cures: between choosing a free port and binding it, anyone may take it.
var errPortTaken = errors.New("address already in use")

func (p *plane) path(name string) string { return filepath.Join(p.directory.path, name) }

func (p *plane) start(ctx context.Context) error {
	// With accounts of their own the controllers get their rights from the API server's own roles. Without, their one user
	// must hold all of these rights, and no built-in role does.
	var controllerManagerGroups []string
	if !p.perController {
		controllerManagerGroups = []string{"system:masters"}
	}
	if err := writePKI(p.directory.path, p.address, controllerManagerGroups); err != nil {
		return fmt.Errorf("writing certificates: %w", err)
	}
	if err := p.connect(); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{p.startEtcd, p.startAPIServer, p.startControllerManager} {
		if err := retryPorts(ctx, step); err != nil {
			return err
		}
	}
	p.exited = make(chan *process, len(p.children))
	for _, child := range p.children {
		go p.watch(child)
	}
	return nil
}

func (p *plane) watch(child *process) {
	<-child.done
	if !child.replaced.Load() {
		p.exited <- child
	}
}

// restartAPIServer ends it in order and starts it again at once, as a kubelet does when its manifest changes. When it is ready, whoever
// asked for this finds out.
func (p *plane) restartAPIServer() error { return p.restart(apiServer, func() error { return nil }) }

// restart ends a component in order, and starts it again as it was. In between nobody else has its files open.
func (p *plane) restart(name string, between func() error) error {
	at := slices.IndexFunc(p.children, func(child *process) bool { return child.name == name })
	old := p.children[at]
	old.replaced.Store(true)
	if err := old.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-old.done:
	case <-time.After(componentEnds):
		_ = old.command.Process.Kill()
		<-old.done
	}
	p.children = slices.Delete(p.children, at, at+1)
	if err := between(); err != nil {
		return err
	}
	child, err := p.spawn(name, old.command.Args[1:]...)
	if err != nil {
		return err
	}
	go p.watch(child)
	return nil
}

func retryPorts(ctx context.Context, step func(context.Context) error) error {
	for attempt := 1; ; attempt++ {
		err := step(ctx)
		if err == nil || attempt == attempts || !errors.Is(err, errPortTaken) {
			return err
		}
		progress("a port was taken in the meantime; trying others")
	}
}

func (p *plane) connect() error {
	pool, certificate, err := adminTLS(p.directory.path)
	if err != nil {
		return err
	}
	p.client = &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{
			RootCAs: pool, Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12,
		}},
	}
	return nil
}

// etcd speaks TLS only, with this run's own CA: a control plane can neither reach nor mistake the etcd of another one.
func (p *plane) startEtcd(ctx context.Context) error {
	ports, err := freePorts(2)
	if err != nil {
		return err
	}
	p.etcd = "https://127.0.0.1:" + ports[0]
	peer := "http://127.0.0.1:" + ports[1]
	child, err := p.spawn("etcd",
		"--name=ringfence",
		"--data-dir="+p.path("etcd"),
		"--listen-client-urls="+p.etcd,
		"--advertise-client-urls="+p.etcd,
		"--listen-peer-urls="+peer,
		"--initial-advertise-peer-urls="+peer,
		"--initial-cluster=ringfence="+peer,
		"--cert-file="+p.path("server.crt"),
		"--key-file="+p.path("server.key"),
		"--trusted-ca-file="+p.path(caCertificate),
		"--client-cert-auth",
		// The data is thrown away: waiting for the disk would only slow every test down.
		"--unsafe-no-fsync",
		"--log-level=warn",
		"--quota-backend-bytes="+strconv.FormatInt(p.quota, 10),
	)
	if err != nil {
		return err
	}
	return p.await(ctx, child, "its /health", func() error { return p.get(ctx, p.etcd+"/health", nil) })
}

func (p *plane) startAPIServer(ctx context.Context) error {
	arguments, err := p.listens()
	if err != nil {
		return err
	}
	if p.admission != "" {
		arguments = append(arguments, "--admission-control-config-file="+p.admission)
	}
	child, err := p.spawn(apiServer, append(arguments,
		"--etcd-servers="+p.etcd,
		"--etcd-cafile="+p.path(caCertificate),
		"--etcd-certfile="+p.path("etcd-client.crt"),
		"--etcd-keyfile="+p.path("etcd-client.key"),
		"--tls-cert-file="+p.path("server.crt"),
		"--tls-private-key-file="+p.path("server.key"),
		"--client-ca-file="+p.path(caCertificate),
		"--authorization-mode=Node,RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+p.path("service-accounts.pub"),
		"--service-account-signing-key-file="+p.path("service-accounts.key"),
		"--service-cluster-ip-range=10.96.0.0/16",
		// A privileged pod must be refused by Ringfence, not by a default of this server.
		"--allow-privileged=true",
		"--profiling=false",
	)...)
	if err != nil {
		return err
	}
	for _, want := range []struct{ what, path string }{
		{"its /readyz", "/readyz"},
		{"the namespace default", "/api/v1/namespaces/default"},
		{"the EndpointSlice kubernetes", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"},
	} {
		if err := p.await(ctx, child, want.what, func() error { return p.get(ctx, p.server+want.path, nil) }); err != nil {
			return err
		}
	}
	for file, user := range map[string]string{adminKubeconfig: "admin", "kube-controller-manager.kubeconfig": "kube-controller-manager"} {
		if err := writeKubeconfig(p.directory.path, file, p.server, user); err != nil {
			return err
		}
	}
	return nil
}

// listens also says where the API server is. With an address of its own it is where the Service "kubernetes" says, so that pods need no
// proxy, and it looks up where the pods of a webhook's Service are, because there is no proxy for it either. Beside real nodes there is.
func (p *plane) listens() ([]string, error) {
	if p.address != "" {
		p.server = "https://" + p.address + ":443"
		arguments := []string{"--bind-address=0.0.0.0", "--secure-port=443", "--advertise-address=" + p.address}
		if !p.nodes {
			return append(arguments, "--enable-aggregator-routing=true"), nil
		}
		// Without these nobody reads a pod's log.
		return append(arguments, "--kubelet-preferred-address-types=InternalIP",
			"--kubelet-client-certificate="+p.path("admin.crt"), "--kubelet-client-key="+p.path("admin.key")), nil
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	p.server = "https://127.0.0.1:" + ports[0]
	return []string{"--bind-address=127.0.0.1", "--secure-port=" + ports[0], "--advertise-address=" + advertised}, nil
}

func (p *plane) startControllerManager(ctx context.Context) error {
	var ranges []string
	if p.nodes {
		ranges = []string{"--allocate-node-cidrs=true", "--cluster-cidr=" + podAddresses}
	}
	child, err := p.spawn("kube-controller-manager", append(ranges,
		"--kubeconfig="+p.path("kube-controller-manager.kubeconfig"),
		"--use-service-account-credentials="+strconv.FormatBool(p.perController),
		"--service-account-private-key-file="+p.path("service-accounts.key"),
		"--root-ca-file="+p.path(caCertificate),
		"--cluster-signing-cert-file="+p.path(caCertificate),
		"--cluster-signing-key-file="+p.path(caKey),
		"--leader-elect=false",
		// Nobody asks it anything, and a port less is a race less.
		"--secure-port=0",
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
		"--profiling=false",
	)...)
	if err != nil {
		return err
	}
	// What the controllers make is the proof that they work: without its own port there is no health to ask for.
	for _, want := range []struct{ what, path string }{
		{"the service account default", "/api/v1/namespaces/default/serviceaccounts/default"},
		{"the root CA's ConfigMap", "/api/v1/namespaces/default/configmaps/kube-root-ca.crt"},
	} {
		if err := p.await(ctx, child, want.what, func() error { return p.get(ctx, p.server+want.path, nil) }); err != nil {
			return err
		}
	}
	return nil
}

func (p *plane) versions(ctx context.Context) (map[string]string, error) {
	var kubernetes struct {
		GitVersion string `json:"gitVersion"`
	}
	var etcd struct {
		Server string `json:"etcdserver"`
	}
	if err := p.get(ctx, p.server+"/version", &kubernetes); err != nil {
		return nil, err
	}
	if err := p.get(ctx, p.etcd+"/version", &etcd); err != nil {
		return nil, err
	}
	return map[string]string{"kubernetes": kubernetes.GitVersion, "etcd": etcd.Server}, nil
}

func (p *plane) await(ctx context.Context, child *process, what string, check func() error) error {
	for {
		last := check()
		if last == nil {
			return nil
		}
		select {
		case <-child.done:
			if child.portTaken() {
				p.children = slices.DeleteFunc(p.children, func(other *process) bool { return other == child })
				return fmt.Errorf("%s: %w", child.name, errPortTaken)
			}
			return fmt.Errorf("%s ended (%v) before %s was there\n%s", child.name, child.err, what, child.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s: %s is not there (last answer: %v)\n%s", child.name, what, last, child.tail())
		case <-time.After(poll):
		}
	}
}

func (p *plane) get(ctx context.Context, url string, into any) error {
	return p.ask(ctx, http.MethodGet, url, nil, into)
}

func (p *plane) ask(ctx context.Context, method, url string, content io.Reader, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, url, content)
	if err != nil {
		return err
	}
	response, err := p.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s %s", method, request.URL.Path, response.Status, bytes.TrimSpace(body))
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(body, into)
}

// freePorts holds all of them open until the last is known, or the kernel might give the same one twice.
func freePorts(count int) ([]string, error) {
	ports := make([]string, 0, count)
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("no free loopback port: %w", err)
		}
		defer listener.Close()
		_, port, err := net.SplitHostPort(listener.Addr().String())
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}

func adminTLS(directory string) (*x509.CertPool, tls.Certificate, error) {
	authority, err := readAuthority(directory)
	if err != nil {
		return nil, tls.Certificate{}, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(authority.certificate)
	certificate, err := tls.LoadX509KeyPair(filepath.Join(directory, "admin.crt"), filepath.Join(directory, "admin.key"))
	return pool, certificate, err
}
