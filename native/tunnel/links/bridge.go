package links

import (
	"bytes"
	"fmt"

	"github.com/vishvananda/netlink"

	"selvedge.dev/tunnel/state"
)

// ensureBridge brings a network's bridge and the host's addresses on it to what is desired.
func (s *Set) ensureBridge(t *Table, n *state.Network, out *Outcome) (netlink.Link, error) {
	bridge, err := t.Claim(n.Bridge, "bridge", n.Name)
	if err != nil {
		return nil, err
	}
	if bridge == nil {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr = n.Bridge, n.MAC.Hardware()
		// Without a querier, which nobody runs here, snooping loses multicast, and with it IPv6's neighbour discovery.
		snooping := false
		if bridge, err = t.Make(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}, n.Name); err != nil {
			return nil, err
		}
		out.changed("%s made", n.Bridge)
	}
	if !bytes.Equal(bridge.Attrs().HardwareAddr, n.MAC[:]) {
		if err := s.nl.LinkSetHardwareAddr(bridge, n.MAC.Hardware()); err != nil {
			return nil, fmt.Errorf("%s cannot have MAC %v: %w", n.Bridge, n.MAC, err)
		}
		out.changed("%s has MAC %v", n.Bridge, n.MAC)
	}
	if err := s.ensureMTU(bridge, n.MTU, out); err != nil {
		return nil, err
	}
	if err := ensureUp(s.nl, bridge, out); err != nil {
		return nil, err
	}
	s.ensureHostAddresses(t, n, bridge, out)
	return bridge, nil
}

func (s *Set) ensureHostAddresses(t *Table, n *state.Network, bridge netlink.Link, out *Outcome) {
	what, index := "network "+n.Name, bridge.Attrs().Index
	there := t.addresses[index]
	delete(t.addresses, index)
	addresses := addressSet{nl: s.nl, link: bridge, there: there, mtu: n.MTU}
	for _, wanted := range n.Addresses {
		if other := t.byIndex[holder(t.addresses, wanted)]; other != nil {
			out.failed(what, state.Failedf(state.CodeAddressInUse, what, "%v is in use: interface %s has it or its subnet", wanted, other.Attrs().Name))
			continue
		}
		addresses.wanted = append(addresses.wanted, wanted)
	}
	addresses.ensure(what, out)
	// Addresses made in this turn count when the next network is looked at.
	t.addresses[index] = addresses.wanted
}

// ensurePort makes a device a port of a bridge: MTU, master, up.
func (s *Set) ensurePort(port, bridge netlink.Link, mtu int, out *Outcome) error {
	if err := s.ensureMTU(port, mtu, out); err != nil {
		return err
	}
	if port.Attrs().MasterIndex != bridge.Attrs().Index {
		if err := s.nl.LinkSetMaster(port, bridge); err != nil {
			return fmt.Errorf("%s cannot become a port of %s: %w", port.Attrs().Name, bridge.Attrs().Name, err)
		}
		port.Attrs().MasterIndex = bridge.Attrs().Index
		out.changed("%s is a port of %s", port.Attrs().Name, bridge.Attrs().Name)
	}
	return ensureUp(s.nl, port, out)
}

// EnsurePort is ensurePort for the kernel engine's VXLAN device.
func (t *Table) EnsurePort(port netlink.Link, n *state.Network, out *Outcome) error {
	bridge := t.byName[n.Bridge]
	if bridge == nil {
		return fmt.Errorf("bridge %s is not there", n.Bridge)
	}
	return t.set.ensurePort(port, bridge, n.MTU, out)
}

func (s *Set) ensureMTU(link netlink.Link, mtu int, out *Outcome) error {
	if link.Attrs().MTU == mtu {
		return nil
	}
	if err := s.nl.LinkSetMTU(link, mtu); err != nil {
		return fmt.Errorf("%s cannot have an MTU of %d: %w", link.Attrs().Name, mtu, err)
	}
	out.changed("%s has MTU %d", link.Attrs().Name, mtu)
	link.Attrs().MTU = mtu
	return nil
}
