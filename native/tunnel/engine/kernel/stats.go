package kernel

import (
	"net/netip"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"selvedge.dev/tunnel/state"
)

// heard is when a peer's counter last grew: the kernel tells no time of its packets.
type heard struct {
	rxBytes int64
	at      time.Time
}

// peerOf finds the WireGuard peer that serves a node on any device: the one that shook hands last.
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

// listen notes which peers were heard since the last look.
func (e *Engine) listen() {
	now := time.Now()
	for node, peer := range e.peers() {
		was := e.heard[node]
		if peer.ReceiveBytes == was.rxBytes {
			continue
		}
		e.heard[node] = heard{rxBytes: peer.ReceiveBytes, at: now}
		e.tell(state.Event{Event: state.EventPeer, Data: state.PeerEvent{Node: node, Heard: state.PathDirect}})
	}
	for node := range e.heard {
		if !e.has(node) {
			delete(e.heard, node)
		}
	}
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
			actual.Peers = append(actual.Peers, state.ActualPeer{Node: p.Node, VTEP: p.VTEP, Keys: p.Keys, Endpoint: endpointOf(peer), Path: state.PathDirect, KeepaliveS: p.KeepaliveS})
		}
	}
	return actual
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
		s := state.PeerStats{Node: p.Node, Path: state.PathDirect, Why: "the kernel's WireGuard", Endpoint: endpointOf(peer), RxBytes: uint64(peer.ReceiveBytes), TxBytes: uint64(peer.TransmitBytes)}
		if !peer.LastHandshakeTime.IsZero() {
			key := state.Key(peer.PublicKey)
			s.PublicKey, s.LatestHandshakeMS = &key, age(now, peer.LastHandshakeTime)
		}
		if heard, ok := e.heard[p.Node]; ok {
			s.DirectHeardMS = age(now, heard.at)
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
