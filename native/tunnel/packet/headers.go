// Package packet parses Ethernet frames within their bounds, cuts super-frames into segments and puts segments together again.
// It is pure: no socket, no clock, no state beyond what the caller holds. Whatever it reads is hostile until checked here.
package packet

import "encoding/binary"

// A Fault says why a frame was not understood. The empty Fault means that all is well.
type Fault string

const (
	Whole      Fault = ""
	Malformed  Fault = "malformed"
	VLANTagged Fault = "vlan_tagged"
	NotIP      Fault = "not_ip"
)

// Headers are the facts that one walk over a frame found. Offsets count from the start of the frame.
type Headers struct {
	EtherType uint16
	Proto     uint8 // the transport protocol, after IPv6 extension headers; 0 for ARP
	L4        int   // where the transport header starts; for a later fragment, where its payload starts
	End       int   // where the IP packet ends; bytes after it are Ethernet padding
	Payload   int   // where the payload of TCP or UDP starts; 0 if the frame has no whole TCP or UDP header
	Fragment  bool  // any piece of a fragmented packet, the first too
	Plain     bool  // IPv4 without options or IPv6 without extension headers: what cut and coalesce work on
}

// Parse walks over the headers of an Ethernet frame. Everything it reports lies within frame[:End].
func Parse(frame []byte) (h Headers, fault Fault) { return ParseHead(frame, len(frame)) }

// ParseHead is Parse for a frame of which only the beginning is at hand: headers beyond it count as malformed, payload may be missing.
func ParseHead(head []byte, length int) (h Headers, fault Fault) {
	if len(head) < EthernetHeader || length > MaxFrame {
		return h, Malformed
	}
	h.EtherType = binary.BigEndian.Uint16(head[12:])
	switch h.EtherType {
	case TypeIPv4:
		return parseIPv4(head, length, h)
	case TypeIPv6:
		return parseIPv6(head, length, h)
	case TypeARP:
		if len(head) < EthernetHeader+arpLength {
			return h, Malformed
		}
		h.L4, h.End = EthernetHeader, EthernetHeader+arpLength
		return h, Whole
	case TypeVLAN, TypeQinQ:
		return h, VLANTagged
	}
	return h, NotIP
}

func parseIPv4(frame []byte, length int, h Headers) (Headers, Fault) {
	ip := frame[EthernetHeader:]
	if len(ip) < ipv4Header || ip[0]>>4 != 4 {
		return h, Malformed
	}
	headerLength := int(ip[0]&0x0f) * 4
	total := int(binary.BigEndian.Uint16(ip[2:]))
	if headerLength < ipv4Header || total < headerLength || EthernetHeader+total > length || headerLength > len(ip) {
		return h, Malformed
	}
	fragment := binary.BigEndian.Uint16(ip[6:])
	h.Proto = ip[9]
	h.L4 = EthernetHeader + headerLength
	h.End = EthernetHeader + total
	h.Fragment = fragment&0x3fff != 0
	h.Plain = headerLength == ipv4Header && !h.Fragment
	if h.Fragment {
		return h, Whole
	}
	return parseTransport(frame, h)
}

func parseIPv6(frame []byte, length int, h Headers) (Headers, Fault) {
	ip := frame[EthernetHeader:]
	if len(ip) < ipv6Header || ip[0]>>4 != 6 {
		return h, Malformed
	}
	total := ipv6Header + int(binary.BigEndian.Uint16(ip[4:]))
	if EthernetHeader+total > length {
		return h, Malformed
	}
	h.End = EthernetHeader + total
	here := min(h.End, len(frame)) // headers must be at hand
	h.Plain = true
	next, at := ip[6], EthernetHeader+ipv6Header
	for range extensionHeadersMax {
		switch next {
		case 0, 43, 60: // hop-by-hop, routing, destination options
			if at+8 > here {
				return h, Malformed
			}
			length := 8 + int(frame[at+1])*8
			if at+length > here {
				return h, Malformed
			}
			next, at, h.Plain = frame[at], at+length, false
			continue
		case 44: // fragment
			if at+8 > here {
				return h, Malformed
			}
			h.Proto, h.L4, h.Fragment, h.Plain = frame[at], at+8, true, false
			return h, Whole
		}
		h.Proto, h.L4 = next, at
		return parseTransport(frame, h)
	}
	return h, Malformed
}

func parseTransport(frame []byte, h Headers) (Headers, Fault) {
	if h.L4 > len(frame) {
		return h, Malformed
	}
	l4 := frame[h.L4:min(h.End, len(frame))]
	switch h.Proto {
	case ProtoTCP:
		if len(l4) < tcpHeader {
			return h, Malformed
		}
		length := int(l4[12]>>4) * 4
		if length < tcpHeader || length > len(l4) {
			return h, Malformed
		}
		h.Payload = h.L4 + length
	case ProtoUDP:
		if len(l4) < udpHeader {
			return h, Malformed
		}
		if length := int(binary.BigEndian.Uint16(l4[4:])); length < udpHeader || length > h.End-h.L4 {
			// A super-frame of UDP may carry any length here; it is cut before anybody reads it, so only an impossible value of a
			// plain datagram matters, and that is for the receiver's stack to drop. Cut and coalesce look again.
			h.Payload = h.L4 + udpHeader
			return h, Whole
		}
		h.Payload = h.L4 + udpHeader
	}
	return h, Whole
}

// IPv4Source, IPv4Destination and their IPv6 fellows read the addresses of a frame that Parse found whole.
func IPv4Source(frame []byte) [4]byte       { return [4]byte(frame[EthernetHeader+12:]) }
func IPv4Destination(frame []byte) [4]byte  { return [4]byte(frame[EthernetHeader+16:]) }
func IPv6Source(frame []byte) [16]byte      { return [16]byte(frame[EthernetHeader+8:]) }
func IPv6Destination(frame []byte) [16]byte { return [16]byte(frame[EthernetHeader+24:]) }
func DestinationMAC(frame []byte) [6]byte   { return [6]byte(frame) }
func SourceMAC(frame []byte) [6]byte        { return [6]byte(frame[6:]) }
func IsMulticastMAC(mac [6]byte) bool       { return mac[0]&1 != 0 }

// addresses is the source and destination address of the IP header, side by side, as the pseudo header has them.
func addresses(frame []byte, etherType uint16) []byte {
	if etherType == TypeIPv4 {
		return frame[EthernetHeader+12 : EthernetHeader+20]
	}
	return frame[EthernetHeader+8 : EthernetHeader+40]
}

// FlowHash is a number that frames of one flow have in common (FNV-1a over addresses, protocol and ports).
func FlowHash(frame []byte, h Headers) uint32 {
	hash := uint32(2166136261)
	mix := func(b []byte) {
		for _, v := range b {
			hash = (hash ^ uint32(v)) * 16777619
		}
	}
	switch h.EtherType {
	case TypeIPv4, TypeIPv6:
		mix(addresses(frame, h.EtherType))
		if h.Payload != 0 {
			mix(frame[h.L4 : h.L4+4])
		}
		hash = (hash ^ uint32(h.Proto)) * 16777619
	default:
		mix(frame[:12])
	}
	return hash ^ hash>>16
}
