package packet

import (
	"bytes"
	"encoding/binary"
)

// A Coalescer puts the segments of one batch together again: for each run of segments of a flow one super-frame, which the kernel
// takes in one call. Nothing is kept from one batch to the next, so it adds no delay.
//
// Order within a flow is kept: a frame that doesn't continue its flow's open group closes it and starts a group of its own, and groups
// leave in the order in which they began. A segment joins only if its checksums are right, because the kernel doesn't look at them again
// in a super-frame; a frame with a wrong checksum goes on as it is, for the receiver to drop.
//
// Frames are kept by reference and their headers changed in place: they belong to the Coalescer until Reset.
type Coalescer struct {
	groups []Group
	used   int
	last   int // the group that the last frame went to; -1 for none
}

// A Group is what goes to the TAP in one write: the header, the first frame whole, and the payloads of those that follow.
type Group struct {
	Header VirtioHeader
	First  []byte
	Rest   [][]byte // reused from batch to batch

	headers  Headers
	size     int    // payload of each segment but the last
	total    int    // payload so far
	sequence uint32 // what the next segment must start with
	lastID   uint16
	open     bool
	push     bool
}

// recentGroups_max is how far back a frame looks for its flow. A flow further back starts a new group: order holds all the same,
// because then nothing later can join the old one.
const recentGroupsMax = 8

// NewCoalescer makes one for batches of at most frames frames.
func NewCoalescer(frames int) *Coalescer {
	return &Coalescer{groups: make([]Group, frames), last: -1}
}

// Groups are what there is to write, in order.
func (c *Coalescer) Groups() []Group { return c.groups[:c.used] }

// Full tells that the next frame may find no place: write the groups and Reset.
func (c *Coalescer) Full() bool { return c.used == len(c.groups) }

// Reset forgets the batch, and the frames with it.
func (c *Coalescer) Reset() {
	for i := range c.groups[:c.used] {
		g := &c.groups[i]
		clear(g.Rest)
		*g = Group{Rest: g.Rest[:0]}
	}
	c.used, c.last = 0, -1
}

// Add takes a frame that Parse has found whole. The caller has looked at Full.
func (c *Coalescer) Add(frame []byte, h Headers) {
	frame = frame[:h.End]
	mergeable, pure := c.mergeable(frame, h)
	if mergeable || pure {
		for i := c.used - 1; i >= 0 && i >= c.used-recentGroupsMax; i-- {
			g := &c.groups[i]
			if !sameFlow(g, frame, h) {
				continue
			}
			if mergeable && g.open && g.continues(frame, h) && checksumsRight(frame, h) {
				g.append(frame, h)
				c.last = i
				return
			}
			// Whatever comes later of this flow must not overtake this frame.
			g.open = false
			break
		}
	}
	g := &c.groups[c.used]
	c.last = c.used
	c.used++
	g.First, g.headers, g.size, g.total = frame, h, len(frame)-h.Payload, len(frame)-h.Payload
	if mergeable && g.size >= segmentPayloadMin && checksumsRight(frame, h) {
		g.open = true
		if h.Proto == ProtoTCP {
			g.sequence = binary.BigEndian.Uint32(frame[h.L4+4:]) + uint32(g.total)
			g.push = frame[h.L4+13]&tcpFlagPSH != 0
			g.open = !g.push
		}
		if h.EtherType == TypeIPv4 {
			g.lastID = binary.BigEndian.Uint16(frame[EthernetHeader+4:])
		}
	}
}

// Continue takes a frame that is the next segment of the group that the frame before it went to; false if it is not, and nothing was done. It looks at the
// bytes that make it so and no others, so a frame need not be parsed first: one that is taken has the addresses, ports and shape of the
// group's first, which was.
func (c *Coalescer) Continue(frame []byte) bool {
	if c.last < 0 || !c.groups[c.last].open {
		return false
	}
	g := &c.groups[c.last]
	h, first := g.headers, g.First
	if len(frame) <= h.Payload || !sameShape(first, frame, h.EtherType) {
		return false
	}
	h.End = len(frame)
	if h.Proto == ProtoUDP && (int(binary.BigEndian.Uint16(frame[h.L4+4:])) != len(frame)-h.L4 || frame[h.L4+6] == 0 && frame[h.L4+7] == 0) {
		return false
	}
	if !g.continues(frame, h) || !checksumsRight(frame, h) {
		return false
	}
	g.append(frame, h)
	return true
}

// sameShape compares two frames of TCP or UDP without options or extension headers: all of Ethernet and IP but lengths, identification
// and checksum, the ports, and that the second's IP packet ends with the frame.
func sameShape(first, frame []byte, etherType uint16) bool {
	const ip = EthernetHeader
	length := int(binary.BigEndian.Uint16(frame[ip+2:]))
	if etherType == TypeIPv6 {
		length = ipv6Header + int(binary.BigEndian.Uint16(frame[ip+4:]))
		return length == len(frame)-ip && bytes.Equal(first[:ip+4], frame[:ip+4]) && bytes.Equal(first[ip+6:ip+44], frame[ip+6:ip+44])
	}
	return length == len(frame)-ip && bytes.Equal(first[:ip+2], frame[:ip+2]) && bytes.Equal(first[ip+6:ip+10], frame[ip+6:ip+10]) &&
		bytes.Equal(first[ip+12:ip+24], frame[ip+12:ip+24])
}

