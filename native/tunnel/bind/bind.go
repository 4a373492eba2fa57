// Package bind moves sealed WireGuard packets: over UDP with segmentation offload both ways, or carried in a stream that the daemon
// gives. It implements wireguard-go's conn.Bind.
//
// WireGuard-go is given one endpoint per peer that never changes, a *Peer; where its packets go (an address that roams, or a carrier) is
// decided here, packet batch by packet batch, so that changing a path touches neither handshake nor flow. Only a packet that WireGuard has
// authenticated moves a peer's address.
package bind

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailscale/wireguard-go/conn"
	"golang.org/x/sys/unix"
)

// Key is a WireGuard public key.
type Key = [32]byte

// Path names, as the daemon has them.
const (
	Direct  = "direct"
	Carried = "carried"
)

// Bind is one UDP port, IPv4 and IPv6, and the carried path. It belongs to one WireGuard device.
type Bind struct {
	mu     sync.Mutex
	v4, v6 *socket
	mark   uint32
	closed chan struct{}
	moved  chan struct{} // closed when the sockets change hands

	carried  chan *carriedBatch
	siblings atomic.Pointer[[]*Bind] // see SetSiblings
	peers    atomic.Pointer[map[Key]*Peer]
	heard    atomic.Int64 // when a peer was last heard, see now
	now      atomic.Int64 // the time of the last batch received: near enough for ages, and free per packet
	hooks    Hooks
}

var _ conn.Bind = (*Bind)(nil)

// Hooks are called from the data path: they must not block.
type Hooks struct {
	// Heard: an authenticated packet of a peer has come by a path, with the time since the one before it; at most once a second for each
	// peer and path.
	Heard func(p *Peer, path string, silence time.Duration)
	// First: it was the first since the peer was made.
	First func(p *Peer)
	// Clash: this host answers a peer's initiation while its own is not answered. If both did so at once, neither answer is good for
	// anything (each has overwritten its own handshake), and somebody must begin again.
	Clash func(p *Peer)
}

// New makes a closed Bind.
func New(hooks Hooks) *Bind {
	b := &Bind{moved: make(chan struct{}), carried: make(chan *carriedBatch, carryBatches), hooks: hooks}
	b.siblings.Store(&[]*Bind{})
	b.peers.Store(&map[Key]*Peer{})
	return b
}

// Open is called by WireGuard when the device comes up.
func (b *Bind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.v4 != nil || b.v6 != nil {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	wanted := port
	v4, port4, err4 := openSocket("udp4", wanted, b.mark)
	if err4 == nil {
		port = port4
	}
	v6, port6, err6 := openSocket("udp6", port, b.mark)
	for range anyPortTries {
		if wanted != 0 || err4 != nil || !errors.Is(err6, unix.EADDRINUSE) {
			break
		}
		_ = v4.close()
		if v4, port, err4 = openSocket("udp4", 0, b.mark); err4 == nil {
			v6, port6, err6 = openSocket("udp6", port, b.mark)
		}
	}
	switch {
	case err4 != nil && err6 != nil:
		return nil, 0, errors.Join(err4, err6)
	case err4 != nil && !noSuchFamily(err4):
		_ = v6.close()
		return nil, 0, err4
	case err6 != nil && !noSuchFamily(err6):
		_ = v4.close()
		return nil, 0, err6
	case err4 != nil:
		port = port6
	}
	b.v4, b.v6, b.closed = v4, v6, make(chan struct{})
	closed := b.closed
	var receivers []conn.ReceiveFunc
	if v4 != nil {
		receivers = append(receivers, func(slab []byte, packets []conn.ReceivedPacket) (int, error) {
			return b.receiveUDP(func() *socket { return b.v4 }, closed, slab, packets)
		})
	}
	if v6 != nil {
		receivers = append(receivers, func(slab []byte, packets []conn.ReceivedPacket) (int, error) {
			return b.receiveUDP(func() *socket { return b.v6 }, closed, slab, packets)
		})
	}
	receivers = append(receivers, func(slab []byte, packets []conn.ReceivedPacket) (int, error) {
		return b.receiveCarried(closed, slab, packets)
	})
	return receivers, port, nil
}

// Close ends the receive functions. The Bind can be opened again.
func (b *Bind) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, s := range []*socket{b.v4, b.v6} {
		if s != nil {
			errs = append(errs, s.close())
		}
	}
	if b.closed != nil {
		close(b.closed)
	}
	b.v4, b.v6, b.closed = nil, nil, nil
	return errors.Join(errs...)
}

// SetSiblings says which other Binds may know what to do with a packet that comes to this one's port: those of this host's other identities,
// while keys rotate and ports move. Each packet goes to all of them; WireGuard knows its own.
func (b *Bind) SetSiblings(siblings []*Bind) { b.siblings.Store(&siblings) }

