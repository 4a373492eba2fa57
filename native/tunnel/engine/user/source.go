package user

import (
	"os"
	"sync"
	"syscall"

	"github.com/tailscale/wireguard-go/tun"
	"golang.org/x/sys/unix"

	"selvedge.dev/tunnel/packet"
	"selvedge.dev/tunnel/switching"
	"selvedge.dev/tunnel/vxlan"
)

// source reads the TAPs, judges what they hand over, and cuts it into packets for WireGuard. One port reads at a time.
type source struct {
	e     *Engine
	epoll int
	wake  int // an eventfd in the epoll: readers look up
	file  *os.File
	poll  syscall.RawConn

	lanesMu sync.Mutex
	lanes   map[int32]*lane // by descriptor

	reading sync.Mutex // held by the port that reads; guards what follows
	events  [epollEventsMax]unix.EpollEvent
	found   int
	look    func(uintptr) bool
	ready   []*lane // TAPs that may have a frame, in turn
	buffer  []byte
	job     job
	scatter scatter
	answer  []byte
}

// job is the frame that is being cut. It outlives a batch when the batch is full.
type job struct {
	packet.Cutter
	lane    *lane
	network *switching.Network
	flow    uint32
	to      switching.IPv4
	peers   []switching.IPv4 // of a flooded frame; nil for one with one destination
	peer    int
	segment []byte // of a flooded frame, cut once for all peers
	length  int
	// The outer headers of the last packet: the next one's are the same if it is as long and goes to the same peer.
	outer       [vxlan.Overhead]byte
	outerTo     switching.IPv4
	outerLength int
}

// begin says where the packets of the frame go that the Cutter has just taken up.
func (j *job) begin(l *lane, n *switching.Network, v switching.Verdict, flow uint32) {
	j.lane, j.network, j.to, j.peers, j.peer, j.length, j.flow, j.outerLength = l, n, v.To, nil, 0, 0, flow, 0
	if v.Flood {
		j.peers = n.Peers()
	}
}

// wrap writes the outer headers of a packet, the room for which precedes its frame.
func (j *job) wrap(room []byte, from switching.IPv4) {
	if len(room) != j.outerLength || j.to != j.outerTo {
		vxlan.Put(j.outer[:], from, j.to, j.network.VNI, j.flow, len(room)-vxlan.Overhead)
		j.outerLength, j.outerTo = len(room), j.to
	}
	copy(room, j.outer[:])
}

func (j *job) pending() bool { return !j.Done() || j.length > 0 }

func newSource(e *Engine) (*source, error) {
	s := &source{e: e, lanes: map[int32]*lane{}}
	var err error
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if s.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		_ = unix.Close(s.epoll)
		return nil, err
	}
	if err = s.register(s.wake); err == nil {
		// An epoll descriptor can itself be polled, so a reader waits in the runtime's poller and holds no thread.
		if err = unix.SetNonblock(s.epoll, true); err == nil {
			s.file = os.NewFile(uintptr(s.epoll), "epoll")
			s.poll, err = s.file.SyscallConn()
		}
	}
	if err != nil {
		s.close()
		return nil, err
	}
	s.look = s.lookOnce
	s.buffer = make([]byte, packet.VirtioHeaderSize+packet.MaxFrame)
	s.answer = make([]byte, packet.VirtioHeaderSize+switching.AnswerMax)
	return s, nil
}

func (s *source) register(fd int) error {
	return unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (s *source) add(l *lane) error {
	s.lanesMu.Lock()
	defer s.lanesMu.Unlock()
	s.lanes[int32(l.fd)] = l
	if err := s.register(l.fd); err != nil {
		delete(s.lanes, int32(l.fd))
		return err
	}
	return nil
}

func (s *source) remove(l *lane) {
	s.lanesMu.Lock()
	delete(s.lanes, int32(l.fd))
	_ = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, l.fd, nil)
	s.lanesMu.Unlock()
	l.close()
}

