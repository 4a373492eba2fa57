// Package user is the engine that needs nothing from the kernel but TAPs: WireGuard by wireguard-go, VXLAN by our own switch.
//
// A frame's way out: source reads a TAP, switching judges, packet cuts, vxlan wraps, a port hands the packets to WireGuard, bind sends.
// Its way in: bind, WireGuard, a port, sink: vxlan unwraps, switching judges, packet coalesces, and a TAP takes it. Nothing is allocated
// for a packet, and nothing waits in a queue of ours but what WireGuard works on.
package user

import (
	"errors"
	"log"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"selvedge.dev/tunnel/bind"
	"selvedge.dev/tunnel/engine"
	"selvedge.dev/tunnel/state"
	"selvedge.dev/tunnel/switching"
	"selvedge.dev/tunnel/vxlan"
)

// Engine is the engine in user space.
type Engine struct {
	source *source
	sinks  sinks
	plane  atomic.Pointer[plane]
	routes atomic.Pointer[routes]
	reader atomic.Pointer[port] // the port that reads the TAPs
	events chan state.Event
	kicks  chan struct{}
	stop   chan struct{}
	done   sync.WaitGroup

	telling sync.RWMutex // keeps events open while one is told
	told    bool

	mu         sync.Mutex // guards what follows: the control path
	desired    state.Desired
	identities []*identity // newest first
	lanes      map[string]*lane
	carriers   map[string]*bind.Carrier
	closed     bool
	binds      atomic.Pointer[[]*bind.Bind]
}

var _ engine.Engine = (*Engine)(nil)

// New makes an engine that has nothing yet.
func New() (*Engine, error) {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimitBytes)
	e := &Engine{events: make(chan state.Event, eventsMax), kicks: make(chan struct{}, 1), stop: make(chan struct{}),
		lanes: map[string]*lane{}, carriers: map[string]*bind.Carrier{}}
	e.plane.Store(&plane{})
	e.routes.Store(&routes{})
	e.binds.Store(&[]*bind.Bind{})
	var err error
	if e.source, err = newSource(e); err != nil {
		return nil, err
	}
	e.done.Add(1)
	go e.tend()
	return e, nil
}

func (e *Engine) Name() string               { return state.EngineUser }
func (e *Engine) Events() <-chan state.Event { return e.events }

func (e *Engine) clock() int64 { return time.Now().UnixNano() }

func (e *Engine) logf(format string, args ...any) { log.Printf("wireguard: "+format, args...) }

// kick makes tend look at the identities soon.
func (e *Engine) kick() {
	select {
	case e.kicks <- struct{}{}:
	default:
	}
}

// tell drops an event that nobody takes in time.
func (e *Engine) tell(event state.Event) {
	e.telling.RLock()
	defer e.telling.RUnlock()
	if e.told {
		return
	}
	select {
	case e.events <- event:
	default:
	}
}

func (e *Engine) tellNoMore() {
	e.telling.Lock()
	defer e.telling.Unlock()
	e.told = true
	close(e.events)
}

// Apply makes the desired state so, in an order in which what stays is not disturbed: peers before the networks that name them.
func (e *Engine) Apply(d state.Desired, taps map[string]*os.File) []state.Failure {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return []state.Failure{state.Failedf(state.CodeShuttingDown, "wireguard", "the engine is closed")}
	}
	old := e.desired
	e.desired = d
	gone, failures := e.applyIdentities(&d)
	e.holdCourse()
	failures = append(failures, e.applyPeers(&d, &old)...)
	failures = append(failures, e.applyNetworks(&d, taps)...)
	e.chooseRoutes()
	// Only now: a new identity that reads the TAPs must know its peers, and one that goes must not be the way to anybody.
	e.handOver()
	share(e.identities)
	for _, i := range gone {
		i.close()
	}
	e.kick()
	return failures
}

