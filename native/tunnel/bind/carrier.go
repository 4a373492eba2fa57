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
	node  string
	conn  net.Conn
	binds func() []*Bind
	done  func(*Carrier)

	mu      sync.Mutex
	waiting sync.Cond
	queue   []byte
	spare   []byte
	closed  bool

	dropped atomic.Uint64
}

// NewCarrier takes over conn and closes it when it ends. A received packet goes to each of the binds: WireGuard knows its own by the index
// in it. done is called once, after the end.
func NewCarrier(node string, conn net.Conn, binds func() []*Bind, done func(*Carrier)) *Carrier {
	c := &Carrier{node: node, conn: conn, binds: binds, done: done}
	c.waiting.L = &c.mu
	go c.write()
	go c.read()
	return c
}

// Close ends the carrier.
func (c *Carrier) Close() {
	c.mu.Lock()
	was := c.closed
	c.closed = true
	c.mu.Unlock()
	c.waiting.Signal()
	_ = c.conn.Close()
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
	for {
		c.mu.Lock()
		for len(c.queue) == 0 && !c.closed {
			c.waiting.Wait()
		}
		if c.closed {
			c.mu.Unlock()
			return
		}
		chunk := c.queue
		c.queue, c.spare = c.spare[:0], nil
		c.mu.Unlock()
		if _, err := c.conn.Write(chunk); err != nil {
			return
		}
		c.mu.Lock()
		c.spare = chunk
		c.mu.Unlock()
	}
}

// carriedBatch is whole frames, read from one carrier or that came to a sibling's port from one address.
type carriedBatch struct {
	data []byte
	from *arrival
}

func (c *Carrier) read() {
	defer c.Close()
	buffer := make([]byte, 2+packetBytesMax+carryReadBytes)
	filled := 0
	for {
		n, err := c.conn.Read(buffer[filled:])
		filled += n
		used := 0
		for {
			whole := wholeFrames(buffer[used:filled])
			if whole == 0 {
				break
			}
			c.deliver(buffer[used : used+whole])
			used += whole
		}
		filled = copy(buffer, buffer[used:filled])
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
		if len(b)-used < size || used+size > 2+packetBytesMax {
			break
		}
		used += size
	}
	return used
}

var batches = sync.Pool{New: func() any { return &carriedBatch{data: make([]byte, 0, 2+packetBytesMax)} }}

func (c *Carrier) deliver(frames []byte) {
	for _, b := range c.binds() {
		batch := batches.Get().(*carriedBatch)
		batch.data = append(batch.data[:0], frames...)
		batch.from = &arrival{carrier: c, bind: b}
		b.hand(batch)
	}
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
				if arrivalOf(rest[0].Endpoint).destination != first.destination || len(batch.data)+2+len(p) > 2+packetBytesMax {
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
