package user_test

import (
	"testing"

	"selvedge.dev/tunnel/internal/lab"
)

// A member says itself where its WireGuard is heard, and may be heard from anywhere. With an address inside of a network this host would seal
// what it has sealed already, again and again.
func TestAPeerWhoseAddressIsInsideANetworkCostsNothing(t *testing.T) {
	l := newLab(t, 2)
	a, b := l.Hosts[0], l.Hosts[1]
	shop := &lab.Network{Name: "shop", Number: 1, MTU: 1370, Members: l.Hosts}
	up(t, l, shop)
	ping(t, a, shop.IPv4(b))
	for _, address := range []string{shop.IPv4(b), shop.IPv6(b)} {
		isCounted := false
		// Whatever b says by itself between the change and the first ping moves it to where it was heard: then the question is asked again.
		for attempt := 0; attempt < 5 && !isCounted; attempt++ {
			apply(t, a, l.Desired(a, shop))
			desired := l.Desired(a, shop)
			desired["peers"].([]any)[0].(map[string]any)["endpoint"] = map[string]any{"host": address, "port": b.Port}
			apply(t, a, desired)
			before, refusedBefore := stats(t, a).Networks[0].TxPackets, refused(t, a, "shop").ForgedSource
			// The first is larger than the network's MTU once it is sealed. Whether the second is answered depends on whether b was heard meanwhile.
			for _, size := range []string{"1300", "56"} {
				_, _ = a.Exec("ping", "-n", "-c", "1", "-W", "1", "-s", size, shop.IPv4(b))
			}
			// Each ping is a frame, and the later part of the sealed one that was cut in two; a question for a neighbor may come with it.
			if sent := stats(t, a).Networks[0].TxPackets - before; sent > 10 {
				t.Errorf("%s: %d frames left after two pings", address, sent)
			}
			isCounted = refused(t, a, "shop").ForgedSource > refusedBefore
		}
		if !isCounted {
			t.Errorf("%s: not counted", address)
		}
	}
}

func apply(t *testing.T, host *lab.Host, desired map[string]any) {
	t.Helper()
	if err := host.Ask(map[string]any{"op": "apply", "desired": desired}, nil); err != nil {
		t.Fatal(err)
	}
}