// applyIdentities keeps the identities whose keys stay and makes the new ones. The caller closes those that are gone.
func (e *Engine) applyIdentities(d *state.Desired) (gone []*identity, failures []state.Failure) {
	mtu := wireguardMTU
	for i := range d.Networks {
		if i == 0 || d.Networks[i].MTU+vxlanOverhead > mtu {
			mtu = d.Networks[i].MTU + vxlanOverhead
		}
	}
	kept := make([]*identity, 0, len(d.WireGuard.Keys))
	ports := make([]uint16, 0, len(d.WireGuard.Keys))
	fail := func(err error) {
		code := state.CodeInternalError
		if errors.Is(err, errPortInUse) {
			code = state.CodePortInUse
		}
		failures = append(failures, state.Failed(code, "wireguard", err))
	}
	for _, key := range d.WireGuard.Keys {
		public := key.PrivateKey.Public()
		at := slices.IndexFunc(e.identities, func(i *identity) bool { return i.public == public })
		var i *identity
		var err error
		if at >= 0 {
			i = e.identities[at]
			i.port.setMTU(mtu)
			err = i.setMark(d.WireGuard.Fwmark)
		} else {
			if at := slices.IndexFunc(e.identities, func(i *identity) bool { return i.listen == key.ListenPort }); at >= 0 {
				// An identity of ours has the port: take the one that it is to have, or any, and exchange them.
				key.ListenPort = portOf(d, e.identities[at].public)
			}
			i, err = newIdentity(e, key, d.WireGuard.Fwmark, mtu)
		}
		if err != nil {
			fail(err)
		}
		if i != nil {
			kept = append(kept, i)
			ports = append(ports, portOf(d, public))
		}
	}
	gone = slices.DeleteFunc(slices.Clone(e.identities), func(i *identity) bool { return slices.Contains(kept, i) })
	e.identities = kept
	binds := make([]*bind.Bind, 0, len(kept))
	for _, i := range kept {
		binds = append(binds, i.bind)
	}
	e.binds.Store(&binds)
	share(append(slices.Clone(kept), gone...))
	for n, i := range kept {
		if err := i.moveTo(ports[n], append(slices.Clone(kept), gone...)); err != nil {
			fail(err)
		}
	}
	return gone, failures
}

// portOf is the port that the desired state gives a key of ours; 0 if it has no such key.
func portOf(d *state.Desired, public state.Key) uint16 {
	for _, key := range d.WireGuard.Keys {
		if key.PrivateKey.Public() == public {
			return key.ListenPort
		}
	}
	return 0
}

const vxlanOverhead = vxlan.Overhead + 14

// handOver lets the newest identity read the TAPs.
func (e *Engine) handOver() {
	var newest *port
	if len(e.identities) > 0 {
		newest = e.identities[0].port
	}
	if e.reader.Swap(newest) == newest {
		return
	}
	for _, i := range e.identities {
		i.port.look()
	}
	e.source.interrupt()
}

func (e *Engine) applyPeers(d, old *state.Desired) (failures []state.Failure) {
	before := map[string]*state.Peer{}
	for i := range old.Peers {
		before[old.Peers[i].Node] = &old.Peers[i]
	}
	wanted := map[state.Key]bool{}
	// Whoever hears of the other last begins, so that the first packet need not wait for a second try.
	var greet []func()
	nodes := map[string]bool{}
	for n := range d.Peers {
		p := &d.Peers[n]
		nodes[p.Node] = true
		for k, key := range p.Keys {
			wanted[key] = true
			var address *netip.AddrPort
			if b := before[p.Node]; k == 0 && p.Endpoint != nil && (b == nil || b.Endpoint == nil || *b.Endpoint != *p.Endpoint || b.Keys[0] != key) {
				a := p.Endpoint.AddrPort()
				address = &a
			}
			for _, i := range e.identities {
				fresh := i.peers[key] == nil
				if fresh && address == nil && k == 0 && p.Endpoint != nil {
					// A new identity of ours knows no address yet.
					a := p.Endpoint.AddrPort()
					address = &a
				}
				if err := i.apply(p, key, address); err != nil {
					failures = append(failures, state.Failed(state.CodeInternalError, "peer "+p.Node, err))
					continue
				}
				i.peers[key].endpoint.SetCarrier(e.carriers[p.Node])
				if fresh && k == 0 {
					greet = append(greet, func() { i.initiate(key) })
				}
			}
		}
	}
	for _, i := range e.identities {
		for key := range i.peers {
			if !wanted[key] {
				i.remove(key)
			}
		}
	}
	for _, begin := range greet[:min(len(greet), greetMax)] {
		begin()
	}
	for node, c := range e.carriers {
		if !nodes[node] {
			delete(e.carriers, node)
			go c.Close()
		}
	}
	return failures
}

