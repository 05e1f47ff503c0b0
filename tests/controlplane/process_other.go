//go:build !linux

package main

import "syscall"

// Only Linux has a parent-death signal. Elsewhere a supervisor that is killed with -9 leaves its children behind.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
