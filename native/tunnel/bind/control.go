package bind

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Control messages (cmsg) are written and read by hand for the same reason as names are.

func putNative16(b []byte, v uint16) { binary.NativeEndian.PutUint16(b, v) }

// putControl appends one control message to b, which has room for it, and returns the new length.
func putControl(b []byte, at int, level, kind int32, data []byte) int {
	length := unix.CmsgLen(len(data))
	binary.NativeEndian.PutUint64(b[at:], uint64(length))
	binary.NativeEndian.PutUint32(b[at+8:], uint32(level))
	binary.NativeEndian.PutUint32(b[at+12:], uint32(kind))
	copy(b[at+unix.CmsgLen(0):], data)
	return at + unix.CmsgSpace(len(data))
}

// putSource asks the kernel to send from an address. The interface is left to the routing table: it may change, the address stays.
func putSource(b []byte, at int, source netip.Addr) int {
	if source.Is4() {
		var info [unix.SizeofInet4Pktinfo]byte
		a := source.As4()
		copy(info[4:], a[:])
		return putControl(b, at, unix.IPPROTO_IP, unix.IP_PKTINFO, info[:])
	}
	var info [unix.SizeofInet6Pktinfo]byte
	a := source.As16()
	copy(info[:], a[:])
	return putControl(b, at, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, info[:])
}

func putSegmentSize(b []byte, at, size int) int {
	var data [2]byte
	putNative16(data[:], uint16(size))
	return putControl(b, at, unix.IPPROTO_UDP, unix.UDP_SEGMENT, data[:])
}

// readControl finds the local address that a message came to, and the size of the datagrams in it; 0 if it is one datagram.
func readControl(b []byte) (local netip.Addr, segment int) {
	const header = unix.SizeofCmsghdr
	for len(b) >= header {
		length := int(binary.NativeEndian.Uint64(b))
		if length < header || length > len(b) {
			return local, segment
		}
		level, kind := int32(binary.NativeEndian.Uint32(b[8:])), int32(binary.NativeEndian.Uint32(b[12:]))
		data := b[header:length]
		switch {
		case level == unix.IPPROTO_UDP && kind == unix.UDP_GRO && len(data) >= 2:
			segment = int(binary.NativeEndian.Uint16(data))
		case level == unix.IPPROTO_IP && kind == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			local = netip.AddrFrom4([4]byte(data[4:]))
		case level == unix.IPPROTO_IPV6 && kind == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			local = netip.AddrFrom16([16]byte(data))
		}
		b = b[min(len(b), unix.CmsgSpace(length-header)):]
	}
	return local, segment
}
