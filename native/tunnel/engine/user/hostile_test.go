package user_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"

	"selvedge.dev/tunnel/internal/lab"
	"selvedge.dev/tunnel/packet"
	"selvedge.dev/tunnel/state"
)

// inside makes a VXLAN datagram (what comes after the outer UDP header) with an inner frame.
func inside(vni int, frame []byte) []byte {
	b := make([]byte, 8, 8+len(frame))
	b[0] = 8
	binary.BigEndian.PutUint32(b[4:], uint32(vni)<<8)
	return append(b, frame...)
}

func ethernet(from, to string, etherType uint16, payload []byte) []byte {
	source, _ := net.ParseMAC(from)
	destination, _ := net.ParseMAC(to)
	return append(binary.BigEndian.AppendUint16(append(append([]byte{}, destination...), source...), etherType), payload...)
}

func udp4(from, to string) []byte {
	b := make([]byte, 28, 32)
	b[0], b[3], b[8], b[9] = 0x45, 32, 64, packet.ProtoUDP
	s, d := netip.MustParseAddr(from).As4(), netip.MustParseAddr(to).As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	packet.SetIPv4Checksum(b)
	binary.BigEndian.PutUint16(b[22:], 7002)
	binary.BigEndian.PutUint16(b[24:], 12)
	return append(b, "evil"...)
}

