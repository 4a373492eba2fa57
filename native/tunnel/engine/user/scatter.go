package user

import (
	"unsafe"

	"github.com/tailscale/wireguard-go/tun"
	"golang.org/x/sys/unix"

	"selvedge.dev/tunnel/packet"
	"selvedge.dev/tunnel/switching"
	"selvedge.dev/tunnel/vxlan"
)

// A bulk flow's super-frames look alike: headers of one length, segments of one size. scatter reads the next one so that each segment's payload
// lands in its place in the batch, and only headers have to be written before it; that saves a copy of everything. What does not look as
// expected is put together again and goes the usual way.
type scatter struct {
	head    [packet.VirtioHeaderSize + headMax]byte
	spill   []byte // what has no place in the batch; it starts behind room for headers
	vectors [2 + scatterSegmentsMax]unix.Iovec
	slots   int
}

// shape is what a lane's next super-frame is expected to look like.
type shape struct {
	head, size int
	misses     int
}

func (s *shape) learn(v packet.VirtioHeader, h packet.Headers) {
	if v.GSOType == packet.VirtioGSONone || h.Payload == 0 || h.Payload > headMax || v.SegmentSize < scatterSizeMin {
		if s.misses++; s.misses > shapeMissesMax {
			*s = shape{}
		}
		return
	}
	*s = shape{head: h.Payload, size: int(v.SegmentSize)}
}

// read takes one frame of the lane by scattering it over the batch.
func (s *scatter) read(l *lane, b *batch) (int, unix.Errno) {
	if s.spill == nil {
		s.spill = make([]byte, packet.MaxFrame)
	}
	s.vectors[0] = vector(s.head[:packet.VirtioHeaderSize+l.shape.head])
	s.slots = 0
	stride := vxlan.Overhead + l.shape.head + l.shape.size + tun.ReadPacketSpacing
	for at := b.at; s.slots < scatterSegmentsMax && b.count+s.slots < len(b.packets) && at+stride <= len(b.slab); at += stride {
		payload := at + vxlan.Overhead + l.shape.head
		s.vectors[1+s.slots] = vector(b.slab[payload : payload+l.shape.size])
		s.slots++
	}
	s.vectors[1+s.slots] = vector(s.spill)
	return l.readv(s.vectors[:2+s.slots])
}

// gather copies what was scattered into one piece, and returns it.
func (s *scatter) gather(dst []byte, n int) []byte {
	at := 0
	for i := 0; at < n; i++ {
		v := s.vectors[i]
		at += copy(dst[at:n], unsafe.Slice(v.Base, v.Len))
	}
	return dst[:n]
}

// takeScattered judges a scattered frame and makes packets of it in place; false if it has to go the usual way.
func (s *source) takeScattered(p *port, l *lane, b *batch, n int) bool {
	c := &s.scatter
	head := c.head[:min(n, packet.VirtioHeaderSize+l.shape.head)]
	v, frame, ok := packet.DecodeVirtio(head)
	if !ok || v.GSOType == packet.VirtioGSONone || int(v.SegmentSize) != l.shape.size {
		return false
	}
	length := n - packet.VirtioHeaderSize
	h, fault := packet.ParseHead(frame, length)
	network := l.network.Load()
	if fault != packet.Whole || h.Payload != l.shape.head || h.End != length || h.Payload+l.shape.size-packet.EthernetHeader > network.MTU {
		return false
	}
	verdict := network.FromHost(frame, h, wireFrames(v, h), s.e.clock())
	if verdict.Reason != switching.Accepted {
		network.Refuse(verdict.Reason)
		return true
	}
	if verdict.Flood || verdict.Answer || s.e.routes.Load().via(verdict.To, p) != p {
		return false
	}
	j := &s.job
	if j.StartHead(v, frame, h) != packet.Whole {
		return false
	}
	j.begin(l, network, verdict, packet.FlowHash(frame, h))
	plane := s.e.plane.Load()
	payload, sent, bytes := length-h.Payload, 0, 0
	for ; sent < c.slots && payload > 0; sent++ {
		size := min(payload, l.shape.size)
		payload -= size
		room := b.room(vxlan.Overhead + h.Payload + size)
		j.Head(room[vxlan.Overhead:], payload == 0)
		j.wrap(room, plane.vtep)
		b.taken(len(room))
		bytes += len(room) - vxlan.Overhead
	}
	network.TxPackets.Add(uint64(sent))
	network.TxBytes.Add(uint64(bytes))
	j.SetRest(c.spill[:payload])
	return true
}
