package bind

import (
	"io"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stream is the carry socket, read and written by system calls that Go's scheduler is not told of, as frames and datagrams are read: none
// of them waits, and a processor that is taken away and given back around each costs more than the call. One goroutine reads, one writes.
type stream struct {
	conn *net.UnixConn
	raw  syscall.RawConn

	// One call, while it is made.
	in, out       []byte
	count         int
	failedReading error
	failedWriting error
	read, write   func(fd uintptr) bool
}

func newStream(conn *net.UnixConn) (*stream, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	// May fail without CAP_NET_ADMIN, which costs speed and nothing else.
	_ = raw.Control(func(fd uintptr) {
		for _, option := range []int{unix.SO_SNDBUF, unix.SO_SNDBUFFORCE} {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, carrySocketBytes)
		}
	})
	s := &stream{conn: conn, raw: raw}
	s.read, s.write = s.readOnce, s.writeAll
	return s, nil
}

// Read waits until there is something. It returns io.EOF once the other end has closed.
func (s *stream) Read(b []byte) (int, error) {
	s.in, s.count, s.failedReading = b, 0, nil
	err := s.raw.Read(s.read)
	s.in = nil
	if err == nil {
		err = s.failedReading
	}
	return s.count, err
}

// Write waits until all of it is written.
func (s *stream) Write(b []byte) (int, error) {
	s.out, s.failedWriting = b, nil
	err := s.raw.Write(s.write)
	left := len(s.out)
	s.out = nil
	if err == nil {
		err = s.failedWriting
	}
	return len(b) - left, err
}

func (s *stream) Close() error { return s.conn.Close() }

// readOnce is called by the runtime's poller until it returns true.
func (s *stream) readOnce(fd uintptr) bool {
	for {
		n, errno := transfer(unix.SYS_RECVFROM, fd, s.in, unix.MSG_DONTWAIT)
		switch errno {
		case 0:
			if s.count = n; n == 0 {
				s.failedReading = io.EOF
			}
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			s.failedReading = errno
			return true
		}
	}
}

// writeAll is called by the runtime's poller until it returns true.
func (s *stream) writeAll(fd uintptr) bool {
	for len(s.out) > 0 {
		n, errno := transfer(unix.SYS_SENDTO, fd, s.out, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch errno {
		case 0:
			s.out = s.out[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			s.failedWriting = errno
			return true
		}
	}
	return true
}

func transfer(call, fd uintptr, b []byte, flags uintptr) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(call, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), flags, 0, 0)
	return int(n), errno
}
