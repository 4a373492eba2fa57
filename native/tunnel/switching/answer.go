package switching

import (
	"encoding/binary"

	"selvedge.dev/tunnel/packet"
)

// AnswerMax is the longest frame that Answer writes.
const AnswerMax = packet.EthernetHeader + 40 + 32

// question tells whether a frame asks for the owner of an address (ARP request, neighbor solicitation), and who that is, if known.
func (n *Network) question(frame []byte, h packet.Headers) (target *endpoint, asks bool) {
	switch {
	case h.EtherType == packet.TypeARP && binary.BigEndian.Uint16(frame[arpOp:]) == 1:
		// An announcement asks for the sender's own address, which is here: the others know it from the desired state.
		return n.by4[IPv4(frame[arpTarget:])], true
	case isSolicitation(frame, h):
		return n.by6[IPv6(frame[h.L4+8:])], true
	}
	return nil, false
}

func isSolicitation(frame []byte, h packet.Headers) bool {
	return h.EtherType == packet.TypeIPv6 && h.Proto == packet.ProtoICMPv6 && !h.Fragment && h.End-h.L4 >= 24 &&
		frame[h.L4] == neighborSolicit
}

// Answer writes the answer to a question for which FromHost said Answer, and returns its length; 0 if there is none after all.
func (n *Network) Answer(dst, frame []byte, h packet.Headers) int {
	target, asks := n.question(frame, h)
	if !asks || target == nil {
		return 0
	}
	if h.EtherType == packet.TypeARP {
		return answerARP(dst, frame, target.mac)
	}
	return answerND(dst, frame, h, target.mac)
}

func answerARP(dst, frame []byte, mac MAC) int {
	dst = dst[:arpEnd]
	copy(dst, frame[6:12])
	copy(dst[6:], mac[:])
	copy(dst[12:], frame[12:arpOp])
	binary.BigEndian.PutUint16(dst[arpOp:], 2)
	copy(dst[arpSender:], mac[:])
	copy(dst[arpIP:arpIP+4], frame[arpTarget:])
	copy(dst[arpIP+4:], frame[arpSender:arpIP+4])
	return arpEnd
}

func answerND(dst, frame []byte, h packet.Headers, mac MAC) int {
	const ip = packet.EthernetHeader
	const icmp = ip + 40
	dst = dst[:AnswerMax]
	clear(dst)
	source := packet.IPv6Source(frame)
	copy(dst, frame[6:12])
	copy(dst[6:], mac[:])
	binary.BigEndian.PutUint16(dst[12:], packet.TypeIPv6)
	dst[ip] = 0x60
	dst[ip+5] = 32
	dst[ip+6], dst[ip+7] = packet.ProtoICMPv6, 255
	target := frame[h.L4+8 : h.L4+24]
	copy(dst[ip+8:], target)
	copy(dst[ip+24:], source[:])
	const override, solicited = 0x20, 0x40
	dst[icmp], dst[icmp+4] = neighborAdvert, override|solicited
	if source == (IPv6{}) {
		// Somebody tries whether the address is free. All nodes hear that it is not (RFC 4861, 7.2.4).
		copy(dst, []byte{0x33, 0x33, 0, 0, 0, 1})
		copy(dst[ip+24:], []byte{0: 0xff, 1: 0x02, 15: 1})
		dst[icmp+4] = override
	}
	copy(dst[icmp+8:], target)
	dst[icmp+24], dst[icmp+25] = 2, 1
	copy(dst[icmp+26:], mac[:])
	sum := packet.Sum(dst[icmp:], packet.PseudoSum(dst[ip+8:ip+40], packet.ProtoICMPv6, 32))
	binary.BigEndian.PutUint16(dst[icmp+2:], ^packet.Fold(sum))
	return AnswerMax
}