// A member that is a plain WireGuard with kernel tools behind it may send what it likes; only what is its own gets in, and it is counted.
func TestAHostileMemberGetsNowhere(t *testing.T) {
	l := newLab(t, 3)
	victim, other, hostile := l.Hosts[0], l.Hosts[1], l.Hosts[2]
	shop := &lab.Network{Name: "shop", Number: 1, MTU: 1370, Members: l.Hosts, PPS: 50}
	office := &lab.Network{Name: "office", Number: 2, MTU: 1370, Members: l.Hosts[:2]}
	for _, n := range []*lab.Network{shop, office} {
		n := *n
		n.Members = l.Hosts[:2]
		if err := n.MakeTAPs(); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range l.Hosts[:2] {
		if err := h.Ask(map[string]any{"op": "apply", "desired": l.Desired(h, shop, office)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.MakePlain(hostile); err != nil {
		t.Fatal(err)
	}
	send := func(t *testing.T, count int, payloads ...[]byte) {
		t.Helper()
		if err := hostile.Ask(map[string]any{"op": "udp", "address": victim.VTEP + ":4789", "payload": payloads, "count": count}, nil); err != nil {
			t.Fatal(err)
		}
	}
	me, mine := shop.MAC(hostile), shop.IPv4(hostile)
	to, address := shop.MAC(victim), shop.IPv4(victim)
	const all = "ff:ff:ff:ff:ff:ff"
	arp := func(mac, ip string) []byte {
		hardware, _ := net.ParseMAC(mac)
		a := netip.MustParseAddr(ip).As4()
		b := append([]byte{0, 1, 8, 0, 6, 4, 0, 2}, hardware...)
		return append(append(b, a[:]...), make([]byte, 10)...)
	}

	if err := victim.Ask(map[string]any{"op": "listen", "address": "0.0.0.0:7002"}, nil); err != nil {
		t.Fatal(err)
	}
	// The first packet also makes the session.
	send(t, 1, inside(shop.VNI(), ethernet(me, to, packet.TypeARP, arp(me, mine))))
	received(t, victim, "shop", 1)
	for _, c := range []struct {
		name    string
		network string
		payload []byte
		count   func(state.Refused) uint64
	}{
		{"another's address", "shop", inside(shop.VNI(), ethernet(me, to, packet.TypeIPv4, udp4(shop.IPv4(other), address))),
			func(r state.Refused) uint64 { return r.ForgedSource }},
		{"another's MAC", "shop", inside(shop.VNI(), ethernet(shop.MAC(other), to, packet.TypeIPv4, udp4(shop.IPv4(other), address))),
			func(r state.Refused) uint64 { return r.ForgedSource }},
		{"the victim's own address", "shop", inside(shop.VNI(), ethernet(to, all, packet.TypeIPv4, udp4(address, "10.9.1.255"))),
			func(r state.Refused) uint64 { return r.ForgedSource }},
		{"a network that it is no member of", "office", inside(office.VNI(), ethernet(me, office.MAC(victim), packet.TypeIPv4, udp4(mine, office.IPv4(victim)))),
			func(r state.Refused) uint64 { return r.NotMember }},
		{"a network that is not there", "shop", inside(4242, ethernet(me, to, packet.TypeIPv4, udp4(mine, address))),
			func(r state.Refused) uint64 { return r.WrongVNI }},
		{"ARP for another", "shop", inside(shop.VNI(), ethernet(me, to, packet.TypeARP, arp(me, shop.IPv4(other)))),
			func(r state.Refused) uint64 { return r.ARPForged }},
		{"ARP with another's MAC", "shop", inside(shop.VNI(), ethernet(me, to, packet.TypeARP, arp(shop.MAC(other), mine))),
			func(r state.Refused) uint64 { return r.ARPForged }},
		{"through the victim to another", "shop", inside(shop.VNI(), ethernet(me, shop.MAC(other), packet.TypeIPv4, udp4(mine, shop.IPv4(other)))),
			func(r state.Refused) uint64 { return r.UnknownMAC }},
		{"a short frame", "shop", inside(shop.VNI(), []byte{1, 2, 3}), func(r state.Refused) uint64 { return r.Malformed }},
		{"no VXLAN", "shop", []byte("hello"), func(r state.Refused) uint64 { return r.Malformed }},
		{"a VLAN tag", "shop", inside(shop.VNI(), ethernet(me, to, packet.TypeVLAN, append([]byte{0, 5, 8, 0}, udp4(mine, address)...))),
			func(r state.Refused) uint64 { return r.VLANTagged }},
		{"no IP", "shop", inside(shop.VNI(), ethernet(me, to, 0x88cc, make([]byte, 50))), func(r state.Refused) uint64 { return r.NotIP }},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := c.count(refused(t, victim, c.network))
			send(t, 1, c.payload)
			eventually(t, func() bool { return c.count(refused(t, victim, c.network)) == before+1 })
		})
	}
	t.Run("a flood", func(t *testing.T) {
		passed := passedTo(t, victim, "shop")
		flood := udp4(mine, "10.9.1.255")
		flood[23]++ // to another port than the one that is listened to
		send(t, 2000, inside(shop.VNI(), ethernet(me, all, packet.TypeIPv4, flood)))
		eventually(t, func() bool { return refused(t, victim, "shop").BroadcastLimited > 100 })
		if in := passedTo(t, victim, "shop") - passed; in > 300 {
			t.Errorf("%d frames got in", in)
		}
	})
	t.Run("nothing of this was heard, and what is its own gets in", func(t *testing.T) {
		heard := func() (n int) {
			if err := victim.Ask(map[string]any{"op": "heard"}, &n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		if n := heard(); n != 0 {
			t.Errorf("%d datagrams", n)
		}
		eventually(t, func() bool {
			// What is left of the flood may still fill the sender's queues.
			send(t, 1, inside(shop.VNI(), ethernet(me, to, packet.TypeIPv4, udp4(mine, address))))
			return heard() > 0
		})
		neighbors, err := victim.Exec("ip", "neigh", "show", "dev", shop.TAP())
		if err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(neighbors) {
			if strings.Contains(line, me) && !strings.HasPrefix(line, mine+" ") {
				t.Error(line)
			}
		}
	})
}

// A host with the kernel's VXLAN over a plain WireGuard is a full member: the wire format is the same.
func TestAHostWithKernelVXLANIsAFullMember(t *testing.T) {
	l := newLab(t, 2)
	ours, kernel := l.Hosts[0], l.Hosts[1]
	shop := &lab.Network{Name: "shop", Number: 1, MTU: 1370, Members: l.Hosts}
	one := *shop
	one.Members = l.Hosts[:1]
	up(t, &lab.Lab{}, &one)
	if err := ours.Ask(map[string]any{"op": "apply", "desired": l.Desired(ours, shop)}, nil); err != nil {
		t.Fatal(err)
	}
	if err := l.MakePlain(kernel); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"link", "add", "vx0", "address", shop.MAC(kernel), "mtu", "1370", "type", "vxlan", "id", "1001", "dstport", "4789",
			"local", kernel.VTEP, "remote", ours.VTEP},
		{"link", "set", "vx0", "up"},
		{"addr", "add", shop.IPv4(kernel) + "/24", "dev", "vx0"},
		{"addr", "add", shop.IPv6(kernel) + "/64", "dev", "vx0", "nodad"},
	} {
		if err := lab.IP(append([]string{"-n", kernel.Namespace}, args...)...); err != nil {
			t.Skip("no kernel VXLAN here:", err)
		}
	}
	for from, addresses := range map[*lab.Host][]string{ours: {shop.IPv4(kernel), shop.IPv6(kernel)}, kernel: {shop.IPv4(ours), shop.IPv6(ours)}} {
		for _, address := range addresses {
			ping(t, from, address)
			ping(t, from, "-s", "1300", address)
			ping(t, from, "-s", "9000", address)
		}
	}
	const bytes = 16 << 20
	for _, h := range l.Hosts {
		if err := h.Ask(map[string]any{"op": "serve", "address": ":7001", "bytes": bytes}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[*lab.Host]*lab.Host{ours: kernel, kernel: ours} {
		var sum string
		if err := from.Ask(map[string]any{"op": "fetch", "address": shop.IPv4(to) + ":7001"}, &sum); err != nil {
			t.Fatal(err)
		}
		if sum != lab.Sum(bytes) {
			t.Error(sum)
		}
	}
}
