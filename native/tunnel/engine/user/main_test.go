package user_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"selvedge.dev/tunnel/internal/lab"
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

func ping(h *lab.Host, args ...string) (string, error) {
	return h.Exec(append([]string{"ping", "-n", "-c", "2", "-i", "0.05", "-W", "2"}, args...)...)
}

func TestTwoHostsReachEachOther(t *testing.T) {
	l := newLab(t, 2)
	shop := &lab.Network{Name: "shop", Number: 1, MTU: 1370, Members: l.Hosts}
	if err := shop.MakeTAPs(); err != nil {
		t.Fatal(err)
	}
	if err := l.Apply(shop); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{shop.IPv4(l.Hosts[1]), shop.IPv6(l.Hosts[1])} {
		out, err := ping(l.Hosts[0], address)
		if err != nil {
			t.Error(err)
		}
		if !strings.Contains(out, " 0% packet loss") {
			t.Error(out)
		}
	}
}
