package bind

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"github.com/tailscale/wireguard-go/conn"
	"golang.org/x/sys/unix"
)

// receiver is the receiving side of a socket. One goroutine of WireGuard reads; a second one comes when the socket changes hands.
type receiver struct {
	turn    chan struct{} // full while somebody reads: guards all of it, see Bind.take
	owner   *Bind
	socket  *socket
	message unix.Msghdr
	vector  unix.Iovec
	name    [nameBytes]byte
	control [controlBytes]byte
	read    func(fd uintptr) bool

	// One batch, while it is read.
	slab    []byte
	packets []conn.ReceivedPacket
	count   int
	failed  unix.Errno

	arrivals map[destination]*arrival
	last     *arrival
}

func (r *receiver) init(s *socket) {
	r.socket = s
	r.turn = make(chan struct{}, 1)
	r.read = r.drain
	r.arrivals = map[destination]*arrival{}
}

// receive waits for packets and returns as many as are there, as far as slab and packets have room. It returns os.ErrDeadlineExceeded when the
// socket has changed hands. The caller has the turn.
func (r *receiver) receive(b *Bind, slab []byte, packets []conn.ReceivedPacket) (int, error) {
	if r.owner != b {
		r.owner, r.last = b, nil
		clear(r.arrivals)
	}
	r.slab, r.packets, r.count, r.failed = slab, packets, 0, 0
	err := r.socket.raw.Read(r.read)
	r.slab, r.packets = nil, nil
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = r.socket.conn.SetReadDeadline(time.Time{})
		return 0, err
	}
	if err != nil {
		return 0, net.ErrClosed
	}
	if r.failed != 0 {
		return 0, r.failed
	}
	b.tick()
	return r.count, nil
}

// drain reads messages until there is none or no room; it is called by the runtime's poller until it returns true. The first message has
// the whole slab, the next ones follow right behind what has been read, so that small packets don't each pin a large buffer.
func (r *receiver) drain(fd uintptr) bool {
	used := 0
	for r.count == 0 || len(r.slab)-used >= datagramBytesMax && len(r.packets)-r.count >= segmentsMax {
		r.vector.Base = &r.slab[used]
		r.vector.SetLen(min(len(r.slab)-used, datagramBytesMax))
		r.message = unix.Msghdr{Name: &r.name[0], Namelen: nameBytes, Iov: &r.vector, Control: &r.control[0]}
		r.message.SetIovlen(1)
		r.message.SetControllen(controlBytes)
		n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&r.message)), unix.MSG_DONTWAIT)
		switch errno {
		case 0:
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return r.count > 0
		default:
			r.failed = errno
			return true
		}
		if r.message.Flags&unix.MSG_TRUNC != 0 || n == 0 {
			continue
		}
		used += r.take(used, int(n))
	}
	return true
}

// take notes the packets of one message that lies at an offset of the slab, and returns how many bytes of the slab it used.
func (r *receiver) take(at, n int) int {
	local, segment := readControl(r.control[:min(int(r.message.Controllen), controlBytes)])
	if segment <= 0 || segment > n {
		segment = n
	}
	from := r.arrivalOf(name(&r.name, r.socket.is6), local)
	for start := 0; start < n && r.count < len(r.packets); start += segment {
		size := min(segment, n-start)
		packet := conn.ReceivedPacket{Offset: at + start, Size: size, Endpoint: from}
		if index, ok := initiation(r.slab[at+start : at+start+size]); ok {
			packet.Endpoint = from.ofInitiation(index)
		}
		r.packets[r.count] = packet
		r.count++
	}
	return n
}

// initiation tells whether a packet begins a handshake, and its sender's index.
func initiation(packet []byte) (index uint32, ok bool) {
	const initiationBytes = 148
	if len(packet) != initiationBytes || binary.LittleEndian.Uint32(packet) != messageInitiation {
		return 0, false
	}
	return binary.LittleEndian.Uint32(packet[4:]), true
}

func (r *receiver) arrivalOf(addr netip.AddrPort, local netip.Addr) *arrival {
	d := destination{addr, local}
	if r.last != nil && r.last.destination == d {
		return r.last
	}
	a := r.arrivals[d]
	if a == nil {
		if len(r.arrivals) >= arrivalsMax {
			clear(r.arrivals)
		}
		a = &arrival{destination: d, bind: r.owner}
		r.arrivals[d] = a
	}
	r.last = a
	return a
}
