package switching

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"selvedge.dev/tunnel/packet"
	"selvedge.dev/tunnel/state"
)

var (
	here    = MAC{2, 0, 0, 0, 0, 1}
	box     = MAC{2, 0, 0, 0, 1, 1} // an attachment on this host
	bob     = MAC{2, 0, 0, 0, 0, 2}
	carol   = MAC{2, 0, 0, 0, 0, 3}
	all     = MAC{255, 255, 255, 255, 255, 255}
	vtepBob = IPv4{100, 96, 0, 2}
	vtepCar = IPv4{100, 96, 0, 3}
)

func network(learning bool) *Network {
	a := netip.MustParseAddr
	return NewNetwork(&state.Network{
		Name: "shop", VNI: 7, MTU: 1370, MAC: state.MAC(here), Learning: learning, BroadcastPPS: 10,
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("fd00::1/64")},
		Local:     []state.Local{{MAC: state.MAC(box), Addresses: []netip.Addr{a("10.9.0.11")}}},
		Remote: []state.Remote{
			{MAC: state.MAC(bob), Addresses: []netip.Addr{a("10.9.0.2"), a("fd00::2")}, VTEP: netip.AddrFrom4(vtepBob)},
			{MAC: state.MAC(carol), Addresses: []netip.Addr{a("10.9.0.3")}, VTEP: netip.AddrFrom4(vtepCar)},
		},
	}, nil)
}

func ip4(from, to MAC, source, destination string) []byte {
	f := make([]byte, 14+20+8)
	copy(f, to[:])
	copy(f[6:], from[:])
	f[12], f[14], f[17], f[23] = 8, 0x45, 28, packet.ProtoICMP
	s, d := netip.MustParseAddr(source).As4(), netip.MustParseAddr(destination).As4()
	copy(f[26:], s[:])
	copy(f[30:], d[:])
	return f
}

func ip6(from, to MAC, source, destination string, icmp ...byte) []byte {
	f := make([]byte, 14+40, 14+40+len(icmp))
	copy(f, to[:])
	copy(f[6:], from[:])
	f[12], f[13], f[14], f[19], f[20], f[21] = 0x86, 0xdd, 0x60, byte(len(icmp)), packet.ProtoICMPv6, 255
	s, d := netip.MustParseAddr(source).As16(), netip.MustParseAddr(destination).As16()
	copy(f[22:], s[:])
	copy(f[38:], d[:])
	return append(f, icmp...)
}

func arp(from, to MAC, op byte, senderMAC MAC, sender, target string) []byte {
	f := make([]byte, 42)
	copy(f, to[:])
	copy(f[6:], from[:])
	copy(f[12:], []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, op})
	copy(f[22:], senderMAC[:])
	s, d := netip.MustParseAddr(sender).As4(), netip.MustParseAddr(target).As4()
	copy(f[28:], s[:])
	copy(f[38:], d[:])
	return f
}

// nd is a neighbor solicitation or advertisement for a target, with the link-layer address in an option.
func nd(kind byte, target string, option byte, mac MAC) []byte {
	b := make([]byte, 32)
	b[0] = kind
	a := netip.MustParseAddr(target).As16()
	copy(b[8:], a[:])
	b[24], b[25] = option, 1
	copy(b[26:], mac[:])
	return b
}

func fromHost(n *Network, f []byte, now int64) Verdict {
	h, fault := packet.Parse(f)
	if fault != packet.Whole {
		return refuse(FromFault(fault))
	}
	return n.FromHost(f, h, 1, now)
}

func fromPeer(n *Network, f []byte, vtep IPv4, now int64) Reason {
	h, fault := packet.Parse(f)
	if fault != packet.Whole {
		return FromFault(fault)
	}
	r, _ := n.FromPeer(f, h, vtep, now)
	return r
}