func (e *Engine) applyNetworks(d *state.Desired, taps map[string]*os.File) (failures []state.Failure) {
	next := &plane{byVNI: map[uint32]*lane{}, byMember: map[switching.IPv4]*lane{}}
	for _, key := range d.WireGuard.Keys {
		next.ports = append(next.ports, key.ListenPort)
	}
	if d.WireGuard.VTEP.Is4() {
		next.vtep = d.WireGuard.VTEP.As4()
	}
	lanes := map[string]*lane{}
	for i := range d.Networks {
		n := &d.Networks[i]
		file := taps[n.Name]
		if file == nil {
			failures = append(failures, state.Failedf(state.CodeDeviceFailed, "network "+n.Name, "it has no TAP"))
			continue
		}
		l := e.lanes[n.Name]
		var old *switching.Network
		if l != nil {
			old = l.network.Load()
		}
		if old != nil && old.VNI != n.VNI {
			old = nil
		}
		table := switching.NewNetwork(n, old)
		if l == nil || l.file != file {
			fresh, err := newLane(file)
			if err == nil {
				fresh.network.Store(table)
				err = e.source.add(fresh)
			}
			if err != nil {
				failures = append(failures, state.Failed(state.CodeDeviceFailed, "network "+n.Name, err))
				continue
			}
			l = fresh
		} else {
			l.network.Store(table)
		}
		lanes[n.Name] = l
		next.byVNI[n.VNI] = l
		for _, vtep := range table.Peers() {
			if next.byMember[vtep] == nil {
				next.byMember[vtep] = l
			}
		}
	}
	gone := e.lanes
	e.lanes = lanes
	e.plane.Store(next)
	for name, l := range gone {
		if lanes[name] != l {
			e.source.remove(l)
		}
	}
	return failures
}

// SetPath changes the path of one peer at once.
func (e *Engine) SetPath(node, path string) error {
	if path != state.PathDirect && path != state.PathCarried {
		return state.Failedf(state.CodeArgumentInvalid, "peer "+node, "path %q is neither direct nor carried", path)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	found := false
	for n := range e.desired.Peers {
		if e.desired.Peers[n].Node == node {
			// The slice is the caller's: change a copy.
			e.desired.Peers = slices.Clone(e.desired.Peers)
			e.desired.Peers[n].Path = path
			found = true
		}
	}
	if !found {
		return state.Failedf(state.CodeNotFound, "peer "+node, "no such peer")
	}
	for _, p := range e.endpoints(node) {
		p.SetCarried(path == state.PathCarried)
	}
	e.tell(state.Event{Event: state.EventPeer, Data: state.PeerEvent{Node: node, Path: path}})
	return nil
}

// Carry gives a peer a stream for its sealed packets; it replaces the one before.
func (e *Engine) Carry(node string, conn *net.UnixConn) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || !slices.ContainsFunc(e.desired.Peers, func(p state.Peer) bool { return p.Node == node }) {
		return state.Failedf(state.CodeNotFound, "peer "+node, "no such peer")
	}
	old := e.carriers[node]
	c, err := bind.NewCarrier(node, conn, func() []*bind.Bind { return *e.binds.Load() }, e.uncarry)
	if err != nil {
		return state.Failed(state.CodeInternalError, "peer "+node, err)
	}
	e.carriers[node] = c
	for _, p := range e.endpoints(node) {
		p.SetCarrier(c)
	}
	if old != nil {
		go old.Close()
	}
	return nil
}

func (e *Engine) uncarry(c *bind.Carrier) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for node, current := range e.carriers {
		if current == c {
			delete(e.carriers, node)
			for _, p := range e.endpoints(node) {
				p.SetCarrier(nil)
			}
		}
	}
}

// endpoints are those of all keys of a node, in all identities.
func (e *Engine) endpoints(node string) (all []*bind.Peer) {
	for _, i := range e.identities {
		for _, r := range i.peers {
			if r.node == node {
				all = append(all, r.endpoint)
			}
		}
	}
	return all
}

// Close ends everything. Sealed packets under way are lost.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	identities, carriers, lanes := e.identities, e.carriers, e.lanes
	e.identities, e.carriers, e.lanes = nil, map[string]*bind.Carrier{}, map[string]*lane{}
	e.plane.Store(&plane{})
	e.mu.Unlock()
	close(e.stop)
	e.done.Wait()
	for _, c := range carriers {
		c.Close()
	}
	for _, i := range identities {
		i.close()
	}
	for _, l := range lanes {
		e.source.remove(l)
	}
	e.source.close()
	e.tellNoMore()
	return nil
}
