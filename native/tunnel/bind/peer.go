package bind

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// destination is a UDP address and the local address from which to send to it (sticky source). It is not changed once made.
type destination struct {
	addr   netip.AddrPort
	source netip.Addr
}

// Peer is the endpoint of one peer's key. It stays the same for WireGuard whatever path its packets take.
type Peer struct {
	Node string
	Key  Key
	bind *Bind

	to      atomic.Pointer[destination]
	carrier atomic.Pointer[Carrier]
	carried atomic.Bool

	mu         sync.Mutex
	candidates [candidatesMax]candidate
	next       int

	initiation atomic.Pointer[[]byte] // the last one sent, until the peer is heard

	heardDirect, heardCarried   atomic.Int64
	toldDirect, toldCarried     atomic.Int64
	rxPackets, txPackets, drops atomic.Uint64
}

// candidate is where an initiation came from. The peer is not known to be its sender until WireGuard answers it, and the answer names it
// by its index.
type candidate struct {
	index uint32
	from  *arrival
}

// Transport messages as they are on the wire.
const (
	messageInitiation = 1
	messageResponse   = 2
	messageTransport  = 4
	keepaliveBytes    = 32
)

// SetAddress says where the peer is, as the daemon knows it. An invalid address changes nothing.
func (p *Peer) SetAddress(addr netip.AddrPort) {
	if !addr.IsValid() {
		return
	}
	if old := p.to.Load(); old != nil && old.addr == addr {
		return
	}
	p.to.Store(&destination{addr: addr})
	p.initiateAgain()
}

// SetCarried chooses the path.
func (p *Peer) SetCarried(carried bool) {
	if p.carried.Swap(carried) != carried {
		p.initiateAgain()
	}
}

// SetCarrier gives the peer a stream; nil takes it away.
func (p *Peer) SetCarrier(c *Carrier) {
	if p.carrier.Swap(c) != c {
		p.initiateAgain()
	}
}

// initiateAgain sends an initiation that was not answered by the path that is new, because WireGuard itself waits 5 s before the next.
func (p *Peer) initiateAgain() {
	if packet := p.initiation.Load(); packet != nil {
		p.send([][]byte{*packet}, 0)
	}
}

// Path is the path in use and why it is not the one wished for; why is empty if it is.
func (p *Peer) Path() (path, why string) {
	hasAddress, hasCarrier := p.to.Load() != nil, p.carrier.Load() != nil
	switch {
	case p.carried.Load() && hasCarrier:
		return Carried, ""
	case p.carried.Load():
		return Carried, "no carrier: nothing is sent"
	case hasAddress:
		return Direct, ""
	case hasCarrier:
		return Carried, "no address is known"
	}
	return Direct, "no address is known: nothing is sent"
}

// Address is the peer's UDP address, if one is known.
func (p *Peer) Address() (netip.AddrPort, bool) {
	if to := p.to.Load(); to != nil {
		return to.addr, true
	}
	return netip.AddrPort{}, false
}

// Unanswered tells that an initiation was sent, and nothing of the peer was heard since.
func (p *Peer) Unanswered() bool { return p.initiation.Load() != nil }

// Counters are of sealed packets.
func (p *Peer) Counters() (rxPackets, txPackets, dropped uint64) {
	return p.rxPackets.Load(), p.txPackets.Load(), p.drops.Load()
}

// LastHeard is when an authenticated packet came by each path; zero for never.
func (p *Peer) LastHeard() (direct, carried time.Time) {
	return stamp(p.heardDirect.Load()), stamp(p.heardCarried.Load())
}

func (p *Peer) send(bufs [][]byte, offset int) {
	first := bufs[0][offset:]
	kind := binary.LittleEndian.Uint32(first)
	to, carrier := p.to.Load(), p.carrier.Load()
	carried := carrier != nil && (p.carried.Load() || to == nil)
	switch {
	case kind == messageInitiation:
		packet := bytes.Clone(first)
		p.initiation.Store(&packet)
	case kind == messageResponse:
		if p.initiation.Load() != nil && p.bind.hooks.Clash != nil {
			p.bind.hooks.Clash(p)
		}
		// The answer takes the way that the question came, and proves the peer's address.
		if from := p.answered(binary.LittleEndian.Uint32(first[8:])); from != nil {
			if from.carrier != nil {
				carrier, carried = from.carrier, true
			} else {
				to, carried = &from.destination, false
				p.to.Store(to)
			}
		}
	case carried && to != nil && kind == messageTransport && len(bufs) == 1 && len(first) == keepaliveBytes:
		// A keepalive tries the direct path too: if it is heard there, the daemon may return to it.
		_ = p.bind.sendDirect(bufs, offset, to)
	}
	switch {
	case carried:
		sent := carrier.enqueue(bufs, offset)
		p.txPackets.Add(uint64(sent))
		p.drops.Add(uint64(len(bufs) - sent))
	case to == nil || p.carried.Load():
		p.drops.Add(uint64(len(bufs)))
	default:
		p.sendTo(bufs, offset, to)
	}
}

