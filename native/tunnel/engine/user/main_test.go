package user_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"selvedge.dev/tunnel/internal/lab"
	"selvedge.dev/tunnel/state"
)

func TestMain(m *testing.M) {
	if os.Getenv(lab.Environment) != "" {
		lab.RunHost()
		return
	}
	os.Exit(m.Run())
}

// newLab makes hosts in namespaces, or skips the test where that is not possible.
func newLab(t *testing.T, hosts int) *lab.Lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: network namespaces and TAPs")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs iproute2")
	}
	l, err := lab.New(fmt.Sprintf("svt%d", os.Getpid()), hosts, 1500)
	if l != nil {
		t.Cleanup(l.Close)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// up makes the TAPs of networks and gives each host its state.
func up(t *testing.T, l *lab.Lab, networks ...*lab.Network) {
	t.Helper()
	for _, n := range networks {
		if err := n.MakeTAPs(); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Apply(networks...); err != nil {
		t.Fatal(err)
	}
}

// ping sends a few echo requests and wants all of them answered.
func ping(t *testing.T, h *lab.Host, args ...string) {
	t.Helper()
	out, err := h.Exec(append([]string{"ping", "-n", "-c", "3", "-i", "0.05", "-W", "2"}, args...)...)
	if err != nil || !strings.Contains(out, " 0% packet loss") {
		t.Errorf("%v: %v: %s", args, err, out)
	}
}

// noPing wants none answered.
func noPing(t *testing.T, h *lab.Host, args ...string) {
	t.Helper()
	if out, err := h.Exec(append([]string{"ping", "-n", "-c", "1", "-W", "1"}, args...)...); err == nil {
		t.Errorf("%v: %s", args, out)
	}
}

func stats(t *testing.T, h *lab.Host) state.Stats {
	t.Helper()
	s, err := h.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// refused are the refusals of one network on a host.
func refused(t *testing.T, h *lab.Host, network string) state.Refused {
	t.Helper()
	for _, n := range stats(t, h).Networks {
		if n.Name == network {
			return n.Refused
		}
	}
	t.Fatalf("%s has no network %s", h.Node, network)
	return state.Refused{}
}

// passedTo is how many frames a host's network has let in.
func passedTo(t *testing.T, h *lab.Host, network string) uint64 {
	t.Helper()
	for _, n := range stats(t, h).Networks {
		if n.Name == network {
			return n.RxPackets
		}
	}
	t.Fatalf("%s has no network %s", h.Node, network)
	return 0
}

// received waits until a host's network has let in so many frames.
func received(t *testing.T, h *lab.Host, network string, frames uint64) {
	t.Helper()
	eventually(t, func() bool { return passedTo(t, h, network) >= frames })
}

// eventually waits for what other processes do; nothing tells of it, so it looks again and again.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if holds() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("not within 10 s")
		}
	}
}