func TestAFrameFromTheHostGoesWhereItsDestinationLives(t *testing.T) {
	n := network(false)
	for name, c := range map[string]struct {
		frame []byte
		want  Verdict
	}{
		"to a peer":                  {ip4(here, bob, "10.9.0.1", "10.9.0.2"), Verdict{To: vtepBob}},
		"from an attachment":         {ip4(box, carol, "10.9.0.11", "10.9.0.3"), Verdict{To: vtepCar}},
		"IPv6":                       {ip6(here, bob, "fd00::1", "fd00::2", 128), Verdict{To: vtepBob}},
		"link-local":                 {ip6(here, bob, "fe80::ff:fe00:1", "fe80::ff:fe00:2", 128), Verdict{To: vtepBob}},
		"broadcast":                  {ip4(here, all, "10.9.0.1", "10.9.0.255"), Verdict{Flood: true}},
		"within the host":            {ip4(here, box, "10.9.0.1", "10.9.0.11"), Verdict{Reason: Needless}},
		"to nobody":                  {ip4(here, MAC{2, 9}, "10.9.0.1", "10.9.0.9"), Verdict{Reason: UnknownMAC}},
		"another's address":          {ip4(here, bob, "10.9.0.3", "10.9.0.2"), Verdict{Reason: ForgedSource}},
		"an attachment's address":    {ip4(here, bob, "10.9.0.11", "10.9.0.2"), Verdict{Reason: ForgedSource}},
		"an unknown MAC":             {ip4(MAC{2, 9}, bob, "10.9.0.1", "10.9.0.2"), Verdict{Reason: ForgedSource}},
		"a peer's MAC, bridged back": {ip4(bob, carol, "10.9.0.2", "10.9.0.3"), Verdict{Reason: ForgedSource}},
		"a group as the source":      {ip4(all, bob, "10.9.0.1", "10.9.0.2"), Verdict{Reason: ForgedSource}},
		"ARP for a peer":             {arp(here, all, 1, here, "10.9.0.1", "10.9.0.2"), Verdict{Answer: true}},
		"ARP for an attachment":      {arp(here, all, 1, here, "10.9.0.1", "10.9.0.11"), Verdict{Reason: Needless}},
		"ARP for nobody":             {arp(here, all, 1, here, "10.9.0.1", "10.9.0.99"), Verdict{Reason: Needless}},
		"ARP probe of a peer's":      {arp(here, all, 1, here, "0.0.0.0", "10.9.0.2"), Verdict{Answer: true}},
		"ARP reply":                  {arp(here, bob, 2, here, "10.9.0.1", "10.9.0.2"), Verdict{To: vtepBob}},
		"forged ARP reply":           {arp(here, bob, 2, here, "10.9.0.3", "10.9.0.2"), Verdict{Reason: ARPForged}},
		"ARP with another MAC":       {arp(here, bob, 2, carol, "10.9.0.1", "10.9.0.2"), Verdict{Reason: ARPForged}},
		"solicitation":               {ip6(here, MAC{0x33, 0x33}, "fd00::1", "ff02::1:ff00:2", nd(neighborSolicit, "fd00::2", 1, here)...), Verdict{Answer: true}},
		"duplicate detection":        {ip6(here, MAC{0x33, 0x33}, "::", "ff02::1:ff00:2", nd(neighborSolicit, "fd00::2", 1, here)...), Verdict{Answer: true}},
		"no address, no question":    {ip6(here, bob, "::", "fd00::2", 128, 0, 0, 0), Verdict{Reason: ForgedSource}},
		"router advertisement":       {ip6(here, MAC{0x33, 0x33}, "fe80::ff:fe00:1", "ff02::1", make([]byte, 16)...), Verdict{Flood: true}},
	} {
		if name == "router advertisement" {
			c.frame[54], c.want = routerAdvertise, Verdict{Reason: ARPForged}
		}
		if got := fromHost(n, c.frame, 1); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestAFrameFromAPeerIsItsOwnAndForThisHost(t *testing.T) {
	n := network(false)
	for name, c := range map[string]struct {
		frame []byte
		vtep  IPv4
		want  Reason
	}{
		"good":                     {ip4(bob, here, "10.9.0.2", "10.9.0.1"), vtepBob, Accepted},
		"to an attachment":         {ip4(bob, box, "10.9.0.2", "10.9.0.11"), vtepBob, Accepted},
		"broadcast":                {ip4(bob, all, "10.9.0.2", "10.9.0.255"), vtepBob, Accepted},
		"another peer's MAC":       {ip4(carol, here, "10.9.0.3", "10.9.0.1"), vtepBob, ForgedSource},
		"another peer's address":   {ip4(bob, here, "10.9.0.3", "10.9.0.1"), vtepBob, ForgedSource},
		"this host's MAC":          {ip4(here, box, "10.9.0.1", "10.9.0.11"), vtepBob, ForgedSource},
		"this host's address":      {ip4(bob, here, "10.9.0.1", "10.9.0.11"), vtepBob, ForgedSource},
		"an unknown MAC":           {ip4(MAC{2, 9}, here, "10.9.0.2", "10.9.0.1"), vtepBob, ForgedSource},
		"no member":                {ip4(bob, here, "10.9.0.2", "10.9.0.1"), IPv4{100, 96, 0, 9}, NotMember},
		"for another peer":         {ip4(bob, carol, "10.9.0.2", "10.9.0.3"), vtepBob, UnknownMAC},
		"for nobody":               {ip4(bob, MAC{2, 9}, "10.9.0.2", "10.9.0.3"), vtepBob, UnknownMAC},
		"ARP reply":                {arp(bob, here, 2, bob, "10.9.0.2", "10.9.0.1"), vtepBob, Accepted},
		"ARP for another":          {arp(bob, here, 2, bob, "10.9.0.3", "10.9.0.1"), vtepBob, ARPForged},
		"ARP with another MAC":     {arp(bob, here, 2, carol, "10.9.0.2", "10.9.0.1"), vtepBob, ARPForged},
		"advertisement":            {ip6(bob, here, "fd00::2", "fd00::1", nd(neighborAdvert, "fd00::2", 2, bob)...), vtepBob, Accepted},
		"forged advertisement":     {ip6(bob, here, "fd00::2", "fd00::1", nd(neighborAdvert, "fd00::3", 2, bob)...), vtepBob, ARPForged},
		"advertisement, other MAC": {ip6(bob, here, "fd00::2", "fd00::1", nd(neighborAdvert, "fd00::2", 2, carol)...), vtepBob, ARPForged},
		"solicitation, other MAC":  {ip6(bob, here, "fd00::2", "fd00::1", nd(neighborSolicit, "fd00::1", 1, carol)...), vtepBob, ARPForged},
		"options without end":      {ip6(bob, here, "fd00::2", "fd00::1", append(nd(neighborAdvert, "fd00::2", 2, bob), 1, 0, 0, 0, 0, 0, 0, 0)...), vtepBob, Malformed},
		"another's link-local":     {ip6(bob, here, "fe80::ff:fe00:3", "fd00::1", 128, 0, 0, 0), vtepBob, ForgedSource},
	} {
		if got := fromPeer(n, c.frame, c.vtep, 1); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	for kind, want := range map[byte]Reason{routerAdvertise: ARPForged, redirect: ARPForged, 128: Accepted} {
		if got := fromPeer(n, ip6(bob, here, "fd00::2", "fd00::1", append([]byte{kind}, make([]byte, 40)...)...), vtepBob, 1); got != want {
			t.Errorf("ICMPv6 %d: %d, want %d", kind, got, want)
		}
	}
}

func TestFloodingIsLimitedOnBothSides(t *testing.T) {
	n := network(false)
	pass := func(now int64) (out, in int) {
		for range 100 {
			if fromHost(n, ip4(here, all, "10.9.0.1", "10.9.0.255"), now).Flood {
				out++
			}
			if fromPeer(n, ip4(bob, all, "10.9.0.2", "10.9.0.255"), vtepBob, now) == Accepted {
				in++
			}
		}
		return out, in
	}
	if out, in := pass(second); out != 10 || in != 20 {
		t.Errorf("%d out, %d in", out, in)
	}
	if fromPeer(n, ip4(carol, all, "10.9.0.3", "10.9.0.255"), vtepCar, second) != Accepted {
		t.Error("one peer's flood must not cost another its turn")
	}
	if out, in := pass(second + second/2); out != 5 || in != 5 {
		t.Errorf("half a second later: %d out, %d in", out, in)
	}
	f := ip4(here, all, "10.9.0.1", "10.9.0.255")
	h, _ := packet.Parse(f)
	if n.FromHost(f, h, 40, 10*second).Reason != BroadcastLimited {
		t.Error("a super-frame counts as what it becomes")
	}
}

func TestAnswersAreWhatTheOwnerWouldSay(t *testing.T) {
	n := network(false)
	dst := make([]byte, AnswerMax)
	f := arp(here, all, 1, here, "10.9.0.1", "10.9.0.2")
	h, _ := packet.Parse(f)
	if got, want := string(dst[:n.Answer(dst, f, h)]), string(arp(bob, here, 2, bob, "10.9.0.2", "10.9.0.1")); got[:32] != want[:32] || got[38:] != want[38:] || MAC([]byte(got[32:38])) != here {
		t.Errorf("%x\n%x", got, want)
	}
	f = ip6(here, MAC{0x33, 0x33}, "fd00::1", "ff02::1:ff00:2", nd(neighborSolicit, "fd00::2", 1, here)...)
	h, _ = packet.Parse(f)
	answer := dst[:n.Answer(dst, f, h)]
	want := ip6(bob, here, "fd00::2", "fd00::1", nd(neighborAdvert, "fd00::2", 2, bob)...)
	want[58] = 0x60
	copy(want[56:], answer[56:58])
	if string(answer) != string(want) {
		t.Errorf("%x\n%x", answer, want)
	}
	h, fault := packet.Parse(answer)
	if fault != packet.Whole || packet.Fold(packet.Sum(answer[54:], packet.PseudoSum(answer[22:54], packet.ProtoICMPv6, 32))) != 0xffff {
		t.Error("checksum", fault, h)
	}
}

func TestLearningIsForNetworksThatAllowIt(t *testing.T) {
	n := network(true)
	stranger := MAC{2, 7}
	if r := fromPeer(n, ip4(stranger, here, "10.9.0.77", "10.9.0.1"), vtepBob, 1); r != Accepted {
		t.Fatal(r)
	}
	if v := fromHost(n, ip4(here, stranger, "10.9.0.1", "10.9.0.77"), 1); v.To != vtepBob {
		t.Errorf("%+v", v)
	}
	for name, f := range map[string][]byte{
		"a listed address":      ip4(stranger, here, "10.9.0.3", "10.9.0.1"),
		"outside of the subnet": ip4(stranger, here, "10.8.0.3", "10.9.0.1"),
		"a listed MAC":          ip4(carol, here, "10.9.0.3", "10.9.0.1"),
	} {
		if r := fromPeer(n, f, vtepBob, 1); r != ForgedSource {
			t.Errorf("%s: %d", name, r)
		}
	}
	if v := fromHost(n, ip4(stranger, carol, "10.9.0.77", "10.9.0.3"), 1); v.Reason != ForgedSource {
		t.Errorf("a learned MAC came back from the host: %+v", v)
	}
	for i := range 2 * learnedMax {
		mac := MAC{2, 8, 0, 0}
		binary.BigEndian.PutUint16(mac[4:], uint16(i))
		n.learn(mac, vtepBob, int64(i))
	}
	if len(n.learned) > learnedMax {
		t.Errorf("%d learned", len(n.learned))
	}
	if r := fromPeer(NewNetwork(&state.Network{MAC: state.MAC(here)}, n), ip4(stranger, here, "10.9.0.77", "10.9.0.1"), vtepBob, 1); r != NotMember {
		t.Errorf("%d", r)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(ip4(bob, here, "10.9.0.2", "10.9.0.1"))
	f.Add(arp(here, all, 1, here, "10.9.0.1", "10.9.0.2"))
	f.Add(ip6(bob, here, "fd00::2", "fd00::1", nd(neighborAdvert, "fd00::2", 2, bob)...))
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, fault := packet.Parse(frame)
		if fault != packet.Whole {
			return
		}
		for _, learning := range []bool{false, true} {
			n := network(learning)
			if v := n.FromHost(frame, h, 1, 1); v.Answer {
				n.Answer(make([]byte, AnswerMax), frame, h)
			}
			// Whatever is accepted from a peer has its MAC and an address that is its own, or nobody's.
			if r, _ := n.FromPeer(frame, h, vtepBob, 1); r == Accepted && !learning && packet.SourceMAC(frame) != bob {
				t.Fatal("forged")
			}
		}
	})
}