// Swap exchanges the sockets of two open Binds, so that a port changes hands without a packet lost: what waits in a socket is read by its new
// owner, and given to the sibling if it is the other's.
func Swap(a, b *Bind) {
	a.mu.Lock()
	b.mu.Lock()
	a.v4, b.v4 = b.v4, a.v4
	a.v6, b.v6 = b.v6, a.v6
	sockets := []*socket{a.v4, a.v6, b.v4, b.v6}
	for _, one := range []*Bind{a, b} {
		close(one.moved)
		one.moved = make(chan struct{})
	}
	b.mu.Unlock()
	a.mu.Unlock()
	for _, s := range sockets {
		if s != nil {
			// Whoever waits in it looks again whose it is.
			_ = s.conn.SetReadDeadline(time.Unix(1, 0))
		}
	}
}

// receiveUDP is the receive function of one address family. The socket may change hands while it waits.
func (b *Bind) receiveUDP(pick func() *socket, closed <-chan struct{}, slab []byte, packets []conn.ReceivedPacket) (int, error) {
	for {
		s := b.take(pick, closed)
		if s == nil {
			return 0, net.ErrClosed
		}
		n, err := s.receive(b, slab, packets)
		<-s.turn
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if n > 0 {
			b.share(slab, packets[:n])
		}
		return n, err
	}
}

// take picks this Bind's socket and waits for the turn to read it; nil once the Bind is closed. Whoever has the turn had the socket when it began,
// and is interrupted by Swap afterwards: nobody waits for packets, or for a turn, at a socket that has become the other's, while its own is not read.
func (b *Bind) take(pick func() *socket, closed <-chan struct{}) *socket {
	for {
		b.mu.Lock()
		s, moved := pick(), b.moved
		b.mu.Unlock()
		if s == nil {
			return nil
		}
		select {
		case <-closed:
			return nil
		case <-moved:
			continue
		case s.turn <- struct{}{}:
		}
		b.mu.Lock()
		isMine := pick() == s
		b.mu.Unlock()
		if isMine {
			return s
		}
		<-s.turn
	}
}

// SetMark sets the firewall mark of what is sent over UDP.
func (b *Bind) SetMark(mark uint32) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mark = mark
	for _, s := range []*socket{b.v4, b.v6} {
		if s != nil {
			if err := s.setMark(mark); err != nil {
				return err
			}
		}
	}
	return nil
}

// BatchSize is the largest batch that the receive functions return.
func (b *Bind) BatchSize() int { return batchPackets }

const peerScheme = "peer:"

// EndpointText is what ParseEndpoint takes for a peer: an endpoint names a peer, not an address.
func EndpointText(key Key) string { return peerScheme + hex.EncodeToString(key[:]) }

// ParseEndpoint returns a peer made with AddPeer.
func (b *Bind) ParseEndpoint(s string) (conn.Endpoint, error) {
	text, ok := strings.CutPrefix(s, peerScheme)
	raw, err := hex.DecodeString(text)
	if !ok || err != nil || len(raw) != len(Key{}) {
		return nil, fmt.Errorf("an endpoint is set through selvedge-tunnel only")
	}
	p := b.Peer(Key(raw))
	if p == nil {
		return nil, errors.New("no such peer")
	}
	return p, nil
}

// AddPeer makes the endpoint of a peer, or returns the one there is.
func (b *Bind) AddPeer(node string, key Key) *Peer {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := *b.peers.Load()
	if p := old[key]; p != nil {
		return p
	}
	p := &Peer{Node: node, Key: key, bind: b}
	grown := maps.Clone(old)
	grown[key] = p
	b.peers.Store(&grown)
	return p
}

// RemovePeer forgets a peer's endpoint.
func (b *Bind) RemovePeer(key Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	shrunk := maps.Clone(*b.peers.Load())
	delete(shrunk, key)
	b.peers.Store(&shrunk)
}

// Peer is the endpoint of a peer, or nil.
func (b *Bind) Peer(key Key) *Peer { return (*b.peers.Load())[key] }

// Heard is when any peer was last heard; zero for never.
func (b *Bind) Heard() time.Time { return stamp(b.heard.Load()) }

func stamp(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

func (b *Bind) tick() { b.now.Store(time.Now().UnixNano()) }

// Send is called by WireGuard with packets that are sealed, in order, for one endpoint.
func (b *Bind) Send(bufs [][]byte, ep conn.Endpoint, offset int) error {
	switch e := ep.(type) {
	case *Peer:
		e.send(bufs, offset)
		return nil
	case *arrival:
		// A cookie reply goes back where the initiation came from.
		if e.carrier != nil {
			e.carrier.enqueue(bufs, offset)
			return nil
		}
		return b.sendDirect(bufs, offset, &e.destination)
	}
	return conn.ErrWrongEndpointType
}

func (b *Bind) sendDirect(bufs [][]byte, offset int, to *destination) error {
	b.mu.Lock()
	s := b.v4
	if to.addr.Addr().Is6() {
		s = b.v6
	}
	b.mu.Unlock()
	if s == nil {
		return net.ErrClosed
	}
	return s.send(bufs, offset, to)
}
