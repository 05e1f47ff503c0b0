// Command controlplane runs a real Kubernetes control plane for tests and the demo: etcd, kube-apiserver and
// kube-controller-manager on free loopback ports, with everything they write in one temporary directory. With an address, the API
// server is there at port 443, and asks webhooks where their Services' EndpointSlices say; or, with nodes, where their kube-proxy leads.
//
// It must never outlive its user or leave anything behind: it stops and removes all of it when its standard input closes
// (so a crashed or killed test process is enough), on SIGINT and SIGTERM, and when a component dies. It must never be used
// for anything but tests: whoever can read its directory is administrator of its cluster.
//
//	controlplane [run] --bin DIR   one line of JSON on standard output once the control plane is ready; SIGUSR1 restarts the API server
//	controlplane user --dir DIR --name USER --group GROUP…   a kubeconfig with a client certificate for that user
//	controlplane guard -- COMMAND…   runs a command that dies when standard input closes
//	controlplane ports COUNT   free loopback ports, one a line
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	// The kernel's parent-death signal follows the thread that started a child, not the process: this one must stay.
	runtime.LockOSThread()

	command, arguments := "run", os.Args[1:]
	if len(arguments) > 0 && !strings.HasPrefix(arguments[0], "-") {
		command, arguments = arguments[0], arguments[1:]
	}
	var err error
	switch command {
	case "run":
		err = run(arguments)
	case "user":
		err = user(arguments)
	case "guard":
		err = guard(arguments)
	case "ports":
		err = ports(arguments)
	default:
		err = fmt.Errorf("unknown command %q: use run, user, guard or ports", command)
	}
	var exit exitCode
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.As(err, &exit):
		os.Exit(int(exit))
	default:
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		os.Exit(1)
	}
}

// ready is the one line on standard output.
type ready struct {
	Kubeconfig    string            `json:"kubeconfig"`
	Server        string            `json:"server"`
	CACertificate string            `json:"caCertificate"`
	CAKey         string            `json:"caKey"`
	Directory     string            `json:"directory"`
	PID           int               `json:"pid"`
	Versions      map[string]string `json:"versions"`
	ReadyMillis   int64             `json:"readyMillis"`
}

func run(arguments []string) error {
	flags := flag.NewFlagSet("controlplane run", flag.ContinueOnError)
	bin := flags.String("bin", "", "directory of etcd, kube-apiserver and kube-controller-manager (required)")
	base := flags.String("tmp", os.TempDir(), "where the temporary directory is made")
	within := flags.Duration("within", 2*time.Minute, "how long the control plane may take to become ready")
	perController := flags.Bool("use-service-account-credentials", true,
		"give each built-in controller its own service account; false makes all of them system:kube-controller-manager")
	admission := flags.String("admission-control-config-file", "",
		"AdmissionConfiguration of the API server: which client certificate it shows to webhooks")
	address := flags.String("address", "", "where the API server listens for pods: for a network namespace of the test's own")
	nodes := flags.Bool("nodes", false, "real nodes join at the address: their pods get addresses, kube-proxy leads to Services, and kubelets are asked")
	quota := flags.Int64("etcd-quota", 0, "bytes that etcd may hold until it takes no more (0: its own default)")
	detached := flags.Bool("detached", false, "do not stop when standard input closes, only on SIGINT and SIGTERM")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *bin == "" || flags.NArg() > 0 || *nodes && *address == "" {
		return errors.New("usage: controlplane run --bin DIR [--address ADDRESS [--nodes]] (see --help); tests/controlplane/build.sh builds the binaries")
	}
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	restarts := make(chan os.Signal, 1)
	signal.Notify(restarts, syscall.SIGUSR1)
	orders := make(chan string)
	if !*detached {
		go func() {
			lines := bufio.NewScanner(os.Stdin)
			for lines.Scan() {
				select {
				case orders <- lines.Text():
				case <-ctx.Done():
				}
			}
			stop()
		}()
	}

	start := time.Now()
	// Components run in the temporary directory: a relative path would be looked for there.
	binaries, err := filepath.Abs(*bin)
	if err != nil {
		return err
	}
	if *admission != "" {
		if *admission, err = filepath.Abs(*admission); err != nil {
			return err
		}
	}
	sweep(*base)
	directory, err := newDirectory(*base)
	if err != nil {
		return err
	}
	plane := &plane{
		bin: binaries, directory: directory, address: *address, nodes: *nodes, perController: *perController, admission: *admission,
		quota: *quota,
	}
	defer plane.remove()

	starting, cancel := context.WithTimeout(ctx, *within)
	defer cancel()
	if err := plane.start(starting); err != nil {
		if ctx.Err() != nil {
			return errors.New("told to stop before the control plane was ready")
		}
		return err
	}
	versions, err := plane.versions(starting)
	if err != nil {
		return err
	}
	line, err := json.Marshal(ready{
		Kubeconfig:    plane.path(adminKubeconfig),
		Server:        plane.server,
		CACertificate: plane.path(caCertificate),
		CAKey:         plane.path(caKey),
		Directory:     directory.path,
		PID:           os.Getpid(),
		Versions:      versions,
		ReadyMillis:   time.Since(start).Milliseconds(),
	})
	if err != nil {
		return err
	}
	progress("ready after %.1f s at %s", time.Since(start).Seconds(), plane.server)
	fmt.Println(string(line))

	for {
		select {
		case <-ctx.Done():
			return nil
		case <-restarts:
			if err := plane.restartAPIServer(); err != nil {
				return err
			}
		case order := <-orders:
			if err := plane.carryOut(ctx, order); err != nil {
				return fmt.Errorf("%s: %w", order, err)
			}
			fmt.Println("done: " + order)
		case dead := <-plane.exited:
			return fmt.Errorf("%s ended by itself (%v)\n%s", dead.name, dead.err, dead.tail())
		}
	}
}

func user(arguments []string) error {
	flags := flag.NewFlagSet("controlplane user", flag.ContinueOnError)
	directory := flags.String("dir", "", "directory of a running control plane (required)")
	name := flags.String("name", "", "user name: the certificate's CN (required)")
	var groups []string
	flags.Func("group", "group of the user: an O of the certificate; may be given again", func(group string) error {
		groups = append(groups, group)
		return nil
	})
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *directory == "" || *name == "" || flags.NArg() > 0 {
		return errors.New("usage: controlplane user --dir DIR --name USER [--group GROUP]…")
	}
	kubeconfig, err := userKubeconfig(*directory, *name, groups)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(kubeconfig)
	return err
}

func ports(arguments []string) error {
	if len(arguments) != 1 {
		return errors.New("usage: controlplane ports COUNT")
	}
	count, err := strconv.Atoi(arguments[0])
	if err != nil || count < 1 || count > 16 {
		return fmt.Errorf("%q is not a number from 1 to 16", arguments[0])
	}
	free, err := freePorts(count)
	for _, port := range free {
		fmt.Println(port)
	}
	return err
}

func progress(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "controlplane: "+format+"\n", arguments...)
}
