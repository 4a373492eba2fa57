package user

import (
	"os"
	"sync"
	"sync/atomic"

	"github.com/tailscale/wireguard-go/tun"
)

// port is what WireGuard takes for its TUN device: one for each identity. The identity that is newest reads the TAPs; the others get what
// goes to peers that don't know the newest yet, through a queue.
type port struct {
	e         *Engine
	events    chan tun.Event
	closed    chan struct{}
	closeOnce sync.Once
	mtu       atomic.Int32
	queue     chan []byte
	looked    chan struct{} // told to look who reads now
}

var _ tun.Device = (*port)(nil)

func newPort(e *Engine, mtu int) *port {
	p := &port{e: e, events: make(chan tun.Event, 4), closed: make(chan struct{}), queue: make(chan []byte, queuePackets), looked: make(chan struct{}, 1)}
	p.mtu.Store(int32(mtu))
	return p
}

// Read is called by one goroutine of WireGuard.
func (p *port) Read(slab []byte, packets []tun.ReadPacket) (int, error) {
	for {
		select {
		case <-p.closed:
			return 0, os.ErrClosed
		default:
		}
		n := 0
		if p.e.reader.Load() == p {
			s := p.e.source
			s.reading.Lock()
			if p.e.reader.Load() == p {
				n = s.read(p, slab, packets)
			}
			s.reading.Unlock()
		} else {
			n = p.readQueue(slab, packets)
		}
		if n > 0 {
			return n, nil
		}
	}
}

func (p *port) readQueue(slab []byte, packets []tun.ReadPacket) int {
	b := batch{slab: slab, packets: packets[:min(len(packets), batchFrames)], at: tun.ReadPacketSpacing}
	take := func(packet []byte) {
		if room := b.room(len(packet)); room != nil {
			copy(room, packet)
			b.taken(len(packet))
		}
	}
	select {
	case <-p.closed:
		return 0
	case <-p.looked:
		return 0
	case packet := <-p.queue:
		take(packet)
	}
	// A queued packet is at most one IP packet long, and half of the slab holds that.
	for b.count < len(b.packets) && len(slab)-b.at > len(slab)/2 {
		select {
		case packet := <-p.queue:
			take(packet)
		default:
			return b.count
		}
	}
	return b.count
}

// buffer and push hand a packet over from the port that reads. It happens only while keys rotate, so it may allocate.
func (p *port) buffer(length int) []byte { return make([]byte, length) }

func (p *port) push(packet []byte) {
	select {
	case p.queue <- packet:
	case <-p.closed:
	}
}

// look makes the port see who reads now.
func (p *port) look() {
	select {
	case p.looked <- struct{}{}:
	default:
	}
}

// Write is called by WireGuard with opened packets of one peer, in order; by several goroutines for several peers.
func (p *port) Write(bufs [][]byte, offset int) (int, error) {
	p.e.deliver(bufs, offset)
	return len(bufs), nil
}

// MTU is WireGuard's, up to which it pads: that of the TAPs and the headers of VXLAN.
func (p *port) MTU() (int, error)        { return int(p.mtu.Load()), nil }
func (p *port) Name() (string, error)    { return "selvedge", nil }
func (p *port) File() *os.File           { return nil }
func (p *port) BatchSize() int           { return batchFrames }
func (p *port) Events() <-chan tun.Event { return p.events }

func (p *port) setMTU(mtu int) {
	if p.mtu.Swap(int32(mtu)) != int32(mtu) {
		select {
		case p.events <- tun.EventMTUUpdate:
		default:
		}
	}
}

// Close is called by WireGuard when the device closes.
func (p *port) Close() error {
	p.closeOnce.Do(func() {
		close(p.closed)
		close(p.events)
		p.e.source.interrupt()
	})
	return nil
}
