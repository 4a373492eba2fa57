// Package switching decides what happens to a frame: where one from this host goes, and whether one from a peer may come in. The
// forwarding table comes from the desired state. It is pure: no socket, no clock (callers pass the time), no packet is sent from here.
//
// The rules, once: a frame's source MAC is an endpoint's of the side that it comes from, and its source address is that endpoint's;
// a peer is a member of the network that it names; nothing goes from overlay to overlay; what ARP and ND say about an address, only
// its owner says.
package switching

import (
	"sync/atomic"

	"selvedge.dev/tunnel/packet"
)

// Reason says why a frame got nowhere. Accepted is not counted as a refusal, and neither is Needless: a frame that nobody misses,
// such as a question that this host has answered itself.
type Reason uint8

const (
	Accepted Reason = iota
	Needless
	ForgedSource
	WrongVNI
	UnknownMAC
	NotMember
	BroadcastLimited
	Malformed
	VLANTagged
	NotIP
	TooBig
	ARPForged
	QueueFull
	reasons
)

// FromFault is the reason that belongs to what the parser found.
func FromFault(f packet.Fault) Reason {
	switch f {
	case packet.Whole:
		return Accepted
	case packet.VLANTagged:
		return VLANTagged
	case packet.NotIP:
		return NotIP
	}
	return Malformed
}

// Counters of a network. Rx is towards the host, Tx from it.
type Counters struct {
	RxBytes, TxBytes, RxPackets, TxPackets atomic.Uint64
	refused                                [reasons]atomic.Uint64
}

// Refuse counts a frame that got nowhere.
func (c *Counters) Refuse(r Reason) {
	if r > Needless {
		c.refused[r].Add(1)
	}
}

// Refused is how many frames got nowhere for this reason.
func (c *Counters) Refused(r Reason) uint64 { return c.refused[r].Load() }
