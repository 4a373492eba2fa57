package links

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"selvedge.dev/tunnel/state"
)

// ensureVeth brings an attachment to what is desired: one end a port of the bridge, the other named, addressed and up in its namespace.
func (s *Set) ensureVeth(t *Table, n *state.Network, a *state.Attachment, bridge netlink.Link, out *Outcome) error {
	subject := n.Name + "/" + a.Name
	host, err := t.Claim(a.Host, "veth", subject)
	if err != nil {
		return err
	}
	ns, err := openNamespace(a.Namespace)
	if err != nil {
		return err
	}
	defer ns.close()
	inner, err := ns.otherEnd(host, a)
	if err != nil {
		return err
	}
	if host != nil && inner == nil {
		// The other end is in a namespace that is gone from under this name, or was renamed: this pair serves nobody.
		if err := t.Drop(host); err != nil {
			return err
		}
		host = nil
	}
	if host == nil {
		if host, inner, err = s.makeVeth(t, n, a, ns, subject); err != nil {
			return err
		}
		out.changed("%s made, %s in %s", a.Host, a.Interface, a.Namespace)
	}
	if err := s.ensurePort(host, bridge, n.MTU, out); err != nil {
		return err
	}
	return ns.ensureInner(inner, n, a, out)
}

func (s *Set) makeVeth(t *Table, n *state.Network, a *state.Attachment, ns *namespace, subject string) (host, inner netlink.Link, err error) {
	if taken, err := ns.nl.LinkByName(a.Interface); err == nil {
		return nil, nil, state.Failedf(state.CodeDeviceForeign, subject, "the name %s is taken in %s: a %s device that is not ours", a.Interface, a.Namespace, taken.Type())
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = a.Host, n.MTU
	// The other end is born in its namespace, under its name: at no time is it seen in the host's.
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: a.Interface, PeerHardwareAddr: a.MAC.Hardware(), PeerNamespace: netlink.NsFd(int(ns.handle))}
	if host, err = t.Make(pair, subject); err != nil {
		return nil, nil, err
	}
	_ = s.nl.LinkSetIP6AddrGenMode(host, addressesNone)
	if inner, err = ns.nl.LinkByName(a.Interface); err != nil {
		return nil, nil, fmt.Errorf("%s was made in %s and is gone: %w", a.Interface, a.Namespace, err)
	}
	return host, inner, nil
}

// otherEnd finds the end of our pair that is in the namespace, or nil. A device that merely has its name is not it.
func (ns *namespace) otherEnd(host netlink.Link, a *state.Attachment) (netlink.Link, error) {
	if host == nil {
		return nil, nil
	}
	inner, err := ns.nl.LinkByName(a.Interface)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s in %s cannot be read: %w", a.Interface, a.Namespace, err)
	}
	if inner.Type() != "veth" || inner.Attrs().ParentIndex != host.Attrs().Index || inner.Attrs().Index != host.Attrs().ParentIndex {
		return nil, nil
	}
	return inner, nil
}

// ensureInner brings the end in the namespace to what is desired.
func (ns *namespace) ensureInner(inner netlink.Link, n *state.Network, a *state.Attachment, out *Outcome) error {
	what := "attachment " + n.Name + "/" + a.Name
	if !bytes.Equal(inner.Attrs().HardwareAddr, a.MAC[:]) {
		if err := ns.nl.LinkSetHardwareAddr(inner, a.MAC.Hardware()); err != nil {
			return fmt.Errorf("%s cannot have MAC %v: %w", a.Interface, a.MAC, err)
		}
		out.changed("%s of %s has MAC %v", a.Interface, a.Namespace, a.MAC)
	}
	if inner.Attrs().MTU != n.MTU {
		if err := ns.nl.LinkSetMTU(inner, n.MTU); err != nil {
			return fmt.Errorf("%s cannot have an MTU of %d: %w", a.Interface, n.MTU, err)
		}
		out.changed("%s of %s has MTU %d", a.Interface, a.Namespace, n.MTU)
	}
	if err := ensureUp(ns.nl, inner, out); err != nil {
		return err
	}
	all, err := dump(func() ([]netlink.Addr, error) { return ns.nl.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("the addresses in %s cannot be listed: %w", a.Namespace, err)
	}
	addresses := addressSet{nl: ns.nl, link: inner, mtu: n.MTU}
	others := map[int][]netip.Prefix{}
	for _, address := range all {
		if prefix, ok := prefixOf(address); ok && address.LinkIndex == inner.Attrs().Index {
			addresses.there = append(addresses.there, prefix)
		} else if ok {
			others[address.LinkIndex] = append(others[address.LinkIndex], prefix)
		}
	}
	for _, wanted := range a.Addresses {
		if index := holder(others, wanted); index != 0 {
			out.failed(what, state.Failedf(state.CodeAddressInUse, what, "%v is in use in %s: interface %s has it or its subnet", wanted, a.Namespace, ns.nameOf(index)))
			continue
		}
		addresses.wanted = append(addresses.wanted, wanted)
	}
	addresses.ensure(what, out)
	return nil
}

func (ns *namespace) nameOf(index int) string {
	link, err := ns.nl.LinkByIndex(index)
	if err != nil {
		return fmt.Sprintf("number %d", index)
	}
	return link.Attrs().Name
}
