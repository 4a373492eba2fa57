package switching

import (
	"net/netip"
	"slices"
	"sync"

	"selvedge.dev/tunnel/state"
)

// MAC, IPv4 and IPv6 are addresses as they stand in a frame.
type (
	MAC  = [6]byte
	IPv4 = [4]byte
	IPv6 = [16]byte
)

// endpoint is one interface of the network, here or behind a peer.
type endpoint struct {
	mac       MAC
	vtep      IPv4 // zero for an endpoint of this host
	addrs4    []IPv4
	addrs6    []IPv6
	linkLocal IPv6
}

func (e *endpoint) owns4(a IPv4) bool { return slices.Contains(e.addrs4, a) }
func (e *endpoint) owns6(a IPv6) bool { return a == e.linkLocal || slices.Contains(e.addrs6, a) }
func (e *endpoint) here() bool        { return e.vtep == IPv4{} }

// live is what a network keeps when its table is replaced.
type live struct {
	Counters
	flood    bucket // frames that this host floods
	mu       sync.Mutex
	incoming map[IPv4]*bucket // frames that each peer floods to us
	learned  map[MAC]learned
}

// Network is one network's table. It is not changed once made; a new desired state makes a new one that takes over the counters.
type Network struct {
	*live
	Name string
	VNI  uint32
	MTU  int
	MAC  MAC // of this host itself

	learning bool
	rate     float64
	subnets  []netip.Prefix
	byMAC    map[MAC]*endpoint
	by4      map[IPv4]*endpoint
	by6      map[IPv6]*endpoint
	members  map[IPv4]bool
	peers    []IPv4 // members' VTEPs, sorted: where a flooded frame goes
}

// NewNetwork makes a network's table; old, if there was one, hands on its counters and what it has learned.
func NewNetwork(d *state.Network, old *Network) *Network {
	n := &Network{
		Name: d.Name, VNI: d.VNI, MTU: d.MTU, MAC: MAC(d.MAC), learning: d.Learning, rate: float64(d.BroadcastPPS),
		byMAC: make(map[MAC]*endpoint, len(d.Remote)+len(d.Local)+1), by4: map[IPv4]*endpoint{}, by6: map[IPv6]*endpoint{},
		members: map[IPv4]bool{},
	}
	if old != nil {
		n.live = old.live
	} else {
		n.live = &live{incoming: map[IPv4]*bucket{}, learned: map[MAC]learned{}}
	}
	n.addPrefixes(MAC(d.MAC), d.Addresses)
	for i := range d.Attachments {
		n.addPrefixes(MAC(d.Attachments[i].MAC), d.Attachments[i].Addresses)
	}
	for i := range d.Local {
		n.add(MAC(d.Local[i].MAC), IPv4{}, d.Local[i].Addresses)
	}
	for i := range d.Remote {
		r := &d.Remote[i]
		vtep := r.VTEP.As4()
		if !n.members[vtep] {
			n.members[vtep] = true
			n.peers = append(n.peers, vtep)
		}
		n.add(MAC(r.MAC), vtep, r.Addresses)
	}
	slices.SortFunc(n.peers, func(a, b IPv4) int { return slices.Compare(a[:], b[:]) })
	n.forget()
	return n
}

func (n *Network) addPrefixes(mac MAC, prefixes []netip.Prefix) {
	addresses := make([]netip.Addr, 0, len(prefixes))
	for _, p := range prefixes {
		addresses = append(addresses, p.Addr())
		if masked := p.Masked(); !slices.Contains(n.subnets, masked) {
			n.subnets = append(n.subnets, masked)
		}
	}
	n.add(mac, IPv4{}, addresses)
}

// add makes or extends an endpoint. A MAC that is both here and behind a peer is here: the state's checks don't let that happen, and
// a frame must not be able to.
func (n *Network) add(mac MAC, vtep IPv4, addresses []netip.Addr) {
	e := n.byMAC[mac]
	if e == nil {
		e = &endpoint{mac: mac, vtep: vtep, linkLocal: linkLocal(mac)}
		n.byMAC[mac] = e
		n.by6[e.linkLocal] = e
	} else if e.vtep != vtep {
		return
	}
	for _, a := range addresses {
		if a.Is4() {
			if v := a.As4(); n.by4[v] == nil {
				e.addrs4 = append(e.addrs4, v)
				n.by4[v] = e
			}
		} else if v := a.As16(); n.by6[v] == nil {
			e.addrs6 = append(e.addrs6, v)
			n.by6[v] = e
		}
	}
}

// forget drops buckets and learned addresses of peers that are members no more.
func (n *Network) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for vtep := range n.incoming {
		if !n.members[vtep] {
			delete(n.incoming, vtep)
		}
	}
	for mac, l := range n.learned {
		if !n.learning || !n.members[l.vtep] || n.byMAC[mac] != nil {
			delete(n.learned, mac)
		}
	}
}

// Peers are the VTEPs of the other members.
func (n *Network) Peers() []IPv4 { return n.peers }

// linkLocal is the IPv6 link-local address that belongs to a MAC (RFC 4291, appendix A). It is the only one that an endpoint may use.
func linkLocal(mac MAC) IPv6 {
	return IPv6{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]}
}

func (n *Network) inSubnet(a netip.Addr) bool {
	return slices.ContainsFunc(n.subnets, func(p netip.Prefix) bool { return p.Contains(a) })
}
