package bind

const (
	// batchPackets is how many packets one call of a receive function may return. A message of the kernel's UDP GRO holds up to
	// segmentsMax of them, and a second message is only asked for while there is room for one more such.
	batchPackets = 256
	segmentsMax  = 128
	// sendSegmentsMax is the kernel's bound on datagrams in one message with UDP_SEGMENT, in its older versions.
	sendSegmentsMax = 64
	// datagramBytesMax is the largest UDP datagram; a message for UDP_SEGMENT must stay below it with its headers.
	datagramBytesMax = 65535
	messageBytesMax  = datagramBytesMax - 40 - 8
	// sendMessages is how many messages one sendmmsg takes.
	sendMessages = 64
	// socketBufferBytes holds what a path of 1 Gb/s and 50 ms has under way.
	socketBufferBytes = 7 << 20
	// arrivalsMax bounds the remembered source addresses of one socket; they are forgotten all at once, and come back as they are heard.
	arrivalsMax = 1024
	// anyPortTries is how often another port is tried when the one that IPv4 got is taken on IPv6.
	anyPortTries = 16
	// candidatesMax is how many unanswered initiations of one peer have their source remembered.
	candidatesMax = 8

	// carryQueueBytesMax bounds the sealed packets waiting for a carrier. The daemon reads at once and drops by the path's pace itself; what
	// waits here rides out the pauses of its event loop: 28 ms at 600 Mb/s.
	carryQueueBytesMax = 2 << 20
	// carryBatchBytes is what one batch holds, and what WireGuard's receive buffer (slab) has room for.
	carryBatchBytes = 2 * datagramBytesMax
	// carrySocketBytes lets what waits leave in one call of the system.
	carrySocketBytes = 1 << 20
	// carryBatches is how many batches read from carriers may wait for WireGuard.
	carryBatches = 4
	// packetBytesMax is the largest sealed packet that we take from a carrier.
	packetBytesMax = 65535

	// eventGap is the shortest time between two events of one peer and kind.
	eventGapNS = int64(1e9)
)
