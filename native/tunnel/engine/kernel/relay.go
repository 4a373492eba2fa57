package kernel

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"selvedge.dev/tunnel/state"
)

// relay stands between the kernel's WireGuard and a stream that the daemon carries: for a peer without a direct path, WireGuard is given
// the relay's address on the loopback as the peer's. What does not fit the bounded queue is dropped, the newest first: WireGuard expects
// loss, not delay.
type relay struct {
	socket *net.UDPConn
	done   sync.WaitGroup

	mu      sync.Mutex
	ports   []uint16 // of our WireGuard devices: who may speak to the relay, and whom it speaks to
	stream  net.Conn
	pending []byte // frames of [u16 length][packet] that wait for the stream
	wake    chan struct{}
	dropped uint64
	heard   time.Time
	closed  bool
}

func newRelay() (*relay, error) {
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("no socket for a carried peer: %w", err)
	}
	r := &relay{socket: socket, wake: make(chan struct{}, 1)}
	r.done.Go(r.collect)
	return r, nil
}

// endpoint is where WireGuard finds the relay.
func (r *relay) endpoint() state.Endpoint {
	address := r.socket.LocalAddr().(*net.UDPAddr).AddrPort()
	return state.Endpoint{Host: address.Addr().Unmap(), Port: address.Port()}
}

func (r *relay) setPorts(ports []uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ports = ports
}

// attach gives the relay a stream; the one before is closed.
func (r *relay) attach(stream net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stream != nil {
		_ = r.stream.Close()
	}
	if r.closed {
		_ = stream.Close()
		return
	}
	r.stream, r.pending, r.wake = stream, nil, make(chan struct{}, 1)
	wake := r.wake
	r.done.Go(func() { r.send(stream, wake) })
	r.done.Go(func() { r.deliver(stream, wake) })
}

func (r *relay) close() {
	r.mu.Lock()
	r.closed = true
	if r.stream != nil {
		_ = r.stream.Close()
	}
	_ = r.socket.Close()
	r.mu.Unlock()
	r.done.Wait()
}

// detach forgets a stream that has ended.
func (r *relay) detach(stream net.Conn, wake chan struct{}) {
	_ = stream.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stream == stream {
		r.stream, r.pending = nil, nil
	}
	signal(wake)
}

// collect takes what WireGuard sends to the peer, and queues it.
func (r *relay) collect() {
	packet := make([]byte, packetBytesMax)
	for {
		n, from, err := r.socket.ReadFromUDPAddrPort(packet)
		if err != nil {
			return
		}
		r.push(packet[:n], from.Port())
	}
}

func (r *relay) push(packet []byte, from uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.ports, from) {
		// Some other process of this host; nobody else reaches the loopback.
		return
	}
	if r.stream == nil || len(r.pending)+2+len(packet) > relayBytesMax {
		r.dropped++
		return
	}
	r.pending = append(binary.BigEndian.AppendUint16(r.pending, uint16(len(packet))), packet...)
	signal(r.wake)
}

// send writes what is queued, all that there is at once.
func (r *relay) send(stream net.Conn, wake chan struct{}) {
	defer r.detach(stream, wake)
	var sending []byte
	for range wake {
		r.mu.Lock()
		current := r.stream == stream
		if current {
			sending, r.pending = r.pending, sending[:0]
		}
		r.mu.Unlock()
		if !current {
			return
		}
		if _, err := stream.Write(sending); err != nil {
			return
		}
	}
}

// deliver reads frames and hands the packets to WireGuard; while keys rotate to both devices, of which one knows it.
func (r *relay) deliver(stream net.Conn, wake chan struct{}) {
	defer r.detach(stream, wake)
	reader := bufio.NewReaderSize(stream, packetBytesMax)
	packet := make([]byte, packetBytesMax)
	for {
		if _, err := io.ReadFull(reader, packet[:2]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(packet))
		if _, err := io.ReadFull(reader, packet[:n]); err != nil {
			return
		}
		r.mu.Lock()
		ports := r.ports
		r.heard = time.Now()
		r.mu.Unlock()
		for _, port := range ports {
			// A full socket of WireGuard's drops it, as a line would.
			_, _ = r.socket.WriteToUDPAddrPort(packet[:n], netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port))
		}
	}
}

func (r *relay) counts() (dropped uint64, heard time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped, r.heard
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// pathOf is the path that a peer's packets are to take.
func (e *Engine) pathOf(p *state.Peer) string {
	if path, told := e.paths[p.Node]; told {
		return path
	}
	return p.Path
}

// ensureRelays has a relay for each peer that is carried or has a stream, and closes those of peers that are gone.
func (e *Engine) ensureRelays() (failures []state.Failure) {
	ports := make([]uint16, len(e.devices))
	for i := range e.devices {
		ports[i] = e.devices[i].key.ListenPort
	}
	wanted := map[string]bool{}
	for i := range e.desired.Peers {
		p := &e.desired.Peers[i]
		wanted[p.Node] = true
		if e.pathOf(p) != state.PathCarried {
			continue
		}
		if _, err := e.relayOf(p.Node); err != nil {
			failures = append(failures, failed("peer "+p.Node, err))
		}
	}
	for node, r := range e.relays {
		if !wanted[node] {
			r.close()
			delete(e.relays, node)
			continue
		}
		r.setPorts(ports)
	}
	return failures
}

func (e *Engine) relayOf(node string) (*relay, error) {
	if r := e.relays[node]; r != nil {
		return r, nil
	}
	r, err := newRelay()
	if err != nil {
		return nil, err
	}
	e.relays[node] = r
	return r, nil
}
