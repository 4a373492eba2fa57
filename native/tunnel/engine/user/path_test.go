package user_test

import (
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"selvedge.dev/tunnel/internal/lab"
	"selvedge.dev/tunnel/state"
)

// carry joins two hosts by a stream, as the daemon would.
func carry(t *testing.T, a, b *lab.Host) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "carry")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var ends [2]net.Conn
	for i, h := range []*lab.Host{a, b} {
		other := b
		if h == b {
			other = a
		}
		if err := h.Ask(map[string]any{"op": "carry", "node": other.Node, "path": path}, nil); err != nil {
			t.Fatal(err)
		}
		if ends[i], err = l.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _, _ = ends[0].Close(), ends[1].Close() })
	go func() { _, _ = io.Copy(ends[0], ends[1]) }()
	go func() { _, _ = io.Copy(ends[1], ends[0]) }()
}

func setPath(t *testing.T, path string, a, b *lab.Host) {
	t.Helper()
	for _, pair := range [][2]*lab.Host{{a, b}, {b, a}} {
		if err := pair[0].Ask(map[string]any{"op": "path", "node": pair[1].Node, "path": path}, nil); err != nil {
			t.Error(err)
		}
	}
}

// pings runs a quick ping while something happens, and wants no echo lost.
func pings(t *testing.T, from *lab.Host, to string, while func()) {
	t.Helper()
	flow := from.Command("ping", "-n", "-i", "0.005", "-c", "400", "-W", "2", to)
	out, err := flow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := flow.Start(); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 1)
	_, _ = io.ReadFull(out, first)
	while()
	all, _ := io.ReadAll(out)
	if err := flow.Wait(); err != nil || !strings.Contains(string(all), " 0% packet loss") {
		lines := strings.Split(string(all), "\n")
		t.Error(err, strings.Join(lines[max(0, len(lines)-5):], "\n"))
	}
}

func TestAPathChangesWithoutLosingAPacket(t *testing.T) {
	l := newLab(t, 2)
	a, b := l.Hosts[0], l.Hosts[1]
	shop := &lab.Network{Name: "shop", Number: 1, MTU: 1370, Members: l.Hosts}
	up(t, l, shop)
	carry(t, a, b)
	ping(t, a, shop.IPv4(b))
	pings(t, a, shop.IPv4(b), func() {
		for range 5 {
			setPath(t, state.PathCarried, a, b)
			ping(t, b, shop.IPv4(a))
			setPath(t, state.PathDirect, a, b)
			ping(t, b, shop.IPv4(a))
		}
	})
	setPath(t, state.PathCarried, a, b)
	const bytes = 64 << 20
	if err := b.Ask(map[string]any{"op": "serve", "address": ":7001", "bytes": bytes}, nil); err != nil {
		t.Fatal(err)
	}
	var sum string
	if err := a.Ask(map[string]any{"op": "fetch", "address": shop.IPv4(b) + ":7001"}, &sum); err != nil {
		t.Fatal(err)
	}
	s := stats(t, a).Peers[0]
	if sum != lab.Sum(bytes) {
		t.Error(sum)
	}
	if s.Path != state.PathCarried || s.CarriedHeardMS == nil || *s.CarriedHeardMS > 1000 {
		t.Errorf("%+v", s)
	}
}

// drop makes a host's namespace drop WireGuard's UDP, or pass it again.
func drop(t *testing.T, h *lab.Host, on bool) {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft")
	}
	command := "delete table inet blocked"
	if on {
		command = "add table inet blocked; add chain inet blocked in { type filter hook input priority 0; }; add rule inet blocked in iifname u0 meta l4proto udp drop"
	}
	if _, err := h.Exec("nft", command); err != nil {
		t.Fatal(err)
	}
}

func TestACarriedPeerIsTriedDirectlyAndHeard(t *testing.T) {
	l := newLab(t, 2)
	a, b := l.Hosts[0], l.Hosts[1]
	drop(t, b, true)
	shop := &lab.Network{Name: "shop", Number: 1, MTU: 1370, Members: l.Hosts}
	up(t, l, shop)
	carry(t, a, b)
	setPath(t, state.PathCarried, a, b)
	ping(t, a, shop.IPv4(b))
	if s := stats(t, a).Peers[0]; s.DirectHeardMS != nil {
		t.Errorf("%+v", s)
	}
	drop(t, b, false)
	for {
		var event struct {
			Event string
			Data  state.PeerEvent
		}
		if err := b.Ask(map[string]any{"op": "event"}, &event); err != nil {
			t.Fatal(err)
		}
		if event.Data.Heard == state.PathDirect {
			if event.Data.Path != state.PathCarried || event.Data.Node != a.Node {
				t.Errorf("%+v", event)
			}
			break
		}
	}
	if s := stats(t, b).Peers[0]; s.DirectHeardMS == nil {
		t.Errorf("%+v", s)
	}
}

