package main

import "syscall"

// Pdeathsig covers the one end that no handler sees: this process killed with -9. A process group of their own keeps a
// Ctrl-C at the terminal from reaching the children before us.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
