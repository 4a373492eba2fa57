package user

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"selvedge.dev/tunnel/packet"
	"selvedge.dev/tunnel/switching"
)

// lane is one network's TAP and its table. The table is replaced as a whole; the lane stays.
type lane struct {
	file    *os.File // the caller's, to see whether it is still the same
	network atomic.Pointer[switching.Network]
	ready   bool        // the source has it in turn
	shape   shape       // of its next frame; the source's
	noUDP   atomic.Bool // the kernel doesn't take super-frames of UDP

	// mu keeps the descriptor open while a frame is read or written.
	mu     sync.RWMutex
	fd     int
	closed bool
}

// Offloads that the kernel may leave to us, best first: kernels before 6.2 don't know UDP's.
var offloads = []int{
	unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN | tunUSO4 | tunUSO6,
	unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN,
}

const (
	tunUSO4 = 0x20
	tunUSO6 = 0x40
)

// newLane takes a duplicate of a TAP's descriptor and sets it up: header size, offloads, not blocking.
func newLane(file *os.File) (*lane, error) {
	control, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	l := &lane{file: file, fd: -1}
	var failed error
	if err := control.Control(func(fd uintptr) { l.fd, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	if err := l.prepare(); err != nil {
		_ = unix.Close(l.fd)
		return nil, err
	}
	return l, nil
}

func (l *lane) prepare() error {
	if err := unix.SetNonblock(l.fd, true); err != nil {
		return fmt.Errorf("not blocking: %w", err)
	}
	size := int32(packet.VirtioHeaderSize)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), unix.TUNSETVNETHDRSZ, uintptr(unsafe.Pointer(&size))); errno != 0 {
		return fmt.Errorf("TUNSETVNETHDRSZ: %w", errno)
	}
	var err error
	for i, flags := range offloads {
		if err = unix.IoctlSetInt(l.fd, unix.TUNSETOFFLOAD, flags); err == nil {
			l.noUDP.Store(i > 0)
			return nil
		}
	}
	return fmt.Errorf("TUNSETOFFLOAD: %w", err)
}

// read takes one frame with its header; EAGAIN if there is none.
func (l *lane) read(buffer []byte) (int, unix.Errno) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return 0, unix.EBADF
	}
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(l.fd), uintptr(unsafe.Pointer(&buffer[0])), uintptr(len(buffer)))
	return int(n), errno
}

// readv is read into pieces.
func (l *lane) readv(vectors []unix.Iovec) (int, unix.Errno) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return 0, unix.EBADF
	}
	n, _, errno := unix.RawSyscall(unix.SYS_READV, uintptr(l.fd), uintptr(unsafe.Pointer(&vectors[0])), uintptr(len(vectors)))
	return int(n), errno
}

// write gives the kernel one frame in pieces, the header first.
func (l *lane) write(vectors []unix.Iovec) unix.Errno {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return unix.EBADF
	}
	_, _, errno := unix.Syscall(unix.SYS_WRITEV, uintptr(l.fd), uintptr(unsafe.Pointer(&vectors[0])), uintptr(len(vectors)))
	return errno
}

func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		_ = unix.Close(l.fd)
	}
}
