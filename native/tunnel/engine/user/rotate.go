package user

import (
	"net/netip"
	"time"

	"selvedge.dev/tunnel/bind"
	"selvedge.dev/tunnel/state"
	"selvedge.dev/tunnel/switching"
)

// tend looks after what takes time: choosing keys while they rotate, and trying the direct path of carried peers.
func (e *Engine) tend() {
	defer e.done.Done()
	probe := time.NewTicker(probeEvery)
	defer probe.Stop()
	rotate := time.NewTimer(rotateEvery)
	defer rotate.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-probe.C:
			e.probe()
		case <-e.kicks:
			// Nothing to do again soon unless keys rotate.
			if e.whileRotating() {
				rotate.Reset(rotateEvery)
			}
		case <-rotate.C:
			if e.whileRotating() {
				rotate.Reset(rotateEvery)
			}
		}
	}
}

func (e *Engine) whileRotating() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.rotating() {
		return false
	}
	e.chooseRoutes()
	return true
}

func (e *Engine) rotating() bool {
	if len(e.identities) > 1 {
		return true
	}
	for n := range e.desired.Peers {
		if len(e.desired.Peers[n].Keys) > 1 {
			return true
		}
	}
	return false
}

// chooseRoutes chooses for each peer the pair of keys, ours and its, by which to send: the newest whose handshake stands. Until one does, the
// oldest pair is used, because the older keys are the ones that everybody knows; and the newest is tried.
func (e *Engine) chooseRoutes() {
	if !e.rotating() {
		for _, i := range e.identities {
			if err := i.unsteer(); err != nil {
				e.logf("%v", err)
			}
		}
		e.routes.Store(&routes{})
		return
	}
	sessions := make([]map[state.Key]session, len(e.identities))
	keys := map[*identity]map[switching.IPv4]state.Key{}
	for n, i := range e.identities {
		sessions[n] = i.sessions()
		keys[i] = map[switching.IPv4]state.Key{}
	}
	next := &routes{byVTEP: map[switching.IPv4]*port{}}
	for n := range e.desired.Peers {
		p := &e.desired.Peers[n]
		if i, key := e.choose(p, sessions); i != nil {
			next.byVTEP[p.VTEP.As4()] = i.port
			keys[i][p.VTEP.As4()] = key
		}
	}
	for _, i := range e.identities {
		// What an identity is no longer the way for, it may still have in its queue.
		for vtep, key := range i.current() {
			if _, chosen := keys[i][vtep]; !chosen {
				keys[i][vtep] = key
			}
		}
		i.steer(keys[i])
	}
	e.routes.Store(next)
}

// holdCourse keeps each identity sending as it does while peers get second keys.
func (e *Engine) holdCourse() {
	if e.rotating() {
		for _, i := range e.identities {
			i.steer(i.current())
		}
	}
}

func (e *Engine) choose(p *state.Peer, sessions []map[state.Key]session) (chosen *identity, chosenKey state.Key) {
	newest := true
	for n, i := range e.identities {
		for _, key := range p.Keys {
			r := i.peers[key]
			if r == nil {
				continue
			}
			if age := time.Since(sessions[n][key].handshake); age < standingMax {
				return i, key
			}
			_, known := r.endpoint.Address()
			path, _ := r.endpoint.Path()
			if known || path == bind.Carried {
				if newest {
					i.initiate(key)
				}
				chosen, chosenKey = i, key
			}
			newest = false
		}
	}
	return chosen, chosenKey
}

func (e *Engine) probe() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, i := range e.identities {
		for key, r := range i.peers {
			_, known := r.endpoint.Address()
			if path, _ := r.endpoint.Path(); path == bind.Carried && known {
				i.probe(key)
			}
		}
	}
}

// heard is called by a bind when an authenticated packet came. What the daemon knows already is not told again.
func (e *Engine) heard(p *bind.Peer, by string, silence time.Duration) {
	path, why := p.Path()
	if by == path && silence < heardAgain {
		return
	}
	e.tell(state.Event{Event: state.EventPeer, Data: state.PeerEvent{Node: p.Node, Path: path, Heard: by, Why: why}})
}

func endpointOf(a netip.AddrPort) *state.Endpoint {
	return &state.Endpoint{Host: a.Addr(), Port: a.Port()}
}