// mergeable tells whether a frame may be part of a super-frame; ofFlow, whether it belongs to a flow whose order matters to one.
func (c *Coalescer) mergeable(frame []byte, h Headers) (mergeable, ofFlow bool) {
	if !h.Plain || h.Payload == 0 {
		return false, false
	}
	if h.Payload == h.End {
		return false, true
	}
	if h.Proto == ProtoTCP {
		const ack, ece = 0x10, 0x40
		return frame[h.L4+13]&^(ece|tcpFlagPSH) == ack && frame[h.L4+12]&0x0f == 0, true
	}
	l4 := frame[h.L4:]
	return int(binary.BigEndian.Uint16(l4[4:])) == len(l4) && (l4[6] != 0 || l4[7] != 0), true
}

// sameFlow compares the MAC addresses, the IP addresses, the protocol and the ports.
func sameFlow(g *Group, frame []byte, h Headers) bool {
	if g.headers.EtherType != h.EtherType || g.headers.Proto != h.Proto || g.headers.L4 != h.L4 || g.headers.Payload == 0 {
		return false
	}
	first := g.First
	return bytes.Equal(first[h.L4:h.L4+4], frame[h.L4:h.L4+4]) &&
		bytes.Equal(addresses(first, h.EtherType), addresses(frame, h.EtherType)) &&
		bytes.Equal(first[:EthernetHeader], frame[:EthernetHeader])
}

// continues tells whether a mergeable frame of the same flow is the group's next segment, with headers that differ in nothing that
// cutting would not make the same again.
func (g *Group) continues(frame []byte, h Headers) bool {
	payload := len(frame) - h.Payload
	if payload > g.size || g.headers.Payload != h.Payload || len(g.First)+g.total-g.size+payload > MaxFrame ||
		len(g.Rest)+2 > coalesceSegmentsMax {
		return false
	}
	first := g.First[EthernetHeader:]
	ip := frame[EthernetHeader:]
	if h.EtherType == TypeIPv4 {
		const dontFragment = 0x40
		if first[1] != ip[1] || first[6] != ip[6] || first[8] != ip[8] {
			return false
		}
		if ip[6]&dontFragment == 0 && binary.BigEndian.Uint16(ip[4:]) != g.lastID+1 {
			return false
		}
	} else if !bytes.Equal(first[:4], ip[:4]) || first[7] != ip[7] {
		return false
	}
	if h.Proto != ProtoTCP {
		return true
	}
	a, b := g.First[h.L4:], frame[h.L4:]
	// Acknowledgement, header length and ECE, window and options must agree.
	return binary.BigEndian.Uint32(b[4:]) == g.sequence && bytes.Equal(a[8:13], b[8:13]) && a[13]&^tcpFlagPSH == b[13]&^tcpFlagPSH &&
		bytes.Equal(a[14:16], b[14:16]) && bytes.Equal(a[18:h.Payload-h.L4], b[18:h.Payload-h.L4])
}

func (g *Group) append(frame []byte, h Headers) {
	payload := len(frame) - h.Payload
	g.Rest = append(g.Rest, frame[h.Payload:])
	g.total += payload
	g.sequence += uint32(payload)
	if h.EtherType == TypeIPv4 {
		g.lastID = binary.BigEndian.Uint16(frame[EthernetHeader+4:])
	}
	if h.Proto == ProtoTCP && frame[h.L4+13]&tcpFlagPSH != 0 {
		g.push = true
	}
	// A shorter segment, or one that asks to be pushed, is the last.
	g.open = payload == g.size && !g.push
}

// Finish makes the headers of all groups right for what they have become.
func (c *Coalescer) Finish() {
	for i := range c.groups[:c.used] {
		if g := &c.groups[i]; len(g.Rest) > 0 {
			g.finish()
		}
	}
}

func (g *Group) finish() {
	h := g.headers
	ip := g.First[EthernetHeader:]
	length := h.Payload - EthernetHeader + g.total
	l4 := g.First[h.L4:]
	l4Length := h.Payload - h.L4 + g.total
	field := uint16(16)
	if h.Proto == ProtoTCP {
		g.Header.GSOType = VirtioGSOTCPv4
		if h.EtherType == TypeIPv6 {
			g.Header.GSOType = VirtioGSOTCPv6
		}
		if g.push {
			l4[13] |= tcpFlagPSH
		}
	} else {
		field = 6
		g.Header.GSOType = VirtioGSOUDP
		binary.BigEndian.PutUint16(l4[4:], uint16(l4Length))
	}
	if h.EtherType == TypeIPv4 {
		binary.BigEndian.PutUint16(ip[2:], uint16(length))
		SetIPv4Checksum(ip)
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(length-ipv6Header))
	}
	g.Header.Flags = VirtioNeedsChecksum
	g.Header.HeaderLength = uint16(h.Payload)
	g.Header.SegmentSize = uint16(g.size)
	g.Header.ChecksumStart = uint16(h.L4)
	g.Header.ChecksumOffset = field
	binary.BigEndian.PutUint16(l4[field:], Fold(PseudoSum(addresses(g.First, h.EtherType), h.Proto, l4Length)))
}

func checksumsRight(frame []byte, h Headers) bool {
	if h.EtherType == TypeIPv4 && Fold(Sum(frame[EthernetHeader:h.L4], 0)) != 0xffff {
		return false
	}
	l4 := frame[h.L4:h.End]
	return Fold(Sum(l4, PseudoSum(addresses(frame, h.EtherType), h.Proto, len(l4)))) == 0xffff
}