// interrupt makes a waiting reader return.
func (s *source) interrupt() {
	_, _ = unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

func (s *source) close() {
	_ = unix.Close(s.wake)
	if s.file != nil {
		_ = s.file.Close()
		return
	}
	_ = unix.Close(s.epoll)
}

// read fills a batch. It waits until there is something to return, and returns 0 when it was interrupted.
func (s *source) read(p *port, slab []byte, packets []tun.ReadPacket) int {
	if len(s.ready) > 0 {
		// A TAP that is always ready must not hide the others.
		s.lookOnce(0)
		s.collect()
	}
	b := batch{slab: slab, packets: packets[:min(len(packets), batchFrames)], at: tun.ReadPacketSpacing}
	for {
		if s.job.pending() && !s.emit(p, &b) {
			return b.count
		}
		if len(s.ready) == 0 {
			if b.count > 0 {
				return b.count
			}
			if !s.wait() {
				return 0
			}
			continue
		}
		l := s.ready[0]
		switch errno := s.next(p, l, &b); {
		case errno == unix.EINTR:
		case errno != 0:
			l.ready = false
			s.ready = s.ready[:copy(s.ready, s.ready[1:])]
		default:
			if len(s.ready) > 1 {
				copy(s.ready, s.ready[1:])
				s.ready[len(s.ready)-1] = l
			}
		}
	}
}

// next reads and takes one frame of a lane.
func (s *source) next(p *port, l *lane, b *batch) unix.Errno {
	if l.shape.size == 0 || b.count == len(b.packets) {
		n, errno := l.read(s.buffer)
		if errno == 0 {
			s.take(l, s.buffer[:n])
		}
		return errno
	}
	n, errno := s.scatter.read(l, b)
	if errno == 0 && !s.takeScattered(p, l, b, n) {
		s.take(l, s.scatter.gather(s.buffer, n))
	}
	return errno
}

// wait finds the TAPs that have something; false if it was interrupted or closed.
func (s *source) wait() bool {
	s.found = 0
	if s.poll.Read(s.look) != nil {
		return false
	}
	return s.collect()
}

// collect puts the TAPs found in turn; false if the reader was interrupted.
func (s *source) collect() bool {
	interrupted := false
	s.lanesMu.Lock()
	defer s.lanesMu.Unlock()
	for _, event := range s.events[:s.found] {
		if event.Fd == int32(s.wake) {
			var drained [8]byte
			_, _ = unix.Read(s.wake, drained[:])
			interrupted = true
		} else if l := s.lanes[event.Fd]; l != nil && !l.ready {
			l.ready = true
			s.ready = append(s.ready, l)
		}
	}
	s.found = 0
	return !interrupted
}

func (s *source) lookOnce(uintptr) bool {
	n, err := unix.EpollWait(s.epoll, s.events[:], 0)
	if err != nil {
		return err != unix.EINTR
	}
	s.found = n
	return n > 0
}

// take judges a frame, and makes it the job if it is to go anywhere.
func (s *source) take(l *lane, b []byte) {
	n := l.network.Load()
	v, frame, ok := packet.DecodeVirtio(b)
	if !ok {
		n.Refuse(switching.Malformed)
		return
	}
	h, fault := packet.Parse(frame)
	if fault != packet.Whole {
		n.Refuse(switching.FromFault(fault))
		return
	}
	l.shape.learn(v, h)
	verdict := n.FromHost(frame, h, wireFrames(v, h), s.e.clock())
	switch {
	case verdict.Reason != switching.Accepted:
		n.Refuse(verdict.Reason)
		return
	case verdict.Answer:
		s.reply(l, n, frame, h)
		return
	case wireLength(v, h, len(frame))-packet.EthernetHeader > n.MTU:
		n.Refuse(switching.TooBig)
		return
	case verdict.Flood && len(n.Peers()) == 0:
		return
	}
	if fault := s.job.Start(v, frame, h); fault != packet.Whole {
		s.job.Cutter = packet.Cutter{}
		n.Refuse(switching.FromFault(fault))
		return
	}
	s.job.begin(l, n, verdict, packet.FlowHash(frame, h))
}

// wireFrames is how many packets a frame will be, and wireLength how long the longest of them.
func wireFrames(v packet.VirtioHeader, h packet.Headers) int {
	if v.GSOType == packet.VirtioGSONone || v.SegmentSize == 0 || h.Payload == 0 {
		return 1
	}
	return max(1, (h.End-h.Payload+int(v.SegmentSize)-1)/int(v.SegmentSize))
}

func wireLength(v packet.VirtioHeader, h packet.Headers, length int) int {
	if v.GSOType == packet.VirtioGSONone || v.SegmentSize == 0 || h.Payload == 0 {
		return length
	}
	return min(length, h.Payload+int(v.SegmentSize))
}

func (s *source) reply(l *lane, n *switching.Network, frame []byte, h packet.Headers) {
	clear(s.answer[:packet.VirtioHeaderSize])
	length := n.Answer(s.answer[packet.VirtioHeaderSize:], frame, h)
	if length == 0 {
		return
	}
	v := unix.Iovec{Base: &s.answer[0]}
	v.SetLen(packet.VirtioHeaderSize + length)
	l.write([]unix.Iovec{v})
}

// batch is what one Read fills.
type batch struct {
	slab    []byte
	packets []tun.ReadPacket
	count   int
	at      int
}

// room returns where a packet of this length goes, nil if it does not fit.
func (b *batch) room(length int) []byte {
	if b.count == len(b.packets) || b.at+length+tun.ReadPacketSpacing > len(b.slab) {
		return nil
	}
	return b.slab[b.at : b.at+length]
}

func (b *batch) taken(length int) {
	b.packets[b.count] = tun.ReadPacket{Offset: b.at, Size: length}
	b.count++
	b.at += length + tun.ReadPacketSpacing
}

// emit puts the job's packets into the batch; false if the batch is full before the job is done.
func (s *source) emit(p *port, b *batch) bool {
	j, routes, vtep := &s.job, s.e.routes.Load(), s.e.plane.Load().vtep
	packets, bytes := 0, 0
	defer func() {
		j.network.TxPackets.Add(uint64(packets))
		j.network.TxBytes.Add(uint64(bytes))
	}()
	for j.pending() {
		length := j.length
		if j.peers != nil {
			j.to = j.peers[j.peer]
		}
		if length == 0 {
			length = j.NextLength()
		}
		via := routes.via(j.to, p)
		room := b.room(vxlan.Overhead + length)
		if via != p {
			room = via.buffer(vxlan.Overhead + length)
		}
		if room == nil {
			return false
		}
		s.put(room[vxlan.Overhead:], length)
		j.wrap(room, vtep)
		packets, bytes = packets+1, bytes+length
		if via != p {
			via.push(room)
			continue
		}
		b.taken(len(room))
	}
	return true
}

// put writes the next segment; a flooded one is cut once and kept until each peer has it.
func (s *source) put(dst []byte, length int) {
	j := &s.job
	if j.peers == nil {
		j.Next(dst)
		return
	}
	if j.length == 0 {
		if cap(j.segment) < length {
			j.segment = make([]byte, length)
		}
		j.length = j.Next(j.segment[:length])
	}
	copy(dst, j.segment[:j.length])
	if j.peer++; j.peer == len(j.peers) {
		j.peer, j.length = 0, 0
	}
}
