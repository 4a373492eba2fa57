package switching

import "net/netip"

// learned is a MAC address seen behind a peer, in a network that allows it.
type learned struct {
	vtep IPv4
	seen int64
}

// learn notes where a MAC address lives, and tells whether that is news. It never overrides what the desired state says: callers ask
// only for addresses that no endpoint has. An address may move to another member; the state's endpoints can't be taken that way.
func (n *Network) learn(mac MAC, vtep IPv4, now int64) (news bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	old, known := n.learned[mac]
	if !known && len(n.learned) >= learnedMax {
		n.dropOldest()
	}
	n.learned[mac] = learned{vtep, now}
	return !known || old.vtep != vtep
}

func (n *Network) dropOldest() {
	var oldest MAC
	seen := int64(1<<63 - 1)
	for mac, l := range n.learned {
		if l.seen < seen {
			oldest, seen = mac, l.seen
		}
	}
	delete(n.learned, oldest)
}

func (n *Network) lookupLearned(mac MAC) (IPv4, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l, ok := n.learned[mac]
	return l.vtep, ok
}

// free4 and free6 tell whether an unlisted endpoint may use an address: it is of the subnet and nobody's.
func (n *Network) free4(a IPv4) bool { return n.by4[a] == nil && n.inSubnet(netip.AddrFrom4(a)) }
func (n *Network) free6(a IPv6) bool { return n.by6[a] == nil && n.inSubnet(netip.AddrFrom16(a)) }
