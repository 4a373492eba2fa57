// Command selvedge-tunnel makes and carries the app networks of one host: the only part of Selvedge that needs CAP_NET_ADMIN. A daemon
// tells it over a Unix socket what should be; it goes on without one, and keeps no file.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"selvedge.dev/tunnel/control"
	"selvedge.dev/tunnel/host"
	"selvedge.dev/tunnel/state"
)

// version is that of package.json.
const version = "0.1.0"

const (
	defaultSocket = "/run/selvedge/tunnel.sock"
	defaultCarry  = "/run/selvedge/carry.sock"
)

const usage = `selvedge-tunnel carries the app networks of one host: bridges, TAPs, WireGuard and VXLAN.

Usage:
  selvedge-tunnel run [--socket PATH] [--carry PATH]   serve until told to end; devices stay when it ends
  selvedge-tunnel status [--socket PATH] [--json]      what a running tunnel has
  selvedge-tunnel version

Options:
  --socket PATH   control socket, default ` + defaultSocket + `
  --carry PATH    socket for packets without a direct path, default ` + defaultCarry + `
  --json          the answers of the tunnel as they are

run needs CAP_NET_ADMIN, CAP_SYS_ADMIN to attach namespaces, and /dev/net/tun unless the kernel has WireGuard.
It uses half of the processors, at least one; GOMAXPROCS in its environment says otherwise.
It ends at SIGTERM and SIGINT. Capture inner frames with tcpdump on a network's TAP or bridge.
`

// Exit codes: 1 for what failed, 2 for how it was called.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	os.Exit(command(os.Args[1:], os.Stdout, os.Stderr))
}

func command(arguments []string, out, problems io.Writer) int {
	name := "--help"
	if len(arguments) > 0 {
		name, arguments = arguments[0], arguments[1:]
	}
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	socket := flags.String("socket", defaultSocket, "")
	var err error
	switch name {
	case "run":
		carry := flags.String("carry", defaultCarry, "")
		if err = parse(flags, arguments); err == nil {
			err = run(*socket, *carry)
		}
	case "status":
		json := flags.Bool("json", false, "")
		if err = parse(flags, arguments); err == nil {
			err = status(out, *socket, *json)
		}
	case "version", "--version", "-version":
		_, _ = fmt.Fprintln(out, "selvedge-tunnel", version)
	case "help", "--help", "-help", "-h":
		_, _ = fmt.Fprint(out, usage)
	default:
		err = state.Failedf(state.CodeArgumentInvalid, name, "there is no such command")
	}
	if errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprint(out, usage)
		return 0
	}
	if err == nil {
		return 0
	}
	var failure state.Failure
	if !errors.As(err, &failure) {
		failure = state.Failed(state.CodeInternalError, "selvedge-tunnel", err)
	}
	_, _ = fmt.Fprintln(problems, "selvedge-tunnel:", failure.Log())
	if failure.Code == state.CodeArgumentInvalid {
		return exitUsage
	}
	return exitFailed
}

func parse(flags *flag.FlagSet, arguments []string) error {
	if err := flags.Parse(arguments); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return state.Failed(state.CodeArgumentInvalid, flags.Name(), err)
	}
	if flags.NArg() > 0 {
		return state.Failedf(state.CodeArgumentInvalid, flags.Name(), "%q is one argument too many", flags.Arg(0))
	}
	return nil
}

// run serves until a signal or a daemon's `close`.
func run(socket, carry string) error {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	if err := keepSecrets(); err != nil {
		return err
	}
	if err := host.Capable(); err != nil {
		return err
	}
	processors := shareProcessors()
	var server atomic.Pointer[control.Server]
	tell := func(event state.Event) {
		if s := server.Load(); s != nil {
			s.Tell(event)
		}
	}
	h, err := host.New(options(tell))
	if err != nil {
		return err
	}
	opened, err := control.Open(socket, carry, h)
	if err != nil {
		return errors.Join(err, h.Close())
	}
	server.Store(opened)
	signals, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	// A terminal that closes is no reason to take networks down.
	signal.Ignore(syscall.SIGHUP)
	opened.Serve()
	slog.Info("tunnel serves", "version", version, "pid", os.Getpid(), "socket", socket, "carry", carry, "processors", processors)
	select {
	case <-signals.Done():
	case <-h.Closing():
	}
	// Engine and carried streams end with the host; the server waits for answers that are on their way.
	err = errors.Join(opened.Close(), h.Close())
	slog.Info("tunnel ended", "removed", closed(h.Closing()))
	return err
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// keepSecrets keeps WireGuard's private keys out of core dumps, and out of other processes of the same user.
func keepSecrets() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("core dumps cannot be turned off: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("core dumps cannot be turned off: %w", err)
	}
	// A panic tells where, not what was in memory.
	debug.SetTraceback("single")
	return nil
}
