package underlay

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"selvedge.dev/tunnel/internal/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func TestAChangeOfTheMTUIsNoticed(t *testing.T) {
	nstest.Run(t, "ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
	nstest.Run(t, "ip", "addr", "add", "192.0.2.1/24", "dev", "up0")
	nstest.Run(t, "ip", "link", "set", "up1", "up")
	nstest.Run(t, "ip", "link", "set", "up0", "up")
	routes, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer routes.Close()
	peer := netip.MustParseAddr("192.0.2.9")
	to := routes.To(peer, 0)
	if to.Interface != "up0" || to.MTU != 1500 || to.Source == nil || to.Source.String() != "192.0.2.1" {
		t.Errorf("%+v", to)
	}
	if to := routes.To(netip.MustParseAddr("2001:db8::1"), 0); to.Interface != "" || to.MTU != 0 || to.Why == "" {
		t.Errorf("%+v", to)
	}

	ctx, cancel := context.WithCancel(t.Context())
	changes, err := Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []struct {
		mtu     int
		command []string
	}{
		{1400, []string{"ip", "link", "set", "up0", "mtu", "1400"}},
		{1280, []string{"ip", "route", "add", "192.0.2.9/32", "dev", "up0", "mtu", "1280"}},
		{1400, []string{"ip", "route", "del", "192.0.2.9/32", "dev", "up0"}},
	} {
		nstest.Run(t, change.command...)
		deadline := time.After(5 * time.Second)
		for to := routes.To(peer, 0); to.MTU != change.mtu; to = routes.To(peer, 0) {
			select {
			case <-changes:
			case <-deadline:
				t.Fatalf("after %v: %+v", change.command, to)
			}
		}
	}
	cancel()
	for range changes {
		// Until it is closed.
	}
}
