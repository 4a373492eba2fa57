// Package kernel is the engine that leaves packets to the kernel: its WireGuard, and its VXLAN devices as ports of the bridges. What goes
// over the wire is what the user engine sends, so hosts of both kinds share networks.
//
// The devices go on without this process, and the next one adopts them. It speaks netlink only.
package kernel

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"

	"selvedge.dev/tunnel/engine"
	"selvedge.dev/tunnel/links"
	"selvedge.dev/tunnel/state"
)

// Engine is the kernel's.
type Engine struct {
	owner  string
	nl     *netlink.Handle
	wg     *wgctrl.Client
	events chan state.Event
	stop   chan struct{}
	done   sync.WaitGroup

	mu      sync.Mutex // guards all below
	set     *links.Set
	filter  *filter
	desired state.Desired
	devices []device
	paths   map[string]string
	given   map[string]state.Endpoint // the endpoint that each peer was last given
	heard   map[string]heard
	relays  map[string]*relay
	// unsettled is while a peer has not been moved to the newest key on both sides.
	unsettled bool
	kick      chan struct{}
	closed    bool
}

// device is one identity: a WireGuard device of the kernel.
type device struct {
	name string
	link netlink.Link
	key  state.OwnKey
}

var _ engine.Engine = (*Engine)(nil)

// New opens netlink in the calling thread's network namespace.
func New(owner string) (*Engine, error) {
	set, err := links.Open(owner)
	if err != nil {
		return nil, err
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		set.Close()
		return nil, fmt.Errorf("netlink cannot be opened: %w", err)
	}
	wg, err := wgctrl.New()
	if err != nil {
		set.Close()
		nl.Close()
		return nil, fmt.Errorf("the kernel's WireGuard cannot be opened: %w", err)
	}
	e := &Engine{owner: owner, nl: nl, wg: wg, set: set, filter: newFilter(owner), events: make(chan state.Event, eventsMax), kick: make(chan struct{}, 1), stop: make(chan struct{}),
		paths: map[string]string{}, given: map[string]state.Endpoint{}, heard: map[string]heard{}, relays: map[string]*relay{}}
	e.done.Go(e.tend)
	return e, nil
}

// Lacks says what the kernel lacks for this engine, or nil. It makes a device of each kind, and a filter, and removes them, which also loads modules.
func Lacks() error {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink cannot be opened: %w", err)
	}
	defer nl.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = probeName
	for _, link := range []netlink.Link{&netlink.Wireguard{LinkAttrs: attrs}, &netlink.Vxlan{LinkAttrs: attrs, VxlanId: state.VNIMax, Port: vxlanPort}} {
		if err := nl.LinkAdd(link); err != nil {
			return fmt.Errorf("this kernel makes no %s device: %w", link.Type(), err)
		}
		if err := nl.LinkDel(link); err != nil {
			return fmt.Errorf("a trial %s device cannot be removed: %w", link.Type(), err)
		}
	}
	return lacksFilter()
}

// Forget removes the filter that a kernel engine of this owner left behind, where the kernel can have one.
func Forget(owner string) {
	if lacksFilter() == nil {
		_ = newFilter(owner).remove()
	}
}

func (e *Engine) Name() string               { return state.EngineKernel }
func (e *Engine) Events() <-chan state.Event { return e.events }

// Apply makes the desired state so. It needs no TAPs.
func (e *Engine) Apply(d state.Desired, _ map[string]*os.File) []state.Failure {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return []state.Failure{state.Failedf(state.CodeShuttingDown, "wireguard", "the engine is closed")}
	}
	e.desired = d
	e.paths = map[string]string{}
	table, err := e.set.Table()
	if err != nil {
		return []state.Failure{state.Failed(state.CodeDeviceFailed, "wireguard", err)}
	}
	// Before a network carries anything, its filter is there; without it, none is made.
	if err := e.filter.apply(d.Networks); err != nil {
		return []state.Failure{failed("wireguard", err)}
	}
	failures := e.applyDevices(table)
	failures = append(failures, e.ensureRelays()...)
	failures = append(failures, e.steer()...)
	if e.unsettled {
		select {
		case e.kick <- struct{}{}:
		default:
		}
	}
	return append(failures, e.applyNetworks(table)...)
}

// SetPath changes one peer's path at once.
func (e *Engine) SetPath(node, path string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return state.Failedf(state.CodeShuttingDown, "peer "+node, "the engine is closed")
	}
	e.paths[node] = path
	for _, failure := range append(e.ensureRelays(), e.steer()...) {
		if failure.What == "peer "+node || failure.What == "wireguard" {
			return failure
		}
	}
	return nil
}

// Carry takes a stream for a peer: what comes by it goes to WireGuard, and what WireGuard sends to a carried peer goes by it.
func (e *Engine) Carry(node string, conn *net.UnixConn) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || !e.has(node) {
		return state.Failedf(state.CodeNotFound, "peer "+node, "no such peer")
	}
	r, err := e.relayOf(node)
	if err != nil {
		return failed("peer "+node, err)
	}
	r.attach(conn)
	for _, failure := range e.ensureRelays() {
		return failure
	}
	return nil
}

// Close lets go; devices stay as they are.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	for _, r := range e.relays {
		r.close()
	}
	e.mu.Unlock()
	close(e.stop)
	e.done.Wait()
	close(e.events)
	e.set.Close()
	e.nl.Close()
	return e.wg.Close()
}

// tend watches for packets of peers, and while keys rotate moves each peer to the newest key that works.
func (e *Engine) tend() {
	timer := time.NewTimer(listenEvery)
	defer timer.Stop()
	for listened := time.Now(); ; {
		select {
		case <-e.stop:
			return
		case <-timer.C:
		case <-e.kick:
		}
		e.mu.Lock()
		if e.unsettled {
			e.steer()
		}
		if time.Since(listened) >= listenEvery {
			e.listen()
			listened = time.Now()
		}
		next := listenEvery
		if e.unsettled {
			next = steerEvery
		}
		e.mu.Unlock()
		timer.Reset(next)
	}
}

// tell drops an event that nobody takes in time.
func (e *Engine) tell(event state.Event) {
	select {
	case e.events <- event:
	default:
	}
}

func codeOf(err error) state.Code {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return state.CodePortInUse
	case errors.Is(err, unix.EPERM):
		return state.CodePermissionDenied
	case errors.Is(err, unix.EOPNOTSUPP):
		return state.CodeUnsupported
	}
	return state.CodeDeviceFailed
}

func failed(what string, err error) state.Failure {
	var failure state.Failure
	if errors.As(err, &failure) {
		failure.What = what
		return failure
	}
	return state.Failed(codeOf(err), what, err)
}
