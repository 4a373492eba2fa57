package bind

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is the kernel's struct of the same name.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// sender holds what one sendmmsg needs, so that nothing is allocated for a packet.
type sender struct {
	messages [sendMessages]mmsghdr
	vectors  [batchPackets]unix.Iovec
	control  [sendMessages][controlBytes]byte
	name     [nameBytes]byte
	nameLen  uint32

	first, count int // the messages not yet sent
	failed       unix.Errno
	write        func(fd uintptr) bool
}

func newSender(*socket) *sender {
	w := &sender{}
	w.write = w.once
	return w
}

// once tries to send what is left; it is called by the runtime's poller until it returns true.
func (w *sender) once(fd uintptr) bool {
	for w.first < w.count {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&w.messages[w.first])), uintptr(w.count-w.first), 0, 0, 0)
		switch errno {
		case 0:
			w.first += int(n)
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			w.failed = errno
			return true
		}
	}
	return true
}

// send sends packets in order to one destination, in as few messages as the kernel allows.
func (s *socket) send(bufs [][]byte, offset int, to *destination) error {
	w := s.senders.Get().(*sender)
	defer s.senders.Put(w)
	w.nameLen = putName(&w.name, to.addr)
	var lost error
	for len(bufs) > 0 {
		var taken int
		if s.gso.Load() {
			taken = w.fillSegmented(bufs, offset, to)
		} else {
			taken = w.fillSingle(bufs, offset, to)
		}
		if err := s.flush(w); err != nil {
			if !s.retrySingle(w, bufs[:taken], offset, to, err) {
				lost = err
			}
		}
		bufs = bufs[taken:]
	}
	return lost
}

func (s *socket) flush(w *sender) error {
	w.first, w.failed = 0, 0
	if err := s.raw.Write(w.write); err != nil {
		return err
	}
	if w.failed != 0 {
		return w.failed
	}
	return nil
}

// retrySingle sends again without segmentation what a failed message and those after it hold, if that may help. EIO: the device can't
// compute checksums, which segmentation needs, so it is off from now on. EINVAL, EMSGSIZE: the segments are larger than the path has become;
// one by one the kernel fragments them.
func (s *socket) retrySingle(w *sender, bufs [][]byte, offset int, to *destination, err error) bool {
	if !s.gso.Load() {
		return false
	}
	switch {
	case errors.Is(err, unix.EIO):
		s.gso.Store(false)
	case !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EMSGSIZE):
		return false
	}
	sent := 0
	for _, m := range w.messages[:w.first] {
		sent += int(m.hdr.Iovlen)
	}
	bufs = bufs[sent:]
	for len(bufs) > 0 {
		bufs = bufs[w.fillSingle(bufs, offset, to):]
		if s.flush(w) != nil {
			return false
		}
	}
	return true
}

func (w *sender) begin(m int, to *destination) (controlLen int) {
	h := &w.messages[m].hdr
	*h = unix.Msghdr{Name: &w.name[0], Namelen: w.nameLen}
	if to.source.IsValid() {
		controlLen = putSource(w.control[m][:], 0, to.source)
	}
	return controlLen
}

func (w *sender) end(m int, vectors []unix.Iovec, controlLen int) {
	h := &w.messages[m].hdr
	h.Iov = &vectors[0]
	h.SetIovlen(len(vectors))
	if controlLen > 0 {
		h.Control = &w.control[m][0]
		h.SetControllen(controlLen)
	}
}

func vector(b []byte) unix.Iovec {
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	return v
}

// fillSegmented makes messages of runs of packets of one size, each run ended by at most one shorter packet, and tells how many it took.
func (w *sender) fillSegmented(bufs [][]byte, offset int, to *destination) (taken int) {
	w.count = 0
	for taken < len(bufs) && taken < batchPackets && w.count < sendMessages {
		start, size, total := taken, len(bufs[taken])-offset, 0
		for taken < len(bufs) && taken < batchPackets && taken-start < sendSegmentsMax {
			b := bufs[taken][offset:]
			if len(b) > size || taken > start && total+len(b) > messageBytesMax {
				break
			}
			w.vectors[taken] = vector(b)
			total += len(b)
			taken++
			if len(b) < size {
				break
			}
		}
		controlLen := w.begin(w.count, to)
		if taken-start > 1 {
			controlLen = putSegmentSize(w.control[w.count][:], controlLen, size)
		}
		w.end(w.count, w.vectors[start:taken], controlLen)
		w.count++
	}
	return taken
}

// fillSingle makes a message of each packet, and tells how many it took.
func (w *sender) fillSingle(bufs [][]byte, offset int, to *destination) (taken int) {
	w.count = 0
	for taken < len(bufs) && w.count < sendMessages {
		w.vectors[taken] = vector(bufs[taken][offset:])
		w.end(w.count, w.vectors[taken:taken+1], w.begin(w.count, to))
		w.count++
		taken++
	}
	return taken
}
