package links

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"selvedge.dev/tunnel/state"
)

// mtu6BytesMin is the least MTU of a link that carries IPv6 (RFC 8200); below it the kernel takes IPv6 off the interface.
const mtu6BytesMin = 1280

// addressSet is the addresses of one link: what is wanted, what is there.
type addressSet struct {
	nl     *netlink.Handle
	link   netlink.Link
	wanted []netip.Prefix
	there  []netip.Prefix
	mtu    int
}

// ensure adds and removes addresses. The link is ours, so what nobody wants goes; link-local addresses are the kernel's own.
func (a *addressSet) ensure(what string, out *Outcome) {
	name := a.link.Attrs().Name
	for _, there := range a.there {
		if slices.Contains(a.wanted, there) || there.Addr().IsLinkLocalUnicast() {
			continue
		}
		if err := a.nl.AddrDel(a.link, kernelAddress(there)); err != nil && err != unix.EADDRNOTAVAIL {
			out.failed(what, fmt.Errorf("%v cannot be removed from %s: %w", there, name, err))
			continue
		}
		out.changed("%s has %v no more", name, there)
	}
	for _, wanted := range a.wanted {
		if slices.Contains(a.there, wanted) {
			continue
		}
		if wanted.Addr().Is6() && a.mtu < mtu6BytesMin {
			out.failed(what, state.Failedf(state.CodeUnsupported, what, "%v cannot be used: IPv6 needs an MTU of %d, and the path allows %d", wanted, mtu6BytesMin, a.mtu))
			continue
		}
		if err := a.nl.AddrAdd(a.link, kernelAddress(wanted)); err != nil && err != unix.EEXIST {
			out.failed(what, fmt.Errorf("%s cannot have %v: %w", name, wanted, err))
			continue
		}
		out.changed("%s has %v", name, wanted)
	}
}

// kernelAddress is the address as netlink takes it. Duplicates are excluded by the tower, so IPv6 does not wait to find any.
func kernelAddress(prefix netip.Prefix) *netlink.Addr {
	bits := prefix.Addr().BitLen()
	address := &netlink.Addr{IPNet: &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), bits)}}
	if bits == 128 {
		address.Flags = unix.IFA_F_NODAD
	}
	return address
}

func prefixOf(address netlink.Addr) (netip.Prefix, bool) {
	if address.IPNet == nil {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(address.IPNet.IP)
	bits, _ := address.IPNet.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), bits), ok
}

// holder is the index of an interface that has the address or one within its subnet; 0 when none has. An interface with a wider subnet
// is no clash: the narrower route wins.
func holder(addresses map[int][]netip.Prefix, wanted netip.Prefix) int {
	for index, prefixes := range addresses {
		for _, prefix := range prefixes {
			if wanted.Masked().Contains(prefix.Addr()) || wanted.Masked() == prefix.Masked() {
				return index
			}
		}
	}
	return 0
}

func ensureUp(nl *netlink.Handle, link netlink.Link, out *Outcome) error {
	if link.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	if err := nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("%s cannot be set up: %w", link.Attrs().Name, err)
	}
	link.Attrs().Flags |= net.FlagUp
	out.changed("%s is up", link.Attrs().Name)
	return nil
}
