package kernel

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"selvedge.dev/tunnel/links"
	"selvedge.dev/tunnel/state"
)

// addressesNone keeps the kernel from giving a port of a bridge an IPv6 address, with which it would speak into the network.
const addressesNone = 1

// applyNetworks brings the VXLAN devices and what they know to what is desired, and removes others of ours.
func (e *Engine) applyNetworks(table *links.Table) (failures []state.Failure) {
	known, err := e.listNeighbors()
	if err != nil {
		return []state.Failure{failed("wireguard", err)}
	}
	wanted := map[string]bool{}
	for i := range e.desired.Networks {
		n := &e.desired.Networks[i]
		name := vxlanName(n.VNI)
		wanted[name] = true
		link, err := e.ensureVXLAN(table, n, name)
		if err == nil {
			err = e.ensureNeighbors(link, n, known[link.Attrs().Index])
		}
		if err != nil {
			failures = append(failures, failed("network "+n.Name, err))
		}
	}
	for _, link := range table.Marked() {
		if link.Type() != "vxlan" || wanted[link.Attrs().Name] {
			continue
		}
		if err := e.nl.LinkDel(link); err != nil {
			failures = append(failures, failed("wireguard", fmt.Errorf("%s cannot be removed: %w", link.Attrs().Name, err)))
		}
	}
	return failures
}

func vxlanName(vni uint32) string { return fmt.Sprintf("svx-%x", vni) }

func (e *Engine) ensureVXLAN(table *links.Table, n *state.Network, name string) (netlink.Link, error) {
	link, err := table.Claim(name, "vxlan", n.Name)
	if err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	// With every endpoint known, the device answers ARP and ND itself (proxy); where MACs may be learned it must ask.
	want := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: int(n.VNI), SrcAddr: e.desired.WireGuard.VTEP.AsSlice(), Port: vxlanPort, Learning: n.Learning, Proxy: !n.Learning, NoAge: !n.Learning}
	if there, ok := link.(*netlink.Vxlan); ok && !sameVXLAN(there, want) {
		// None of this can be changed while the device lives.
		if err := table.Drop(link); err != nil {
			return nil, err
		}
		link = nil
	}
	if link == nil {
		if link, err = table.Make(want, n.Name); err != nil {
			return nil, err
		}
		// Where the kernel has no IPv6 there is nothing to keep it from.
		_ = e.nl.LinkSetIP6AddrGenMode(link, addressesNone)
	}
	var out links.Outcome
	return link, table.EnsurePort(link, n, &out)
}

func sameVXLAN(a, b *netlink.Vxlan) bool {
	return a.VxlanId == b.VxlanId && a.SrcAddr.Equal(b.SrcAddr) && a.Port == b.Port && a.Learning == b.Learning && a.Proxy == b.Proxy
}

// neighbor is an entry of a VXLAN device: of its forwarding table (family AF_BRIDGE: a MAC is behind a VTEP, and the zero MAC stands for
// all that is flooded), or of its ARP or ND table (an address has a MAC).
type neighbor struct {
	family int
	ip     netip.Addr
	mac    state.MAC
}

// listNeighbors reads every entry there is, by device, in three listings.
func (e *Engine) listNeighbors() (map[int]map[neighbor]bool, error) {
	known := map[int]map[neighbor]bool{}
	for _, family := range []int{unix.AF_BRIDGE, unix.AF_INET, unix.AF_INET6} {
		entries, err := e.nl.NeighList(0, family)
		if err != nil {
			return nil, fmt.Errorf("neighbours cannot be listed: %w", err)
		}
		for i := range entries {
			entry := &entries[i]
			ip, ok := netip.AddrFromSlice(entry.IP)
			if !ok || len(entry.HardwareAddr) != len(state.MAC{}) || entry.State&netlink.NUD_PERMANENT == 0 {
				continue
			}
			if known[entry.LinkIndex] == nil {
				known[entry.LinkIndex] = map[neighbor]bool{}
			}
			known[entry.LinkIndex][neighbor{family, ip.Unmap(), state.MAC(entry.HardwareAddr)}] = true
		}
	}
	return known, nil
}

func (e *Engine) ensureNeighbors(link netlink.Link, n *state.Network, known map[neighbor]bool) error {
	wanted := map[neighbor]bool{}
	for i := range n.Remote {
		r := &n.Remote[i]
		wanted[neighbor{unix.AF_BRIDGE, r.VTEP, r.MAC}] = true
		wanted[neighbor{unix.AF_BRIDGE, r.VTEP, state.MAC{}}] = true
		for _, address := range r.Addresses {
			family := unix.AF_INET
			if address.Is6() {
				family = unix.AF_INET6
			}
			wanted[neighbor{family, address, r.MAC}] = true
		}
	}
	index := link.Attrs().Index
	// What goes, goes first: a MAC that moved is in the way of itself.
	for entry := range known {
		if wanted[entry] || entry.family != unix.AF_BRIDGE && entry.ip.IsMulticast() {
			continue
		}
		if err := e.nl.NeighDel(entry.kernel(index)); err != nil && err != unix.ENOENT {
			return fmt.Errorf("%s cannot forget %v at %v: %w", link.Attrs().Name, entry.mac, entry.ip, err)
		}
	}
	for entry := range wanted {
		if known[entry] {
			continue
		}
		set := e.nl.NeighSet
		if entry.mac == (state.MAC{}) {
			set = e.nl.NeighAppend
		}
		if err := set(entry.kernel(index)); err != nil {
			return fmt.Errorf("%s cannot know %v at %v: %w", link.Attrs().Name, entry.mac, entry.ip, err)
		}
	}
	return nil
}

func (n neighbor) kernel(index int) *netlink.Neigh {
	entry := &netlink.Neigh{LinkIndex: index, Family: n.family, State: netlink.NUD_PERMANENT, IP: net.IP(n.ip.AsSlice()), HardwareAddr: n.mac.Hardware()}
	if n.family == unix.AF_BRIDGE {
		entry.Flags = netlink.NTF_SELF
	}
	return entry
}
