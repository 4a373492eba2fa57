// Package nstest runs a package's tests in a network and mount namespace of their own, so that they can make devices, namespaces and
// sockets under fixed names, and nothing of it outlives them however they end. For tests only.
package nstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const inside = "SELVEDGE_NSTEST"

// Inside tells whether this process is the one in the namespace: nothing but the machine itself is reached from there.
func Inside() bool { return os.Getenv(inside) != "" }

// Main is what a TestMain calls: `nstest.Main(m)`.
func Main(m *testing.M) {
	if Inside() {
		if err := enter(); err != nil {
			fmt.Fprintln(os.Stderr, "the test's namespace:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests make network namespaces, which takes root")
		os.Exit(1)
	}
	command := exec.Command("/proc/self/exe", os.Args[1:]...)
	command.Args[0] = os.Args[0]
	command.Env = append(os.Environ(), inside+"=1")
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	// The child must die with this thread's process, not with this thread.
	runtime.LockOSThread()
	signal.Ignore(os.Interrupt)
	err := command.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(max(exit.ExitCode(), 1))
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func enter() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	// A /run of its own: names of namespaces and WireGuard's sockets live there.
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// Namespace makes a named network namespace with its loopback up, and returns its path.
func Namespace(t testing.TB, name string) string {
	t.Helper()
	Run(t, "ip", "netns", "add", name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	Run(t, "ip", "-n", name, "link", "set", "lo", "up")
	return "/run/netns/" + name
}

// Run runs a command that must succeed, and returns what it wrote.
func Run(t testing.TB, command ...string) string {
	t.Helper()
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return string(out)
}

// In runs f on a thread that is in the namespace.
func In(t testing.TB, path string, f func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		// Not unlocked: the thread ends with the goroutine, and no other finds itself in the wrong namespace.
		runtime.LockOSThread()
		handle, err := netns.GetFromPath(path)
		if err == nil {
			err = netns.Set(handle)
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
