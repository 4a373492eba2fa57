package packet

import "encoding/binary"

// VirtioHeader is the header that a TAP with IFF_VNET_HDR puts before each frame (struct virtio_net_hdr, in host byte order).
type VirtioHeader struct {
	Flags          uint8
	GSOType        uint8
	HeaderLength   uint16
	SegmentSize    uint16
	ChecksumStart  uint16
	ChecksumOffset uint16
}

// VirtioHeaderSize is the size that we set on each TAP with TUNSETVNETHDRSZ.
const VirtioHeaderSize = 10

const (
	VirtioNeedsChecksum = 1

	VirtioGSONone  = 0
	VirtioGSOTCPv4 = 1
	VirtioGSOTCPv6 = 4
	VirtioGSOUDP   = 5 // UDP_L4: datagrams of one size
	VirtioGSOECN   = 0x80
)

// DecodeVirtio reads the header and returns the frame behind it.
func DecodeVirtio(b []byte) (h VirtioHeader, frame []byte, ok bool) {
	if len(b) < VirtioHeaderSize {
		return h, nil, false
	}
	h.Flags = b[0]
	h.GSOType = b[1]
	h.HeaderLength = binary.NativeEndian.Uint16(b[2:])
	h.SegmentSize = binary.NativeEndian.Uint16(b[4:])
	h.ChecksumStart = binary.NativeEndian.Uint16(b[6:])
	h.ChecksumOffset = binary.NativeEndian.Uint16(b[8:])
	return h, b[VirtioHeaderSize:], true
}

// Encode writes the header into the first VirtioHeaderSize bytes of b.
func (h VirtioHeader) Encode(b []byte) {
	b[0] = h.Flags
	b[1] = h.GSOType
	binary.NativeEndian.PutUint16(b[2:], h.HeaderLength)
	binary.NativeEndian.PutUint16(b[4:], h.SegmentSize)
	binary.NativeEndian.PutUint16(b[6:], h.ChecksumStart)
	binary.NativeEndian.PutUint16(b[8:], h.ChecksumOffset)
}
