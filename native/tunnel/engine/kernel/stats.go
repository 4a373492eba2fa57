package kernel

import (
	"net/netip"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"selvedge.dev/tunnel/state"
)

// heard is when a peer's counter last grew by a direct path: the kernel tells no time of its packets.
type heard struct {
	rxBytes int64
	at      time.Time
}

// peers finds for each node the WireGuard peer that serves it, on any device: the one that shook hands last.
func (e *Engine) peers() map[string]*wgtypes.Peer {
	byKey := map[state.Key]string{}
	for i := range e.desired.Peers {
		for _, key := range e.desired.Peers[i].Keys {
			byKey[key] = e.desired.Peers[i].Node
		}
	}
	best := map[string]*wgtypes.Peer{}
	for i := range e.devices {
		there, err := e.wg.Device(e.devices[i].name)
		if err != nil {
			continue
		}
		for j := range there.Peers {
			peer := &there.Peers[j]
			node, ours := byKey[state.Key(peer.PublicKey)]
			if was := best[node]; ours && (was == nil || peer.LastHandshakeTime.After(was.LastHandshakeTime)) {
				best[node] = peer
			}
		}
	}
	return best
}

// listen notes which peers were heard since the last look, and how.
func (e *Engine) listen() {
	now := time.Now()
	for node, peer := range e.peers() {
		was := e.heard[node]
		if peer.ReceiveBytes == was.rxBytes {
			continue
		}
		was.rxBytes = peer.ReceiveBytes
		path := state.PathCarried
		if !e.carried(node, peer) {
			path, was.at = state.PathDirect, now
		}
		e.heard[node] = was
		e.tell(state.Event{Event: state.EventPeer, Data: state.PeerEvent{Node: node, Heard: path}})
	}
	for node := range e.heard {
		if !e.has(node) {
			delete(e.heard, node)
		}
	}
}

// carried says whether a peer's packets go by its relay. The kernel answers a peer where it was heard, so this may be so before it is desired.
func (e *Engine) carried(node string, peer *wgtypes.Peer) bool {
	r, there := e.relays[node], endpointOf(peer)
	return r != nil && there != nil && *there == r.endpoint()
}

func (e *Engine) has(node string) bool {
	for i := range e.desired.Peers {
		if e.desired.Peers[i].Node == node {
			return true
		}
	}
	return false
}

// Actual is what the kernel has.
func (e *Engine) Actual() state.EngineActual {
	e.mu.Lock()
	defer e.mu.Unlock()
	actual := state.EngineActual{Engine: state.EngineKernel}
	if e.closed {
		return actual
	}
	for i := range e.devices {
		d := &e.devices[i]
		actual.Devices = append(actual.Devices, state.WireGuardDevice{Name: d.name, PublicKey: d.key.PrivateKey.Public(), ListenPort: d.key.ListenPort, Index: d.link.Attrs().Index})
	}
	there := e.peers()
	for i := range e.desired.Peers {
		p := &e.desired.Peers[i]
		if peer := there[p.Node]; peer != nil {
			path, endpoint := e.pathAndEndpoint(p, peer)
			actual.Peers = append(actual.Peers, state.ActualPeer{Node: p.Node, VTEP: p.VTEP, Keys: p.Keys, Endpoint: endpoint, Path: path, KeepaliveS: p.KeepaliveS})
		}
	}
	return actual
}

// pathAndEndpoint are those in use; while carried the endpoint is the desired one, since the relay's tells nobody anything.
func (e *Engine) pathAndEndpoint(p *state.Peer, peer *wgtypes.Peer) (string, *state.Endpoint) {
	if e.carried(p.Node, peer) {
		return state.PathCarried, p.Endpoint
	}
	return state.PathDirect, endpointOf(peer)
}

// Stats are the kernel's counters.
func (e *Engine) Stats() state.Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	stats := state.Stats{}
	if e.closed {
		return stats
	}
	there := e.peers()
	now := time.Now()
	for i := range e.desired.Peers {
		p := &e.desired.Peers[i]
		peer := there[p.Node]
		if peer == nil {
			continue
		}
		path, endpoint := e.pathAndEndpoint(p, peer)
		s := state.PeerStats{Node: p.Node, Path: path, Why: "the kernel's WireGuard", Endpoint: endpoint, RxBytes: uint64(peer.ReceiveBytes), TxBytes: uint64(peer.TransmitBytes)}
		if !peer.LastHandshakeTime.IsZero() {
			key := state.Key(peer.PublicKey)
			s.PublicKey, s.LatestHandshakeMS = &key, age(now, peer.LastHandshakeTime)
		}
		if heard := e.heard[p.Node]; !heard.at.IsZero() {
			s.DirectHeardMS = age(now, heard.at)
		}
		if r := e.relays[p.Node]; r != nil {
			dropped, heard := r.counts()
			s.Dropped = dropped
			if !heard.IsZero() {
				s.CarriedHeardMS = age(now, heard)
			}
		}
		stats.Peers = append(stats.Peers, s)
	}
	for i := range e.devices {
		stats.Keys = append(stats.Keys, e.keyStats(&e.devices[i], now))
	}
	refused := e.filter.refused()
	for i := range e.desired.Networks {
		n := &e.desired.Networks[i]
		s := state.NetworkStats{Name: n.Name, Refused: refused[n.Name]}
		if i == 0 {
			// A VNI that this host has not is of no network; it is counted once.
			s.Refused.WrongVNI += refused[""].WrongVNI
		}
		if link, err := e.nl.LinkByName(vxlanName(n.VNI)); err == nil && link.Attrs().Statistics != nil {
			counted := link.Attrs().Statistics
			s.RxBytes, s.TxBytes, s.RxPackets, s.TxPackets = counted.RxBytes, counted.TxBytes, counted.RxPackets, counted.TxPackets
		}
		stats.Networks = append(stats.Networks, s)
	}
	return stats
}

// keyStats tells when any peer last shook hands with one of our keys: a session is used for as long as two minutes after.
func (e *Engine) keyStats(d *device, now time.Time) state.KeyStats {
	stats := state.KeyStats{PublicKey: d.key.PrivateKey.Public()}
	there, err := e.wg.Device(d.name)
	if err != nil {
		return stats
	}
	var latest time.Time
	for i := range there.Peers {
		if at := there.Peers[i].LastHandshakeTime; at.After(latest) {
			latest = at
		}
	}
	if !latest.IsZero() {
		stats.LastUsedMS = age(now, latest)
	}
	return stats
}

func endpointOf(peer *wgtypes.Peer) *state.Endpoint {
	if peer.Endpoint == nil {
		return nil
	}
	host, ok := netip.AddrFromSlice(peer.Endpoint.IP)
	if !ok {
		return nil
	}
	return &state.Endpoint{Host: host.Unmap(), Port: uint16(peer.Endpoint.Port)}
}

func age(now, at time.Time) *int64 {
	ms := max(now.Sub(at).Milliseconds(), 0)
	return &ms
}
