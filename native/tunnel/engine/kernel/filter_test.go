package kernel

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"selvedge.dev/tunnel/internal/nstest"
	"selvedge.dev/tunnel/links"
	"selvedge.dev/tunnel/state"
)

func TestMain(m *testing.M) { nstest.Main(m) }

const owner = "edge/here"

var (
	here  = netip.MustParseAddr("100.96.0.1")
	peer  = netip.MustParseAddr("100.96.0.2")
	other = netip.MustParseAddr("100.96.0.3")
)

func network(i int) state.Network {
	mac := func(host byte) state.MAC { return state.MAC{2, 0, 0, 0, byte(i), host} }
	addresses := func(host int) []netip.Addr {
		return []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.9.%d.%d", i, host)), netip.MustParseAddr(fmt.Sprintf("fd00:%x::%d", i, host))}
	}
	return state.Network{Name: fmt.Sprintf("net%d", i), VNI: uint32(1000 + i), Bridge: fmt.Sprintf("svb-%x", 1000+i), TAP: fmt.Sprintf("svt-%x", 1000+i), MTU: 1390, MAC: mac(1), BroadcastPPS: 20,
		Addresses: []netip.Prefix{netip.PrefixFrom(addresses(1)[0], 24), netip.PrefixFrom(addresses(1)[1], 64)},
		Remote:    []state.Remote{{MAC: mac(2), Addresses: addresses(2), VTEP: peer}, {MAC: mac(3), Addresses: addresses(3), VTEP: other}}}
}

// lab is an engine without WireGuard: the VXLAN and filter of the kernel, over a veth that has the name of one of our WireGuard devices.
type lab struct {
	*Engine
	t *testing.T
}

