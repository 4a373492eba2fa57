package bind

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket is one UDP socket, of one address family.
type socket struct {
	conn *net.UDPConn
	raw  syscall.RawConn
	is6  bool
	// gso is whether the kernel cuts messages for us. It is turned off for good when the device below can't compute checksums.
	gso     atomic.Bool
	senders sync.Pool
	receiver
}

func noSuchFamily(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)
}

func openSocket(network string, port uint16, mark uint32) (*socket, uint16, error) {
	s := &socket{is6: network == "udp6"}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = s.prepare(int(fd), mark) })
		return errors.Join(err, failed)
	}}
	pc, err := config.ListenPacket(context.Background(), network, ":"+strconv.Itoa(int(port)))
	if err != nil {
		return nil, 0, err
	}
	s.conn = pc.(*net.UDPConn)
	if s.raw, err = s.conn.SyscallConn(); err != nil {
		_ = s.conn.Close()
		return nil, 0, err
	}
	s.senders.New = func() any { return newSender(s) }
	s.receiver.init(s)
	return s, s.conn.LocalAddr().(*net.UDPAddr).AddrPort().Port(), nil
}

// prepare sets the options that the socket needs before it is bound. Those that an old kernel may lack, or a process without
// CAP_NET_ADMIN may not set, cost speed and nothing else, so they may fail.
func (s *socket) prepare(fd int, mark uint32) error {
	set := func(level, option, value int) error {
		if err := unix.SetsockoptInt(fd, level, option, value); err != nil {
			return fmt.Errorf("socket option %d/%d: %w", level, option, err)
		}
		return nil
	}
	for _, option := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF, unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		_ = set(unix.SOL_SOCKET, option, socketBufferBytes)
	}
	s.gso.Store(set(unix.IPPROTO_UDP, unix.UDP_SEGMENT, 0) == nil)
	_ = set(unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	var errs []error
	if mark != 0 {
		errs = append(errs, set(unix.SOL_SOCKET, unix.SO_MARK, int(mark)))
	}
	if s.is6 {
		errs = append(errs, set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1), set(unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1))
	} else {
		errs = append(errs, set(unix.IPPROTO_IP, unix.IP_PKTINFO, 1))
	}
	return errors.Join(errs...)
}

func (s *socket) setMark(mark uint32) error {
	var failed error
	err := s.raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark)) })
	return errors.Join(err, failed)
}

func (s *socket) close() error {
	if s == nil {
		return nil
	}
	return s.conn.Close()
}

// The kernel's sockaddr_in and sockaddr_in6 are written and read by hand, so that no address is allocated for a packet.
const (
	nameBytes    = unix.SizeofSockaddrInet6
	controlBytes = 96
)

func putName(b *[nameBytes]byte, addr netip.AddrPort) uint32 {
	clear(b[:])
	b[2], b[3] = byte(addr.Port()>>8), byte(addr.Port())
	if addr.Addr().Is4() {
		putNative16(b[:], unix.AF_INET)
		a := addr.Addr().As4()
		copy(b[4:], a[:])
		return unix.SizeofSockaddrInet4
	}
	putNative16(b[:], unix.AF_INET6)
	a := addr.Addr().As16()
	copy(b[8:], a[:])
	return unix.SizeofSockaddrInet6
}

func name(b *[nameBytes]byte, is6 bool) netip.AddrPort {
	port := uint16(b[2])<<8 | uint16(b[3])
	if is6 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), port)
}
