package host

import (
	"context"
	"slices"
	"time"

	"selvedge.dev/tunnel/links"
	"selvedge.dev/tunnel/state"
)

// lookEvery is how often routes are asked for though nothing told of a change: a path MTU that a router reports changes in silence.
const lookEvery = 15 * time.Second

// Actual is what is there now.
func (h *Host) Actual() (state.Actual, error) {
	h.mu.Lock()
	applied, running, why, failures := h.applied, h.engine, h.why, h.failures
	h.mu.Unlock()
	actual := state.Actual{Failures: list(failures), WireGuard: state.ActualWireGuard{Why: why}}
	if applied != nil {
		actual.Generation, actual.Owner = &applied.Generation, applied.Owner
		actual.WireGuard.Fwmark = applied.WireGuard.Fwmark
		if applied.WireGuard.VTEP.IsValid() {
			actual.WireGuard.VTEP = &applied.WireGuard.VTEP
		}
	}
	if running != nil {
		there := running.Actual()
		actual.WireGuard.Engine, actual.WireGuard.Devices, actual.Peers = there.Engine, h.tools.named(there.Devices), there.Peers
	}
	for i := range actual.Peers {
		actual.Peers[i].Underlay = h.reach(&actual.Peers[i], actual.WireGuard.Fwmark)
		actual.Peers[i].Keys = list(actual.Peers[i].Keys)
	}
	networks, err := links.Inspect(actual.Owner)
	if err != nil {
		return state.Actual{}, err
	}
	for i := range networks {
		n := &networks[i]
		if applied != nil {
			complete(n, applied)
		}
		n.Addresses, n.Attachments = list(n.Addresses), list(n.Attachments)
		for j := range n.Attachments {
			n.Attachments[j].Addresses = list(n.Attachments[j].Addresses)
		}
	}
	actual.WireGuard.Devices, actual.Peers, actual.Networks = list(actual.WireGuard.Devices), list(actual.Peers), list(networks)
	return actual, nil
}

// complete adds what the applied state knows and no device tells.
func complete(n *state.ActualNetwork, applied *state.Desired) {
	at := slices.IndexFunc(applied.Networks, func(d state.Network) bool { return d.Name == n.Name })
	if at < 0 {
		return
	}
	d := &applied.Networks[at]
	n.VNI, n.Remotes = d.VNI, len(d.Remote)
	for i := range n.Attachments {
		a := &n.Attachments[i]
		if k := slices.IndexFunc(d.Attachments, func(d state.Attachment) bool { return d.Name == a.Name }); k >= 0 {
			want := &d.Attachments[k]
			a.Namespace, a.Interface, a.MAC, a.Addresses = want.Namespace, want.Interface, want.MAC, want.Addresses
		}
	}
}

func (h *Host) reach(p *state.ActualPeer, fwmark uint32) *state.UnderlayTo {
	if p.Endpoint == nil {
		return nil
	}
	return h.routes.To(p.Endpoint.Host, fwmark)
}

// follow tells daemons when the way to a peer has changed.
func (h *Host) follow(ctx context.Context, changes <-chan struct{}) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-changes:
			if !open {
				changes = nil
			}
		case <-ticker.C:
		}
		h.look()
	}
}

func (h *Host) look() {
	running := h.running()
	if running == nil {
		return
	}
	h.mu.Lock()
	fwmark := uint32(0)
	if h.applied != nil {
		fwmark = h.applied.WireGuard.Fwmark
	}
	h.mu.Unlock()
	peers := running.Actual().Peers
	reached := make(map[string]state.UnderlayTo, len(peers))
	for i := range peers {
		p := &peers[i]
		to := h.reach(p, fwmark)
		if to == nil {
			continue
		}
		reached[p.Node] = *to
		h.mu.Lock()
		was, known := h.reached[p.Node]
		h.mu.Unlock()
		if known && !same(was, *to) {
			h.options.Tell(state.Event{Event: state.EventUnderlay, Data: state.UnderlayEvent{Node: p.Node, Underlay: to}})
		}
	}
	h.mu.Lock()
	h.reached = reached
	h.mu.Unlock()
}

func same(a, b state.UnderlayTo) bool {
	source := func(u state.UnderlayTo) string {
		if u.Source == nil {
			return ""
		}
		return u.Source.String()
	}
	return a.Interface == b.Interface && a.MTU == b.MTU && a.Why == b.Why && source(a) == source(b)
}
