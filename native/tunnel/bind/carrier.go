package bind

import (
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"

	"github.com/tailscale/wireguard-go/conn"
)

// Carrier carries the sealed packets of one node in a stream: frames of [length, 16 bits big-endian][packet]. What it is asked to send
// waits in a bounded queue; when that is full, the newest is dropped, as WireGuard expects loss and not delay.
type Carrier struct {
	node   string
	stream *stream
	binds  func() []*Bind
	done   func(*Carrier)

	mu      sync.Mutex
	waiting sync.Cond
	queue   []byte
	spare   []byte
	closed  bool

	dropped atomic.Uint64
}

// NewCarrier takes over conn and closes it when it ends. A received packet goes to each of the binds: WireGuard knows its own by the index
// in it. done is called once, after the end.
func NewCarrier(node string, conn *net.UnixConn, binds func() []*Bind, done func(*Carrier)) (*Carrier, error) {
	s, err := newStream(conn)
	if err != nil {
		return nil, err
	}
	c := &Carrier{node: node, stream: s, binds: binds, done: done}
	c.waiting.L = &c.mu
	go c.write()
	go c.read()
	return c, nil
}

// Close ends the carrier.
func (c *Carrier) Close() {
	c.mu.Lock()
	was := c.closed
	c.closed = true
	c.mu.Unlock()
	c.waiting.Signal()
	_ = c.stream.Close()
	if !was && c.done != nil {
		c.done(c)
	}
}

// Dropped is how many packets found no room.
func (c *Carrier) Dropped() uint64 { return c.dropped.Load() }

// enqueue never blocks. It returns how many packets it took.
func (c *Carrier) enqueue(bufs [][]byte, offset int) (taken int) {
	c.mu.Lock()
	for _, b := range bufs {
		b = b[offset:]
		if c.closed || len(b) > packetBytesMax || len(c.queue)+2+len(b) > carryQueueBytesMax {
			break
		}
		c.queue = binary.BigEndian.AppendUint16(c.queue, uint16(len(b)))
		c.queue = append(c.queue, b...)
		taken++
	}
	c.mu.Unlock()
	c.waiting.Signal()
	c.dropped.Add(uint64(len(bufs) - taken))
	return taken
}

func (c *Carrier) write() {
	defer c.Close()
	for c.wait() {
		c.mu.Lock()
		chunk := c.queue
		c.queue, c.spare = c.spare[:0], nil
		c.mu.Unlock()
		if _, err := c.stream.Write(chunk); err != nil {
			return
		}
		c.mu.Lock()
		c.spare = chunk
		c.mu.Unlock()
	}
}

// wait returns once something waits to be written; false if the carrier was closed.
func (c *Carrier) wait() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) == 0 && !c.closed {
		c.waiting.Wait()
	}
	return !c.closed
}

// carriedBatch is whole frames, read from one carrier or that came to a sibling's port from one address.
type carriedBatch struct {
	data []byte
	from *arrival
}

var batches = sync.Pool{New: func() any { return &carriedBatch{data: make([]byte, 0, carryBatchBytes)} }}

func (c *Carrier) read() {
	defer c.Close()
	batch := batches.Get().(*carriedBatch)
	defer func() { batches.Put(batch) }()
	filled := 0
	for {
		room := batch.data[:cap(batch.data)]
		n, err := c.stream.Read(room[filled:])
		filled += n
		for {
			whole := wholeFrames(room[:filled])
			if whole == 0 {
				break
			}
			next := batches.Get().(*carriedBatch)
			rest := next.data[:cap(next.data)]
			filled = copy(rest, room[whole:filled])
			batch.data = room[:whole]
			c.deliver(batch)
			batch, room = next, rest
		}
		if err != nil {
			return
		}
	}
}

// wholeFrames is how many bytes of b are whole frames that fit into one batch.
func wholeFrames(b []byte) (used int) {
	for range batchPackets {
		if len(b)-used < 2 {
			break
		}
		size := 2 + int(binary.BigEndian.Uint16(b[used:]))
		if len(b)-used < size || used+size > carryBatchBytes {
			break
		}
		used += size
	}
	return used
}

// deliver gives the first Bind the batch itself and the others copies; afterwards it is no longer the caller's.
func (c *Carrier) deliver(batch *carriedBatch) {
	binds := c.binds()
	if len(binds) == 0 {
		batches.Put(batch)
		return
	}
	for _, b := range binds[1:] {
		copied := batches.Get().(*carriedBatch)
		copied.data = append(copied.data[:0], batch.data...)
		copied.from = &arrival{carrier: c, bind: b}
		b.hand(copied)
	}
	batch.from = &arrival{carrier: c, bind: binds[0]}
	binds[0].hand(batch)
}

// hand gives WireGuard a batch; it waits while WireGuard is busy, and forgets the batch when the Bind is closed.
func (b *Bind) hand(batch *carriedBatch) {
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed != nil {
		select {
		case b.carried <- batch:
			return
		case <-closed:
		}
	}
	batches.Put(batch)
}

// share gives the siblings a copy of what came to this Bind's port.
func (b *Bind) share(slab []byte, packets []conn.ReceivedPacket) {
	for _, sibling := range *b.siblings.Load() {
		for rest := packets; len(rest) > 0; {
			batch := batches.Get().(*carriedBatch)
			batch.data = batch.data[:0]
			first := arrivalOf(rest[0].Endpoint)
			for len(rest) > 0 {
				p := rest[0].Bytes(slab)
				if arrivalOf(rest[0].Endpoint).destination != first.destination || len(batch.data)+2+len(p) > carryBatchBytes {
					break
				}
				batch.data = binary.BigEndian.AppendUint16(batch.data, uint16(len(p)))
				batch.data = append(batch.data, p...)
				rest = rest[1:]
			}
			batch.from = &arrival{destination: first.destination, bind: sibling}
			sibling.hand(batch)
		}
	}
}

func arrivalOf(e conn.Endpoint) *arrival { return e.(*arrival) }

// receiveCarried is the receive function of what does not come from this Bind's own sockets: by a carrier, or by a sibling's port.
func (b *Bind) receiveCarried(closed <-chan struct{}, slab []byte, packets []conn.ReceivedPacket) (int, error) {
	select {
	case <-closed:
		return 0, net.ErrClosed
	case batch := <-b.carried:
		defer batches.Put(batch)
		b.tick()
		data := slab[:copy(slab, batch.data)]
		count := 0
		for at := 0; at+2 <= len(data) && count < len(packets); {
			size := int(binary.BigEndian.Uint16(data[at:]))
			at += 2
			if size > len(data)-at {
				break
			}
			if size > 0 {
				packet := conn.ReceivedPacket{Offset: at, Size: size, Endpoint: batch.from}
				if index, ok := initiation(data[at : at+size]); ok {
					packet.Endpoint = batch.from.ofInitiation(index)
				}
				packets[count] = packet
				count++
			}
			at += size
		}
		batch.from = nil
		return count, nil
	}
}
