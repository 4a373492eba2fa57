package user

import (
	"bytes"
	"sync"

	"golang.org/x/sys/unix"

	"selvedge.dev/tunnel/packet"
	"selvedge.dev/tunnel/state"
	"selvedge.dev/tunnel/switching"
	"selvedge.dev/tunnel/vxlan"

	"net/netip"
)

// sink is the working memory of one Write: judge, coalesce, give to the TAP.
type sink struct {
	*packet.Coalescer
	lane    *lane
	network *switching.Network
	vectors [2 + batchFrames]unix.Iovec
	header  [packet.VirtioHeaderSize]byte

	packets, bytes int // accepted, not yet counted

	// The last frame that was accepted in full: one with the same addresses needs no second look.
	last       []byte
	lastSource int
}

// sinks keeps them; one is in use for each peer that is being heard at this moment.
type sinks struct {
	mu   sync.Mutex
	free []*sink
}

func (s *sinks) get() *sink {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		k := s.free[n-1]
		s.free = s.free[:n-1]
		return k
	}
	return &sink{Coalescer: packet.NewCoalescer(batchFrames)}
}

func (s *sinks) put(k *sink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, k)
}

// deliver takes packets that WireGuard has opened: their outer source is the sender's VTEP. They are changed in place.
func (e *Engine) deliver(bufs [][]byte, offset int) {
	plane, now := e.plane.Load(), e.clock()
	k := e.sinks.get()
	for _, b := range bufs {
		p, ok := vxlan.Parse(b[offset:])
		if !ok || p.Destination != plane.vtep {
			plane.refuse(p.Source, b[offset:], switching.Malformed)
			continue
		}
		l := plane.byVNI[p.VNI]
		if l == nil {
			plane.refuse(p.Source, nil, switching.WrongVNI)
			continue
		}
		if l != k.lane || k.Full() {
			k.flush()
			k.lane, k.network = l, l.network.Load()
		}
		if k.Continue(p.Frame) {
			k.packets, k.bytes = k.packets+1, k.bytes+len(p.Frame)
			continue
		}
		e.accept(k, p, now)
	}
	k.flush()
	k.lane, k.network = nil, nil
	e.sinks.put(k)
}

func (e *Engine) accept(k *sink, p vxlan.Parsed, now int64) {
	n := k.network
	h, fault := packet.Parse(p.Frame)
	if fault != packet.Whole {
		n.Refuse(switching.FromFault(fault))
		return
	}
	if !k.likeLast(p.Frame, h) {
		reason, news := n.FromPeer(p.Frame, h, p.Source, now)
		if reason != switching.Accepted {
			n.Refuse(reason)
			return
		}
		if news {
			e.tell(state.Event{Event: state.EventNeighbor, Data: state.NeighborEvent{
				Network: n.Name, MAC: state.MAC(packet.SourceMAC(p.Frame)), VTEP: netip.AddrFrom4(p.Source)}})
		}
		k.remember(p.Frame, h)
	}
	k.packets, k.bytes = k.packets+1, k.bytes+len(p.Frame)
	if h.Proto == packet.ProtoUDP && k.lane.noUDP.Load() {
		h.Plain = false
	}
	k.Add(p.Frame, h)
}

// likeLast holds for unicast TCP and UDP only: ARP, ND and what is flooded are judged one by one. All frames of one Write are of one peer.
func (k *sink) likeLast(frame []byte, h packet.Headers) bool {
	if k.last == nil || h.Proto != packet.ProtoTCP && h.Proto != packet.ProtoUDP {
		return false
	}
	end := packet.EthernetHeader + 8 + 16
	at := packet.EthernetHeader + 8
	if h.EtherType == packet.TypeIPv4 {
		at, end = packet.EthernetHeader+12, packet.EthernetHeader+16
	}
	return end == k.lastSource && bytes.Equal(frame[:packet.EthernetHeader], k.last[:packet.EthernetHeader]) &&
		bytes.Equal(frame[at:end], k.last[at:end])
}

func (k *sink) remember(frame []byte, h packet.Headers) {
	k.last = nil
	if packet.IsMulticastMAC(packet.DestinationMAC(frame)) {
		return
	}
	switch h.EtherType {
	case packet.TypeIPv4:
		k.last, k.lastSource = frame, packet.EthernetHeader+16
	case packet.TypeIPv6:
		k.last, k.lastSource = frame, packet.EthernetHeader+24
	}
}

// flush gives the frames to the TAP.
func (k *sink) flush() {
	k.last = nil
	if k.lane == nil {
		return
	}
	k.network.RxPackets.Add(uint64(k.packets))
	k.network.RxBytes.Add(uint64(k.bytes))
	k.packets, k.bytes = 0, 0
	k.Finish()
	groups := k.Groups()
	for i := range groups {
		g := &groups[i]
		errno := k.write(g)
		if errno == unix.EINVAL && g.Header.GSOType == packet.VirtioGSOUDP {
			// An older kernel: this super-frame is lost, as any datagram may be, and the next ones go one by one.
			k.lane.noUDP.Store(true)
		}
		if errno != 0 {
			k.network.Refuse(switching.QueueFull)
		}
	}
	k.Reset()
}

func (k *sink) write(g *packet.Group) unix.Errno {
	g.Header.Encode(k.header[:])
	k.vectors[0] = vector(k.header[:])
	k.vectors[1] = vector(g.First)
	for i, payload := range g.Rest {
		k.vectors[2+i] = vector(payload)
	}
	return k.lane.write(k.vectors[:2+len(g.Rest)])
}

func vector(b []byte) unix.Iovec {
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	return v
}
