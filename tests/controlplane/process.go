package main

// Child processes and the temporary directory: both must be gone when this process is, however it ends.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	prefix   = "ringfence-controlplane-"
	lockFile = "lock"
	tailSize = 4 << 10
)

type process struct {
	name    string
	logFile string
	command *exec.Cmd
	done    chan struct{}
	err     error
	// Its end is no accident.
	replaced atomic.Bool
}

func (p *plane) spawn(name string, arguments ...string) (*process, error) {
	binary := filepath.Join(p.bin, name)
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("%w: build it with tests/controlplane/build.sh", err)
	}
	logFile := p.path(name + ".log")
	log, err := os.Create(logFile)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	command := exec.Command(binary, arguments...)
	command.Stdout, command.Stderr = log, log
	command.Dir = p.directory.path
	command.SysProcAttr = childAttributes()
	progress("starting %s", name)
	if err := command.Start(); err != nil {
		return nil, err
	}
	child := &process{name: name, logFile: logFile, command: command, done: make(chan struct{})}
	p.children = append(p.children, child)
	go func() {
		child.err = command.Wait()
		close(child.done)
	}()
	return child, nil
}

// Killed, not asked: the data is thrown away, and a graceful end of the API server takes seconds.
func (p *plane) remove() {
	for _, child := range p.children {
		_ = child.command.Process.Kill()
	}
	for _, child := range p.children {
		select {
		case <-child.done:
		case <-time.After(5 * time.Second):
			progress("%s does not end: kill process %d by hand", child.name, child.command.Process.Pid)
		}
	}
	if err := os.RemoveAll(p.directory.path); err != nil {
		progress("cannot remove %s: %v", p.directory.path, err)
	}
	_ = p.directory.lock.Close()
}

func (c *process) tail() string {
	return fmt.Sprintf("--- end of %s ---\n%s", c.logFile, readTail(c.logFile))
}

func (c *process) portTaken() bool {
	return strings.Contains(readTail(c.logFile), "address already in use")
}

func readTail(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > tailSize {
		if _, err := file.Seek(-tailSize, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	text, err := io.ReadAll(io.LimitReader(file, tailSize))
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(text))
}

// directory is locked for as long as this process lives, so that the next one can tell a leftover from a neighbour.
type directory struct {
	path string
	lock *os.File
}

// newDirectory takes the name that sweep looks for only once it is locked: a neighbour must not sweep it in between.
func newDirectory(base string) (directory, error) {
	base, err := filepath.Abs(base)
	if err != nil {
		return directory{}, err
	}
	unlocked, err := os.MkdirTemp(base, "new-"+prefix)
	if err != nil {
		return directory{}, err
	}
	lock, err := lockDirectory(unlocked)
	if err != nil {
		return directory{}, err
	}
	path := filepath.Join(base, strings.TrimPrefix(filepath.Base(unlocked), "new-"))
	return directory{path: path, lock: lock}, os.Rename(unlocked, path)
}

func lockDirectory(path string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return lock, nil
}

// sweep removes what a supervisor left that was itself killed with -9: nobody could clean up after it at the time.
func sweep(base string) {
	leftovers, err := filepath.Glob(filepath.Join(base, prefix+"*"))
	if err != nil {
		return
	}
	for _, path := range leftovers {
		lock, err := lockDirectory(path)
		if err != nil {
			continue
		}
		progress("removing %s, left by a run that was killed", path)
		_ = os.RemoveAll(path)
		_ = lock.Close()
	}
}

type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// guard runs a command that cannot outlive whoever holds our standard input. SIGTERM and SIGINT are passed on.
func guard(arguments []string) error {
	if len(arguments) > 0 && arguments[0] == "--" {
		arguments = arguments[1:]
	}
	if len(arguments) == 0 {
		return errors.New("usage: controlplane guard -- COMMAND…")
	}
	command := exec.Command(arguments[0], arguments[1:]...)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	command.SysProcAttr = childAttributes()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if err := command.Start(); err != nil {
		return err
	}
	closed, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(closed)
	}()
	go func() { ended <- command.Wait() }()
	for {
		select {
		case passed := <-signals:
			_ = command.Process.Signal(passed)
		case <-closed:
			_ = command.Process.Kill()
			closed = nil
		case err := <-ended:
			var failed *exec.ExitError
			if errors.As(err, &failed) {
				return exitCode(max(failed.ExitCode(), 1))
			}
			return err
		}
	}
}
