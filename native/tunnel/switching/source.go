package switching

import (
	"encoding/binary"

	"selvedge.dev/tunnel/packet"
)

// ICMPv6 types.
const (
	mldReport       = 131
	mldDone         = 132
	routerSolicit   = 133
	routerAdvertise = 134
	neighborSolicit = 135
	neighborAdvert  = 136
	redirect        = 137
	mldReport2      = 143
)

// checkSource tells whether the frame's addresses are its sender's. e is the endpoint of the source MAC; nil for an unlisted one in a
// network that learns.
func (n *Network) checkSource(frame []byte, h packet.Headers, e *endpoint) Reason {
	mac := packet.SourceMAC(frame)
	switch h.EtherType {
	case packet.TypeARP:
		return n.checkARP(frame, mac, e)
	case packet.TypeIPv4:
		if !n.mayUse4(packet.IPv4Source(frame), e) {
			return ForgedSource
		}
	case packet.TypeIPv6:
		source := packet.IPv6Source(frame)
		icmp := uint8(0)
		if h.Proto == packet.ProtoICMPv6 && !h.Fragment && h.L4 < h.End {
			icmp = frame[h.L4]
		}
		if source == (IPv6{}) {
			// Without an address one may ask whether it is free, and tell which groups one listens to.
			if icmp != neighborSolicit && icmp != mldReport && icmp != mldReport2 && icmp != mldDone {
				return ForgedSource
			}
		} else if !n.mayUse6(source, mac, e) {
			return ForgedSource
		}
		if icmp != 0 {
			return n.checkND(frame[h.L4:h.End], icmp, mac, e)
		}
	}
	return Accepted
}

func (n *Network) mayUse4(a IPv4, e *endpoint) bool {
	if e != nil {
		return e.owns4(a)
	}
	return n.free4(a)
}

func (n *Network) mayUse6(a IPv6, mac MAC, e *endpoint) bool {
	if e != nil {
		return e.owns6(a)
	}
	return a == linkLocal(mac) || n.free6(a)
}

// ARP as it stands in the frame (RFC 826), Ethernet and IPv4.
const (
	arpAt     = packet.EthernetHeader
	arpOp     = arpAt + 6
	arpSender = arpAt + 8
	arpIP     = arpAt + 14
	arpTarget = arpAt + 24
	arpEnd    = arpAt + 28
)

func (n *Network) checkARP(frame []byte, mac MAC, e *endpoint) Reason {
	const ethernetIPv4 = 0x0001_0800_0604
	head := uint64(binary.BigEndian.Uint32(frame[arpAt:]))<<16 | uint64(binary.BigEndian.Uint16(frame[arpAt+4:]))
	op := binary.BigEndian.Uint16(frame[arpOp:])
	if head != ethernetIPv4 || op != 1 && op != 2 {
		return Malformed
	}
	if MAC(frame[arpSender:]) != mac {
		return ARPForged
	}
	sender := IPv4(frame[arpIP:])
	if sender == (IPv4{}) && op == 1 {
		return Accepted
	}
	if !n.mayUse4(sender, e) {
		return ARPForged
	}
	return Accepted
}

func (n *Network) checkND(icmp []byte, kind uint8, mac MAC, e *endpoint) Reason {
	switch kind {
	case routerAdvertise, redirect:
		// An app network has no router, so whoever says so wants the others' traffic.
		return ARPForged
	case neighborSolicit, neighborAdvert:
		if len(icmp) < 24 {
			return Malformed
		}
		if kind == neighborAdvert && !n.mayUse6(IPv6(icmp[8:]), mac, e) {
			return ARPForged
		}
		return checkLinkOptions(icmp[24:], mac)
	case routerSolicit:
		if len(icmp) < 8 {
			return Malformed
		}
		return checkLinkOptions(icmp[8:], mac)
	}
	return Accepted
}

// checkLinkOptions holds that the link-layer addresses in the options are the sender's.
func checkLinkOptions(options []byte, mac MAC) Reason {
	for len(options) > 0 {
		if len(options) < 8 || options[1] == 0 || int(options[1])*8 > len(options) {
			return Malformed
		}
		if (options[0] == 1 || options[0] == 2) && MAC(options[2:]) != mac {
			return ARPForged
		}
		options = options[int(options[1])*8:]
	}
	return Accepted
}
