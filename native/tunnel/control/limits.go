package control

import "time"

// Bounds of both sockets. Whoever connects is root or the tunnel's own user, and is held to them all the same.
const (
	// ProtocolVersion is raised when a daemon and a tunnel of different versions would misunderstand each other.
	ProtocolVersion = 1

	connectionsMax = 16
	// acceptPause keeps a tunnel that is out of descriptors from spinning.
	acceptPause = 100 * time.Millisecond
	// A connection must say hello in time, and finish a line that it began; after hello it may be silent for as long as it likes.
	helloTimeMax = 5 * time.Second
	lineTimeMax  = 5 * time.Second
	// A reader that takes nothing for this long, or leaves this many lines unread, is disconnected: it reads `actual` when it comes back.
	writeTimeMax     = 5 * time.Second
	outgoingLinesMax = 256
	// Methods that wait for the network run beside the others, at most this many for each connection.
	pingsMax        = 4
	pingTimeMSMax   = 10_000
	pingBytesMax    = 65_000
	methodBytesMax  = 32
	carryConnsMax   = 4096
	carryLineMax    = 512
	socketPathBytes = 107
)
