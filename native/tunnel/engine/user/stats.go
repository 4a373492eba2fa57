package user

import (
	"slices"
	"strings"
	"time"

	"selvedge.dev/tunnel/bind"
	"selvedge.dev/tunnel/state"
	"selvedge.dev/tunnel/switching"
)

// Actual is what there is, without what only the host knows.
func (e *Engine) Actual() state.EngineActual {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := state.EngineActual{Engine: state.EngineUser, Devices: []state.WireGuardDevice{}, Peers: []state.ActualPeer{}}
	for _, i := range e.identities {
		a.Devices = append(a.Devices, state.WireGuardDevice{PublicKey: i.public, ListenPort: i.listen})
	}
	for n := range e.desired.Peers {
		p := &e.desired.Peers[n]
		actual := state.ActualPeer{Node: p.Node, VTEP: p.VTEP, Keys: slices.Clone(p.Keys), KeepaliveS: p.KeepaliveS, Path: p.Path}
		if r := e.current(p); r != nil {
			actual.Path, _ = r.Path()
			if address, ok := r.Address(); ok {
				actual.Endpoint = endpointOf(address)
			}
		}
		a.Peers = append(a.Peers, actual)
	}
	return a
}

// current is the endpoint of the peer's key that was heard last, in any identity.
func (e *Engine) current(p *state.Peer) (best *bind.Peer) {
	var last time.Time
	for _, i := range e.identities {
		for _, key := range p.Keys {
			r := i.peers[key]
			if r == nil {
				continue
			}
			direct, carried := r.endpoint.LastHeard()
			if carried.After(direct) {
				direct = carried
			}
			if best == nil || direct.After(last) {
				best, last = r.endpoint, direct
			}
		}
	}
	return best
}

// Stats are the counters of all identities put together.
func (e *Engine) Stats() state.Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	s := state.Stats{Peers: []state.PeerStats{}, Networks: []state.NetworkStats{}, Keys: []state.KeyStats{}}
	sessions := make([]map[state.Key]session, len(e.identities))
	for n, i := range e.identities {
		sessions[n] = i.sessions()
		s.Keys = append(s.Keys, state.KeyStats{PublicKey: i.public, LastUsedMS: age(now, i.bind.Heard())})
	}
	for n := range e.desired.Peers {
		s.Peers = append(s.Peers, e.peerStats(&e.desired.Peers[n], sessions, now))
	}
	for name, l := range e.lanes {
		s.Networks = append(s.Networks, networkStats(name, l.network.Load()))
	}
	slices.SortFunc(s.Networks, func(a, b state.NetworkStats) int { return strings.Compare(a.Name, b.Name) })
	return s
}

func (e *Engine) peerStats(p *state.Peer, sessions []map[state.Key]session, now time.Time) state.PeerStats {
	s := state.PeerStats{Node: p.Node, Path: p.Path}
	var handshake, direct, carried time.Time
	for n, i := range e.identities {
		for _, key := range p.Keys {
			r := i.peers[key]
			if r == nil {
				continue
			}
			w := sessions[n][key]
			if w.handshake.After(handshake) {
				handshake = w.handshake
				s.PublicKey = &key
			}
			d, c := r.endpoint.LastHeard()
			direct, carried = later(direct, d), later(carried, c)
			rx, tx, dropped := r.endpoint.Counters()
			s.RxBytes, s.TxBytes = s.RxBytes+w.rxBytes, s.TxBytes+w.txBytes
			s.RxPackets, s.TxPackets, s.Dropped = s.RxPackets+rx, s.TxPackets+tx, s.Dropped+dropped
		}
	}
	if r := e.current(p); r != nil {
		s.Path, s.Why = r.Path()
		if address, ok := r.Address(); ok {
			s.Endpoint = endpointOf(address)
		}
	}
	s.LatestHandshakeMS, s.DirectHeardMS, s.CarriedHeardMS = age(now, handshake), age(now, direct), age(now, carried)
	return s
}

func networkStats(name string, n *switching.Network) state.NetworkStats {
	return state.NetworkStats{
		Name: name, RxBytes: n.RxBytes.Load(), TxBytes: n.TxBytes.Load(), RxPackets: n.RxPackets.Load(), TxPackets: n.TxPackets.Load(),
		Refused: state.Refused{
			ForgedSource: n.Refused(switching.ForgedSource), WrongVNI: n.Refused(switching.WrongVNI),
			UnknownMAC: n.Refused(switching.UnknownMAC), NotMember: n.Refused(switching.NotMember),
			BroadcastLimited: n.Refused(switching.BroadcastLimited), Malformed: n.Refused(switching.Malformed),
			VLANTagged: n.Refused(switching.VLANTagged), NotIP: n.Refused(switching.NotIP), TooBig: n.Refused(switching.TooBig),
			ARPForged: n.Refused(switching.ARPForged), QueueFull: n.Refused(switching.QueueFull),
		},
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func age(now, t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	ms := max(0, now.Sub(t).Milliseconds())
	return &ms
}
