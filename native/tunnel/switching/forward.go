package switching

import "selvedge.dev/tunnel/packet"

// Verdict says where a frame from this host goes: to one VTEP, to all members', or nowhere. Answer asks the caller to give the host the
// answer that Network.Answer writes.
type Verdict struct {
	Reason Reason
	To     IPv4
	Flood  bool
	Answer bool
}

func refuse(r Reason) Verdict { return Verdict{Reason: r} }

// FromHost judges a frame that a TAP handed over. frames is how many the frame is on the wire, for the limit on flooding.
func (n *Network) FromHost(frame []byte, h packet.Headers, frames int, now int64) Verdict {
	source := n.byMAC[packet.SourceMAC(frame)]
	switch {
	case source == nil && !n.learning, packet.IsMulticastMAC(packet.SourceMAC(frame)):
		return refuse(ForgedSource)
	case source != nil && !source.here():
		// It came in from a peer and was bridged back: never from overlay to overlay.
		return refuse(ForgedSource)
	case source == nil:
		if _, behindPeer := n.lookupLearned(packet.SourceMAC(frame)); behindPeer {
			return refuse(ForgedSource)
		}
	}
	if r := n.checkSource(frame, h, source); r != Accepted {
		return refuse(r)
	}
	if target, asks := n.question(frame, h); asks {
		switch {
		case target != nil && target.here():
			return refuse(Needless) // the bridge delivers it
		case target != nil:
			return Verdict{Answer: true}
		case !n.learning:
			return refuse(Needless) // nobody has the address
		}
	}
	destination := packet.DestinationMAC(frame)
	if !packet.IsMulticastMAC(destination) {
		if e := n.byMAC[destination]; e != nil {
			if e.here() {
				return refuse(Needless)
			}
			return Verdict{To: e.vtep}
		}
		if !n.learning {
			return refuse(UnknownMAC)
		}
		if vtep, ok := n.lookupLearned(destination); ok {
			return Verdict{To: vtep}
		}
	}
	for range frames {
		if !n.flood.take(now, n.rate, n.rate) {
			return refuse(BroadcastLimited)
		}
	}
	return Verdict{Flood: true}
}

// FromPeer judges a frame that came out of WireGuard from the host with this VTEP. news tells that a MAC address was learned.
func (n *Network) FromPeer(frame []byte, h packet.Headers, vtep IPv4, now int64) (r Reason, news bool) {
	if !n.members[vtep] {
		return NotMember, false
	}
	mac := packet.SourceMAC(frame)
	source := n.byMAC[mac]
	if source == nil && (!n.learning || packet.IsMulticastMAC(mac)) || source != nil && source.vtep != vtep {
		return ForgedSource, false
	}
	if r := n.checkSource(frame, h, source); r != Accepted {
		return r, false
	}
	destination := packet.DestinationMAC(frame)
	if packet.IsMulticastMAC(destination) {
		if !n.incomingBucket(vtep).take(now, n.rate, 2*n.rate) {
			return BroadcastLimited, false
		}
	} else if e := n.byMAC[destination]; e == nil && !n.learning || e != nil && !e.here() {
		return UnknownMAC, false
	}
	if source == nil {
		news = n.learn(mac, vtep, now)
	}
	return Accepted, news
}

func (n *Network) incomingBucket(vtep IPv4) *bucket {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.incoming[vtep]
	if b == nil {
		b = &bucket{}
		n.incoming[vtep] = b
	}
	return b
}