func newLab(t *testing.T, networks ...state.Network) *lab {
	set, err := links.Open(owner)
	if err != nil {
		t.Fatal(err)
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	nstest.Namespace(t, "peer")
	nstest.Run(t, "ip", "link", "add", "svw-9", "type", "veth", "peer", "name", "u0", "netns", "peer")
	nstest.Run(t, "ip", "addr", "add", here.String()+"/24", "dev", "svw-9")
	nstest.Run(t, "ip", "link", "set", "svw-9", "up")
	nstest.Run(t, "ip", "-n", "peer", "addr", "add", peer.String()+"/24", "dev", "u0")
	nstest.Run(t, "ip", "-n", "peer", "link", "set", "u0", "up")
	l := &lab{t: t, Engine: &Engine{owner: owner, set: set, nl: nl, filter: newFilter(owner)}}
	t.Cleanup(func() {
		if err := l.filter.remove(); err != nil {
			t.Error(err)
		}
		set.RemoveAll()
		set.Close()
		nstest.Run(t, "ip", "link", "del", "svw-9")
	})
	l.apply(networks...)
	return l
}

func (l *lab) apply(networks ...state.Network) {
	l.t.Helper()
	l.desired = state.Desired{Owner: owner, WireGuard: state.WireGuard{VTEP: here}, Networks: networks}
	if out := l.set.Ensure(&l.desired, false); len(out.Failures) > 0 {
		l.t.Fatal(out.Failures)
	}
	if err := l.filter.apply(networks); err != nil {
		l.t.Fatal(err)
	}
	table, err := l.set.Table()
	if err != nil {
		l.t.Fatal(err)
	}
	if failures := l.applyNetworks(table); len(failures) > 0 {
		l.t.Fatal(failures)
	}
}

// send sends frames in VXLAN from the peer.
func (l *lab) send(vni uint32, frames ...[]byte) {
	l.t.Helper()
	nstest.In(l.t, "/run/netns/peer", func() {
		conn, err := net.Dial("udp", here.String()+":4789")
		if err != nil {
			l.t.Error(err)
			return
		}
		defer conn.Close()
		for _, frame := range frames {
			header := append([]byte{8, 0, 0, 0}, binary.BigEndian.AppendUint32(nil, vni<<8)...)
			if _, err := conn.Write(append(header, frame...)); err != nil {
				l.t.Error(err)
			}
		}
	})
}

// received counts what came out of a network's VXLAN device.
func (l *lab) received(vni uint32) uint64 {
	l.t.Helper()
	link, err := l.nl.LinkByName(vxlanName(vni))
	if err != nil {
		l.t.Fatal(err)
	}
	return link.Attrs().Statistics.RxPackets
}

func frame(to, from state.MAC, kind uint16, payload []byte) []byte {
	return slices.Concat(to[:], from[:], be16(kind), payload, make([]byte, 64))
}

func ipv4(from netip.Addr) []byte {
	return slices.Concat([]byte{0x45, 0, 0, 84, 0, 0, 0, 0, 64, 17, 0, 0}, from.AsSlice(), []byte{10, 9, 1, 1})
}

func ipv6(from netip.Addr, next byte, payload ...byte) []byte {
	return slices.Concat([]byte{0x60, 0, 0, 0, 0, 64, next, 255}, from.AsSlice(), netip.MustParseAddr("fd00:1::1").AsSlice(), payload)
}

func arp(mac state.MAC, from netip.Addr) []byte {
	return slices.Concat([]byte{0, 1, 8, 0, 6, 4, 0, 2}, mac[:], from.AsSlice(), make([]byte, 6), []byte{10, 9, 1, 1})
}

func TestWhatAPeerForgesIsRefusedAndCounted(t *testing.T) {
	n := network(1)
	l := newLab(t, n, network(2))
	mine, others := n.Remote[0], n.Remote[1]
	broadcast := state.MAC{255, 255, 255, 255, 255, 255}
	linkLocal, unspecified := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("::")
	advertisement := func(target netip.Addr) []byte {
		return ipv6(mine.Addresses[1], 58, slices.Concat([]byte{136, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice())...)
	}
	for _, c := range []struct {
		name   string
		vni    uint32
		frame  []byte
		passes bool
		count  func(state.Refused) uint64
	}{
		{"own IPv4", 1001, frame(n.MAC, mine.MAC, typeIPv4, ipv4(mine.Addresses[0])), true, nil},
		{"own IPv6", 1001, frame(n.MAC, mine.MAC, typeIPv6, ipv6(mine.Addresses[1], 17)), true, nil},
		{"own ARP", 1001, frame(n.MAC, mine.MAC, typeARP, arp(mine.MAC, mine.Addresses[0])), true, nil},
		{"link-local", 1001, frame(n.MAC, mine.MAC, typeIPv6, ipv6(linkLocal, 58, 133)), true, nil},
		{"unspecified", 1001, frame(n.MAC, mine.MAC, typeIPv6, ipv6(unspecified, 58, 135)), true, nil},
		{"own advertisement", 1001, frame(n.MAC, mine.MAC, typeIPv6, advertisement(mine.Addresses[1])), true, nil},
		{"another's MAC", 1001, frame(n.MAC, others.MAC, typeIPv4, ipv4(mine.Addresses[0])), false, func(r state.Refused) uint64 { return r.ForgedSource }},
		{"this host's MAC", 1001, frame(n.MAC, n.MAC, typeIPv4, ipv4(mine.Addresses[0])), false, func(r state.Refused) uint64 { return r.ForgedSource }},
		{"another's IPv4", 1001, frame(n.MAC, mine.MAC, typeIPv4, ipv4(others.Addresses[0])), false, func(r state.Refused) uint64 { return r.ForgedSource }},
		{"an IPv4 of nobody", 1001, frame(n.MAC, mine.MAC, typeIPv4, ipv4(netip.MustParseAddr("192.0.2.7"))), false, func(r state.Refused) uint64 { return r.ForgedSource }},
		{"another's IPv6", 1001, frame(n.MAC, mine.MAC, typeIPv6, ipv6(others.Addresses[1], 17)), false, func(r state.Refused) uint64 { return r.ForgedSource }},
		{"another's ARP address", 1001, frame(n.MAC, mine.MAC, typeARP, arp(mine.MAC, others.Addresses[0])), false, func(r state.Refused) uint64 { return r.ARPForged }},
		{"another's ARP MAC", 1001, frame(n.MAC, mine.MAC, typeARP, arp(others.MAC, mine.Addresses[0])), false, func(r state.Refused) uint64 { return r.ARPForged }},
		{"another's advertisement", 1001, frame(n.MAC, mine.MAC, typeIPv6, advertisement(others.Addresses[1])), false, func(r state.Refused) uint64 { return r.ARPForged }},
		{"a VLAN tag", 1001, frame(n.MAC, mine.MAC, typeVLAN, ipv4(mine.Addresses[0])), false, func(r state.Refused) uint64 { return r.VLANTagged }},
		{"neither IP nor ARP", 1001, frame(n.MAC, mine.MAC, 0x88cc, nil), false, func(r state.Refused) uint64 { return r.NotIP }},
		{"the MAC of its other network", 1002, frame(n.MAC, mine.MAC, typeIPv4, ipv4(mine.Addresses[0])), false, nil},
		{"a VNI that is not here", 1009, frame(broadcast, mine.MAC, typeIPv4, ipv4(mine.Addresses[0])), false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, refused, wrong := l.received(1001), l.filter.refused(), l.filter.refused()[""].WrongVNI
			l.send(c.vni, c.frame)
			waitFor(t, func() bool {
				now := l.filter.refused()
				switch {
				case c.passes:
					return l.received(1001) == before+1
				case c.count != nil:
					return c.count(now["net1"]) == c.count(refused["net1"])+1
				case c.vni == 1002:
					return now["net2"].ForgedSource == refused["net2"].ForgedSource+1
				}
				return now[""].WrongVNI == wrong+1
			})
			if !c.passes && l.received(1001) != before {
				t.Error("it passed")
			}
		})
	}
}

func TestVXLANFromOutsideOfWireGuardIsRefused(t *testing.T) {
	n := network(1)
	l := newLab(t, n)
	nstest.Run(t, "ip", "link", "set", "svw-9", "down")
	nstest.Run(t, "ip", "link", "set", "svw-9", "name", "eth9")
	nstest.Run(t, "ip", "link", "set", "eth9", "up")
	defer func() {
		nstest.Run(t, "ip", "link", "set", "eth9", "down")
		nstest.Run(t, "ip", "link", "set", "eth9", "name", "svw-9")
	}()
	before := l.received(1001)
	l.send(1001, frame(n.MAC, n.Remote[0].MAC, typeIPv4, ipv4(n.Remote[0].Addresses[0])))
	waitFor(t, func() bool { return l.filter.refused()["net1"].NotMember == 1 })
	if l.received(1001) != before {
		t.Error("it passed")
	}
}

func TestAFloodIsLimited(t *testing.T) {
	n := network(1)
	l := newLab(t, n)
	before := l.received(1001)
	flood := frame(state.MAC{255, 255, 255, 255, 255, 255}, n.Remote[0].MAC, typeARP, arp(n.Remote[0].MAC, n.Remote[0].Addresses[0]))
	l.send(1001, slices.Repeat([][]byte{flood}, 500)...)
	waitFor(t, func() bool { return l.filter.refused()["net1"].BroadcastLimited+l.received(1001)-before == 500 })
	if passed := l.received(1001) - before; passed > 100 {
		t.Errorf("%d of 500 passed a limit of 20 a second", passed)
	}
	// Its unicast is as before.
	l.send(1001, frame(n.MAC, n.Remote[0].MAC, typeIPv4, ipv4(n.Remote[0].Addresses[0])))
	count := l.filter.refused()["net1"].BroadcastLimited
	l.apply(n, network(2))
	if now := l.filter.refused()["net1"].BroadcastLimited; now != count {
		t.Errorf("a new table counts from %d, expected %d", now, count)
	}
}

func TestTheVXLANDeviceKnowsWhatIsDesiredAndNoMore(t *testing.T) {
	n := network(1)
	l := newLab(t, n)
	entries := func() string {
		return nstest.Run(t, "bridge", "fdb", "show", "dev", "svx-3e9") + nstest.Run(t, "ip", "neigh", "show", "dev", "svx-3e9")
	}
	has := func(parts ...string) {
		t.Helper()
		text := entries()
		for _, part := range parts {
			if !strings.Contains(text, part) {
				t.Errorf("%q is not in:\n%s", part, text)
			}
		}
	}
	has("02:00:00:00:01:02 dst 100.96.0.2 self permanent", "02:00:00:00:01:03 dst 100.96.0.3 self permanent", "00:00:00:00:00:00 dst 100.96.0.2", "00:00:00:00:00:00 dst 100.96.0.3",
		"10.9.1.2 lladdr 02:00:00:00:01:02 PERMANENT", "fd00:1::3 lladdr 02:00:00:00:01:03 PERMANENT")
	// One moves behind another host, the other goes.
	n.Remote = n.Remote[:1]
	n.Remote[0].VTEP = other
	l.apply(n)
	has("02:00:00:00:01:02 dst 100.96.0.3 self permanent", "00:00:00:00:00:00 dst 100.96.0.3")
	for _, gone := range []string{"100.96.0.2", "02:00:00:00:01:03"} {
		if text := entries(); strings.Contains(text, gone) {
			t.Errorf("%s is still in:\n%s", gone, text)
		}
	}
	index := nstest.Run(t, "ip", "-o", "link", "show", "svx-3e9")
	l.apply(n)
	if again := nstest.Run(t, "ip", "-o", "link", "show", "svx-3e9"); again != index {
		t.Errorf("made anew:\n%s%s", index, again)
	}
	n.Learning = true
	l.apply(n)
	if text := nstest.Run(t, "ip", "-d", "link", "show", "svx-3e9"); strings.Contains(text, "nolearning") {
		t.Error(text)
	}
	l.apply()
	if text := nstest.Run(t, "ip", "-br", "link"); strings.Contains(text, "svx") {
		t.Error(text)
	}
}

func TestTwoHundredNetworksOfFiftyPeersAreFiltered(t *testing.T) {
	var many []state.Network
	for i := range 200 {
		n := network(i)
		n.Remote = nil
		for p := range 50 {
			n.Remote = append(n.Remote, state.Remote{MAC: state.MAC{2, 0, 0, 1, byte(i), byte(p)}, VTEP: netip.AddrFrom4([4]byte{100, 96, 1, byte(p)}),
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 9, byte(i), byte(p + 10)}), netip.MustParseAddr(fmt.Sprintf("fd00:%x::%x", i, p+10))}})
		}
		many = append(many, n)
	}
	l := newLab(t)
	began := time.Now()
	l.apply(many...)
	made := time.Since(began)
	began = time.Now()
	l.apply(many...)
	t.Logf("devices, tables and filter made in %v, looked at again in %v", made, time.Since(began))
	// Told, not judged: machines differ. Only what grows with the square of the networks would take so long.
	if made > time.Minute {
		t.Errorf("%v", made)
	}
}

func waitFor(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			_, _ = fmt.Fprintln(os.Stderr, nstest.Run(t, "nft", "list", "ruleset"))
			t.Fatal("it did not come to hold within 5 s")
		}
	}
}
