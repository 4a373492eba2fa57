// Package host keeps the app networks of one host as desired. It puts together devices (links), the engine that carries frames between
// hosts, routes (underlay) and what `wg show` reads (uapi), and is what the control socket speaks for.
//
// It keeps nothing on disk. When it ends, devices stay for the next tunnel to adopt; only Shutdown removes them.
package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"selvedge.dev/tunnel/control"
	"selvedge.dev/tunnel/engine"
	"selvedge.dev/tunnel/guard"
	"selvedge.dev/tunnel/links"
	"selvedge.dev/tunnel/state"
	"selvedge.dev/tunnel/underlay"
)

// Options are what a host is made of.
type Options struct {
	Program string
	// User and Kernel make the engines. KernelLacks says what the kernel lacks for its engine, or nil.
	User, Kernel func(owner string) (engine.Engine, error)
	KernelLacks  func() error
	// Forget removes what a kernel engine leaves behind besides devices.
	Forget func(owner string)
	// Echo sends an echo request out of a device and waits for the answer.
	Echo func(ctx context.Context, device string, address netip.Addr, bytes int) (time.Duration, error)
	// Tell takes events. It does not block.
	Tell func(state.Event)
}

// Host is the tunnel behind the sockets.
type Host struct {
	options Options
	routes  *underlay.Routes
	stop    context.CancelFunc
	done    sync.WaitGroup
	closing chan struct{}

	// applying is held while the state changes: one apply at a time.
	applying sync.Mutex
	set      *links.Set
	guard    *guard.Guard
	tools    tools

	// mu guards what questions read; it is held for moments only.
	mu       sync.Mutex
	closed   bool
	applied  *state.Desired
	peers    map[string]struct{}
	failures []state.Failure
	engine   engine.Engine
	why      string
	reached  map[string]state.UnderlayTo
}

// New starts to follow changes of the underlay. The caller closes it.
func New(options Options) (*Host, error) {
	routes, err := underlay.Open()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	changes, err := underlay.Watch(ctx)
	if err != nil {
		cancel()
		routes.Close()
		return nil, err
	}
	h := &Host{options: options, routes: routes, stop: cancel, closing: make(chan struct{}), tools: tools{}, reached: map[string]state.UnderlayTo{}}
	h.done.Go(func() { h.follow(ctx, changes) })
	return h, nil
}

// Closing is closed once Shutdown was asked for: the program is to end.
func (h *Host) Closing() <-chan struct{} { return h.closing }

// Close ends the engine and lets go of all devices, which stay.
func (h *Host) Close() error {
	h.applying.Lock()
	defer h.applying.Unlock()
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.stop()
	err := errors.Join(h.replaceEngine(nil, ""), h.tools.close())
	if h.set != nil {
		h.set.Close()
		h.set = nil
	}
	h.done.Wait()
	h.routes.Close()
	return err
}

// Hello is the first answer to a daemon.
func (h *Host) Hello() control.Hello {
	h.mu.Lock()
	defer h.mu.Unlock()
	hello := control.Hello{Version: control.ProtocolVersion, Program: h.options.Program, PID: os.Getpid(), Features: []string{"carry", "underlay", "wg-show"}}
	if h.options.Echo != nil {
		hello.Features = append(hello.Features, "ping")
	}
	if h.engine != nil {
		name := h.engine.Name()
		hello.Engine = &name
	}
	if h.applied != nil {
		hello.Generation = &h.applied.Generation
	}
	return hello
}

// Stats are the engine's.
func (h *Host) Stats() state.Stats {
	stats := state.Stats{}
	if running := h.running(); running != nil {
		stats = running.Stats()
	}
	// Empty lists, not nulls: the daemon's schema has lists.
	stats.Peers, stats.Networks, stats.Keys = list(stats.Peers), list(stats.Networks), list(stats.Keys)
	return stats
}

// SetPath changes one peer's path at once.
func (h *Host) SetPath(node, path string) error {
	if path != state.PathDirect && path != state.PathCarried {
		return state.Failedf(state.CodeRequestInvalid, "path", "path: direct or carried allowed")
	}
	running := h.running()
	if running == nil || !h.HasPeer(node) {
		return state.Failedf(state.CodeNotFound, "peer "+node, "no such peer is in the applied state")
	}
	return running.SetPath(node, path)
}

// HasPeer says whether the applied state has the peer.
func (h *Host) HasPeer(node string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, known := h.peers[node]
	return known
}

// Carry hands a peer's stream to the engine.
func (h *Host) Carry(node string, conn *net.UnixConn) error {
	running := h.running()
	if running == nil {
		return state.Failedf(state.CodeNotFound, "peer "+node, "no engine runs")
	}
	return running.Carry(node, conn)
}

// Ping sends an echo request out of a network's bridge.
func (h *Host) Ping(ctx context.Context, network string, address netip.Addr, bytes int) (float64, error) {
	if h.options.Echo == nil {
		return 0, state.Failedf(state.CodeUnsupported, "ping", "this tunnel has no ping")
	}
	h.mu.Lock()
	bridge := ""
	if h.applied != nil {
		if i := slices.IndexFunc(h.applied.Networks, func(n state.Network) bool { return n.Name == network }); i >= 0 {
			bridge = h.applied.Networks[i].Bridge
		}
	}
	h.mu.Unlock()
	if bridge == "" {
		return 0, state.Failedf(state.CodeNotFound, "network "+network, "no such network is in the applied state")
	}
	rtt, err := h.options.Echo(ctx, bridge, address, bytes)
	if err != nil && ctx.Err() == nil {
		err = state.Failed(state.CodeDeviceFailed, "network "+network, err)
	}
	return float64(rtt.Microseconds()) / 1000, err
}

func (h *Host) running() engine.Engine {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.engine
}

func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}

// describe is an error as a failure of the thing.
func describe(what string, err error) state.Failure {
	var failure state.Failure
	if errors.As(err, &failure) {
		return failure
	}
	return state.Failed(state.CodeInternalError, what, fmt.Errorf("%w", err))
}
