package packet

// What the protocols say.
const (
	EthernetHeader = 14
	ipv4Header     = 20
	ipv6Header     = 40
	tcpHeader      = 20
	udpHeader      = 8
	arpLength      = 28
)

// What we chose.
const (
	// MaxFrame is the largest Ethernet frame that a TAP may hand over: an IP packet of 65535 bytes and its header.
	MaxFrame = 65535 + EthernetHeader
	// extensionHeaders_max bounds the walk over IPv6 extension headers.
	extensionHeadersMax = 8
	// segmentPayloadMin is the smallest segment size that we cut to: below it a super-frame would become thousands of packets.
	segmentPayloadMin = 8
	// coalesceSegmentsMax bounds a super-frame of UDP, as the kernel does (UDP_MAX_SEGMENTS of older kernels).
	coalesceSegmentsMax = 64
)

// Ethernet types and protocols that we look into.
const (
	TypeIPv4 = 0x0800
	TypeARP  = 0x0806
	TypeIPv6 = 0x86dd
	TypeVLAN = 0x8100
	TypeQinQ = 0x88a8

	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
)
