package packet

import "encoding/binary"

// A Cutter turns one frame from a TAP into the frames that go on the wire: a super-frame into its segments, any other frame into
// itself with its checksum finished. It can be left after any segment and taken up again later, because a super-frame times the
// peers that it is flooded to may be more than one batch holds.
//
// A zero Cutter is done. The frame belongs to the Cutter until Done.
type Cutter struct {
	head    []byte // the headers of each segment, as they stand in the super-frame
	rest    []byte // the payload not yet cut; of a frame that stays as it is, all of it
	headers Headers
	size    int // payload of a segment; 0 for a frame that stays as it is
	index   int // number of the next segment
	more    bool
}

const (
	tcpFlagFIN = 0x01
	tcpFlagPSH = 0x08
	tcpFlagCWR = 0x80
)

// Start takes up a frame that Parse has found whole. It may finish the frame's checksum in place.
func (c *Cutter) Start(v VirtioHeader, frame []byte, h Headers) Fault {
	if v.GSOType != VirtioGSONone {
		if fault := c.StartHead(v, frame[:h.Payload], h); fault != Whole {
			return fault
		}
		c.SetRest(frame[h.Payload:h.End])
		return Whole
	}
	*c = Cutter{rest: frame, headers: h, more: true}
	if v.Flags&VirtioNeedsChecksum != 0 {
		return finishChecksum(frame, int(v.ChecksumStart), int(v.ChecksumOffset))
	}
	return Whole
}

// StartHead takes up the headers of a super-frame whose payload lies elsewhere: first in segments for which the caller calls Head, and then what
// SetRest says.
func (c *Cutter) StartHead(v VirtioHeader, head []byte, h Headers) Fault {
	*c = Cutter{}
	if fault := checkGSO(v, h); fault != Whole {
		return fault
	}
	*c = Cutter{head: head, headers: h, size: int(v.SegmentSize)}
	return Whole
}

// Head writes the headers before the payload of the next segment, which lies in its place already.
func (c *Cutter) Head(segment []byte, last bool) {
	copy(segment, c.head)
	c.fix(segment, last)
	c.index++
}

// SetRest gives the payload that is to be cut.
func (c *Cutter) SetRest(payload []byte) {
	c.rest = payload
	c.more = len(payload) > 0
}

func checkGSO(v VirtioHeader, h Headers) Fault {
	// UFO and whatever comes later were not offered to the kernel, so nobody may send them.
	var etherType uint16
	var proto uint8
	switch v.GSOType &^ VirtioGSOECN {
	case VirtioGSOTCPv4:
		etherType, proto = TypeIPv4, ProtoTCP
	case VirtioGSOTCPv6:
		etherType, proto = TypeIPv6, ProtoTCP
	case VirtioGSOUDP:
		etherType, proto = h.EtherType, ProtoUDP
	default:
		return Malformed
	}
	if h.EtherType != etherType || h.Proto != proto || !h.Plain || h.Payload == 0 {
		return Malformed
	}
	if v.SegmentSize < segmentPayloadMin || h.Payload >= h.End {
		return Malformed
	}
	return Whole
}

func finishChecksum(frame []byte, start, offset int) Fault {
	if start < EthernetHeader || start >= len(frame) || start+offset+2 > len(frame) {
		return Malformed
	}
	// The kernel left the sum of the pseudo header in the field.
	binary.BigEndian.PutUint16(frame[start+offset:], finish(Sum(frame[start:], 0)))
	return Whole
}

// Done tells that no segment is left.
func (c *Cutter) Done() bool { return !c.more }

// NextLength is the length of the frame that Next would write.
func (c *Cutter) NextLength() int {
	if c.size == 0 {
		return len(c.rest)
	}
	return len(c.head) + min(c.size, len(c.rest))
}

// Next writes the next frame into dst, which must hold NextLength bytes, and returns its length.
func (c *Cutter) Next(dst []byte) int {
	if c.size == 0 {
		c.more = false
		return copy(dst, c.rest)
	}
	head := len(c.head)
	n := min(c.size, len(c.rest))
	copy(dst[head:head+n], c.rest)
	c.rest = c.rest[n:]
	c.more = len(c.rest) > 0
	c.Head(dst[:head+n], !c.more)
	return head + n
}

// fix makes the copied headers right for one segment: lengths, identification, sequence number, flags, checksums.
func (c *Cutter) fix(segment []byte, last bool) {
	h := c.headers
	ip := segment[EthernetHeader:]
	if h.EtherType == TypeIPv4 {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		binary.BigEndian.PutUint16(ip[4:], binary.BigEndian.Uint16(ip[4:])+uint16(c.index))
		SetIPv4Checksum(ip)
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-ipv6Header))
	}
	l4 := segment[h.L4:]
	field := 16
	if h.Proto == ProtoTCP {
		binary.BigEndian.PutUint32(l4[4:], binary.BigEndian.Uint32(l4[4:])+uint32(c.index*c.size))
		// CWR tells about the window once, so it belongs on the first segment; FIN and PSH speak of the end.
		if c.index > 0 {
			l4[13] &^= tcpFlagCWR
		}
		if !last {
			l4[13] &^= tcpFlagFIN | tcpFlagPSH
		}
	} else {
		field = 6
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	}
	l4[field], l4[field+1] = 0, 0
	sum := Sum(l4, PseudoSum(addresses(segment, h.EtherType), h.Proto, len(l4)))
	binary.BigEndian.PutUint16(l4[field:], finish(sum))
}

// SetIPv4Checksum computes the header checksum of an IPv4 header without options.
func SetIPv4Checksum(ip []byte) {
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^Fold(Sum(ip[:ipv4Header], 0)))
}