func TestAPeerThatMovesIsFollowed(t *testing.T) {
	l := newLab(t, 2)
	a, b := l.Hosts[0], l.Hosts[1]
	shop := &lab.Network{Name: "shop", Number: 1, MTU: 1370, Members: l.Hosts}
	up(t, l, shop)
	ping(t, a, shop.IPv4(b))
	for _, args := range [][]string{{"addr", "add", "10.77.0.99/24", "dev", "u0"}, {"addr", "del", "10.77.0.2/24", "dev", "u0"}} {
		if err := lab.IP(append([]string{"-n", b.Namespace}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	// The secondary address is gone with the first on some systems.
	_ = lab.IP("-n", b.Namespace, "addr", "add", "10.77.0.99/24", "dev", "u0")
	ping(t, b, shop.IPv4(a))
	ping(t, a, shop.IPv4(b))
	if s := stats(t, a).Peers[0]; s.Endpoint == nil || s.Endpoint.Host.String() != "10.77.0.99" {
		t.Errorf("%+v", s.Endpoint)
	}
	// To IPv6, in the middle of a flow. An answer that was on its way takes a back to where b was heard: then it is told again.
	for attempt := range 5 {
		pings(t, a, shop.IPv4(b), func() {
			apply(t, a, l.Desired(a, shop))
			d := l.Desired(a, shop)
			d["peers"].([]any)[0].(map[string]any)["endpoint"] = map[string]any{"host": "fd77::2", "port": b.Port}
			apply(t, a, d)
		})
		s := stats(t, b).Peers[0]
		if s.Endpoint != nil && s.Endpoint.Host.String() == "fd77::1" {
			break
		}
		if attempt == 4 {
			t.Errorf("%+v", s.Endpoint)
		}
	}
}

func TestKeysRotateWithoutLosingAPacket(t *testing.T) {
	l := newLab(t, 3)
	a, b, c := l.Hosts[0], l.Hosts[1], l.Hosts[2]
	shop := &lab.Network{Name: "shop", Number: 1, MTU: 1370, Members: l.Hosts}
	up(t, l, shop)
	ping(t, a, shop.IPv4(b))
	ping(t, c, shop.IPv4(a))
	private, public, err := lab.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	oldPrivate, oldPublic := a.PrivateKey, a.PublicKey
	key := func(private string, port int) map[string]any {
		return map[string]any{"privateKey": private, "listenPort": port}
	}
	apply := func(h *lab.Host, change func(d map[string]any)) {
		t.Helper()
		d := l.Desired(h, shop)
		change(d)
		if err := h.Ask(map[string]any{"op": "apply", "desired": d}, nil); err != nil {
			t.Error(err)
		}
	}
	own := func(keys ...any) func(d map[string]any) {
		return func(d map[string]any) { d["wireguard"].(map[string]any)["keys"] = keys }
	}
	peer := func(port int, keys ...string) func(d map[string]any) {
		return func(d map[string]any) {
			p := d["peers"].([]any)[0].(map[string]any)
			p["keys"], p["endpoint"] = keys, map[string]any{"host": a.Underlay, "port": port}
		}
	}
	used := func(h *lab.Host) string {
		if s := stats(t, h).Peers[0]; s.PublicKey != nil {
			return s.PublicKey.String()
		}
		return ""
	}
	both := func(while func()) {
		t.Helper()
		pings(t, a, shop.IPv4(b), func() { t.Helper(); pings(t, c, shop.IPv4(a), while) })
	}
	both(func() {
		apply(a, own(key(private, 51821), key(oldPrivate, a.Port)))
		for _, h := range []*lab.Host{b, c} {
			apply(h, peer(51821, public, oldPublic))
			eventually(t, func() bool { return used(h) == public })
		}
	})
	// Whoever ends an old key waits until nobody uses it.
	eventually(t, func() bool {
		for _, k := range stats(t, a).Keys {
			if k.PublicKey.String() == oldPublic {
				return k.LastUsedMS != nil && *k.LastUsedMS > 500
			}
		}
		return false
	})
	both(func() {
		apply(a, own(key(private, 51821)))
		for _, h := range []*lab.Host{b, c} {
			apply(h, peer(51821, public))
		}
	})
	s := stats(t, a)
	if len(s.Keys) != 1 || s.Keys[0].PublicKey.String() != public || s.Keys[0].LastUsedMS == nil {
		t.Errorf("%+v", s.Keys)
	}
}

// The newest key always has the same port: the older one moves away for it. Both hosts do so at once, and both end the old key at once.
func TestBothEndsRotateAtOnceAndThePortStays(t *testing.T) {
	l := newLab(t, 2)
	a, b := l.Hosts[0], l.Hosts[1]
	shop := &lab.Network{Name: "shop", Number: 1, MTU: 1370, Members: l.Hosts}
	up(t, l, shop)
	ping(t, a, shop.IPv4(b))
	type pair struct{ private, public string }
	old, young := map[*lab.Host]pair{}, map[*lab.Host]pair{}
	for _, h := range l.Hosts {
		private, public, err := lab.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		old[h], young[h] = pair{h.PrivateKey, h.PublicKey}, pair{private, public}
	}
	apply := func(both bool) {
		t.Helper()
		for _, h := range l.Hosts {
			other := l.Hosts[0]
			if h == other {
				other = l.Hosts[1]
			}
			d := l.Desired(h, shop)
			own := []any{map[string]any{"privateKey": young[h].private, "listenPort": 51820}}
			keys := []string{young[other].public}
			if both {
				own = append(own, map[string]any{"privateKey": old[h].private, "listenPort": 51821})
				keys = append(keys, old[other].public)
			}
			d["wireguard"].(map[string]any)["keys"] = own
			d["peers"].([]any)[0].(map[string]any)["keys"] = keys
			if err := h.Ask(map[string]any{"op": "apply", "desired": d}, nil); err != nil {
				t.Error(err)
			}
		}
	}
	pings(t, a, shop.IPv4(b), func() { apply(true) })
	for _, h := range l.Hosts {
		eventually(t, func() bool {
			k := stats(t, h).Keys
			return len(k) == 2 && k[0].LastUsedMS != nil && (k[1].LastUsedMS == nil || *k[1].LastUsedMS > 500)
		})
	}
	pings(t, a, shop.IPv4(b), func() { apply(false) })
	for _, h := range l.Hosts {
		if s := stats(t, h); len(s.Keys) != 1 || s.Keys[0].PublicKey.String() != young[h].public {
			t.Errorf("%+v", s.Keys)
		}
	}
}