func (p *Peer) sendTo(bufs [][]byte, offset int, to *destination) {
	err := p.bind.sendDirect(bufs, offset, to)
	if err != nil && to.source.IsValid() {
		// The source address may have gone from this host; let the kernel choose again.
		without := &destination{addr: to.addr}
		p.to.CompareAndSwap(to, without)
		err = p.bind.sendDirect(bufs, offset, without)
	}
	if err != nil {
		p.drops.Add(uint64(len(bufs)))
		return
	}
	p.txPackets.Add(uint64(len(bufs)))
}

func (p *Peer) noteInitiation(index uint32, from *arrival) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.candidates[p.next] = candidate{index, from}
	p.next = (p.next + 1) % candidatesMax
}

func (p *Peer) answered(index uint32) *arrival {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.candidates {
		if c.from != nil && c.index == index {
			return c.from
		}
	}
	return nil
}

// heard notes that WireGuard has authenticated a packet of this peer.
func (p *Peer) heard(from *arrival) {
	now := p.bind.now.Load()
	if p.initiation.Load() != nil {
		p.initiation.Store(nil)
	}
	if p.rxPackets.Add(1) == 1 && p.bind.hooks.First != nil {
		p.bind.hooks.First(p)
	}
	if p.bind.heard.Load() != now {
		p.bind.heard.Store(now)
	}
	last, told, path := &p.heardDirect, &p.toldDirect, Direct
	if from.carrier != nil {
		last, told, path = &p.heardCarried, &p.toldCarried, Carried
	} else if to := p.to.Load(); to != &from.destination && (to == nil || *to != from.destination) {
		p.to.Store(&from.destination)
	}
	if last.Load() == now {
		// The batch that this packet came with has been told of.
		return
	}
	silence := time.Duration(now - last.Swap(now))
	if before := told.Load(); now-before >= eventGapNS && told.CompareAndSwap(before, now) && p.bind.hooks.Heard != nil {
		p.bind.hooks.Heard(p, path, silence)
	}
}

// What follows is conn.Endpoint. WireGuard shows it to people and keys its cookies by it.

// ClearSrc lets the kernel choose the source address anew.
func (p *Peer) ClearSrc() {
	if to := p.to.Load(); to != nil && to.source.IsValid() {
		p.to.CompareAndSwap(to, &destination{addr: to.addr})
	}
}

// SrcIP is the sticky source address, if there is one.
func (p *Peer) SrcIP() netip.Addr {
	if to := p.to.Load(); to != nil {
		return to.source
	}
	return netip.Addr{}
}

func (p *Peer) SrcToString() string { return p.SrcIP().String() }
func (p *Peer) DstIP() netip.Addr   { addr, _ := p.Address(); return addr.Addr() }

func (p *Peer) DstToString() string {
	if addr, ok := p.Address(); ok {
		return addr.String()
	}
	return "0.0.0.0:0"
}

func (p *Peer) DstToBytes() []byte {
	addr, _ := p.Address()
	b, _ := addr.MarshalBinary()
	return b
}

// arrival is where a received packet came from. It is not changed once made but for the peer that WireGuard found behind it.
type arrival struct {
	destination
	carrier *Carrier
	bind    *Bind
	index   uint32 // of an initiation
	peer    atomic.Pointer[Peer]
}

// ofInitiation is the same place for one initiation, which its answer will name.
func (a *arrival) ofInitiation(index uint32) *arrival {
	return &arrival{destination: a.destination, carrier: a.carrier, bind: a.bind, index: index}
}

// FromPeer is called by WireGuard for an authenticated packet.
func (a *arrival) FromPeer(key [32]byte) {
	p := a.peer.Load()
	if p == nil || p.Key != key {
		if p = a.bind.Peer(key); p == nil {
			return
		}
		a.peer.Store(p)
	}
	p.heard(a)
}

// InitiationMessagePublicKey is called by WireGuard for an initiation that is not yet authenticated.
func (a *arrival) InitiationMessagePublicKey(key [32]byte) {
	if p := a.bind.Peer(key); p != nil {
		p.noteInitiation(a.index, a)
	}
}

func (a *arrival) ClearSrc()           {}
func (a *arrival) SrcIP() netip.Addr   { return a.source }
func (a *arrival) SrcToString() string { return a.source.String() }
func (a *arrival) DstIP() netip.Addr   { return a.addr.Addr() }
func (a *arrival) DstToString() string { return a.addr.String() }

func (a *arrival) DstToBytes() []byte {
	if a.carrier != nil {
		return []byte(a.carrier.node)
	}
	b, _ := a.addr.MarshalBinary()
	return b
}
