package user_test

import (
	"strings"
	"testing"

	"selvedge.dev/tunnel/internal/lab"
)

func TestThreeHostsAndTwoNetworks(t *testing.T) {
	l := newLab(t, 3)
	a, b, c := l.Hosts[0], l.Hosts[1], l.Hosts[2]
	shop := &lab.Network{Name: "shop", Number: 1, MTU: 1370, Members: l.Hosts}
	office := &lab.Network{Name: "office", Number: 2, MTU: 1300, Members: l.Hosts[:2]}
	up(t, l, shop, office)
	for _, h := range l.Hosts {
		if _, err := h.Exec("sysctl", "-w", "net.ipv4.icmp_echo_ignore_broadcasts=0"); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("each member reaches each other", func(t *testing.T) {
		for _, from := range l.Hosts {
			for _, to := range l.Hosts {
				if from != to {
					ping(t, from, shop.IPv4(to))
					ping(t, from, shop.IPv6(to))
				}
			}
		}
		ping(t, a, office.IPv4(b))
		ping(t, b, office.IPv6(a))
	})
	t.Run("who is no member reaches nobody", func(t *testing.T) {
		if err := lab.IP("-n", c.Namespace, "route", "add", "10.9.2.0/24", "dev", shop.TAP()); err != nil {
			t.Fatal(err)
		}
		noPing(t, c, office.IPv4(a))
	})
	t.Run("a packet at the MTU passes with DF, one byte more does not leave", func(t *testing.T) {
		ping(t, a, "-M", "do", "-s", "1342", shop.IPv4(b))
		ping(t, a, "-M", "do", "-s", "1322", shop.IPv6(b))
		ping(t, a, "-M", "do", "-s", "1272", office.IPv4(b))
		noPing(t, a, "-M", "do", "-s", "1343", shop.IPv4(b))
		noPing(t, a, "-M", "do", "-s", "1323", shop.IPv6(b))
		noPing(t, a, "-M", "do", "-s", "1273", office.IPv4(b))
	})
	t.Run("fragments", func(t *testing.T) {
		ping(t, a, "-s", "9000", "-M", "dont", shop.IPv4(b))
		ping(t, b, "-s", "9000", "-M", "dont", shop.IPv6(c))
	})
	t.Run("broadcast and multicast reach every other member", func(t *testing.T) {
		for _, to := range [][]string{{"-b", "10.9.1.255"}, {"-I", shop.TAP(), "224.0.0.1"}, {"-I", shop.TAP(), "ff02::1"}} {
			out, _ := a.Exec(append([]string{"ping", "-n", "-c", "4", "-i", "0.1", "-W", "1"}, to...)...)
			want := []string{shop.IPv4(b), shop.IPv4(c)}
			if strings.Contains(to[len(to)-1], ":") {
				want = []string{"fe80::ff:fe01:2", "fe80::ff:fe01:3"}
			}
			for _, address := range want {
				if !strings.Contains(out, "from "+address) {
					t.Errorf("%v: nothing from %s: %s", to, address, out)
				}
			}
		}
	})
	t.Run("what is sent arrives as it was", func(t *testing.T) {
		const bytes = 64 << 20
		if err := b.Ask(map[string]any{"op": "serve", "address": ":7001", "bytes": bytes}, nil); err != nil {
			t.Fatal(err)
		}
		for _, address := range []string{shop.IPv4(b) + ":7001", "[" + shop.IPv6(b) + "]:7001"} {
			var sum string
			if err := a.Ask(map[string]any{"op": "fetch", "address": address}, &sum); err != nil {
				t.Fatal(err)
			}
			if sum != lab.Sum(bytes) {
				t.Errorf("%s: %s", address, sum)
			}
		}
		for _, counter := range []string{"TcpInCsumErrors", "UdpInCsumErrors"} {
			for _, h := range l.Hosts {
				out, err := h.Exec("nstat", "-az", counter)
				if err == nil && !strings.Contains(out, counter+" ") {
					t.Error(out)
				}
				if fields := strings.Fields(out[strings.Index(out, counter):]); err == nil && fields[1] != "0" {
					t.Error(h.Node, out)
				}
			}
		}
	})
	t.Run("datagrams of every size come back as they were, super-frames or not", func(t *testing.T) {
		if err := a.Ask(map[string]any{"op": "echo", "address": shop.IPv4(b) + ":7001", "count": 1342}, nil); err != nil {
			t.Error(err)
		}
		if err := a.Ask(map[string]any{"op": "echo", "address": "[" + shop.IPv6(b) + "]:7001", "count": 1322}, nil); err != nil {
			t.Error(err)
		}
	})
	t.Run("nothing of this was refused", func(t *testing.T) {
		for _, h := range l.Hosts {
			for _, n := range stats(t, h).Networks {
				if n.Refused.ForgedSource+n.Refused.WrongVNI+n.Refused.Malformed+n.Refused.ARPForged+n.Refused.NotMember > 0 &&
					!(h == c && n.Name == "shop") {
					t.Errorf("%s %s: %+v", h.Node, n.Name, n.Refused)
				}
			}
		}
	})
	t.Run("a network that goes leaves the others alone", func(t *testing.T) {
		flow := a.Command("ping", "-q", "-n", "-i", "0.005", "-c", "200", shop.IPv4(b))
		var out strings.Builder
		flow.Stdout = &out
		if err := flow.Start(); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if err := l.Apply(shop); err != nil {
				t.Error(err)
			}
			if err := l.Apply(shop, office); err != nil {
				t.Error(err)
			}
		}
		if err := flow.Wait(); err != nil || !strings.Contains(out.String(), " 0% packet loss") {
			t.Error(err, out.String())
		}
		ping(t, a, office.IPv4(b))
	})
}
