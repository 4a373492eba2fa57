package host

import (
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"selvedge.dev/tunnel/control"
	"selvedge.dev/tunnel/engine"
	"selvedge.dev/tunnel/guard"
	"selvedge.dev/tunnel/links"
	"selvedge.dev/tunnel/state"
)

// Apply makes the desired state so, as far as it can, and names what it could not. What has not changed is not touched.
func (h *Host) Apply(d *state.Desired) control.Applied {
	h.applying.Lock()
	defer h.applying.Unlock()
	applied := control.Applied{Generation: d.Generation, Changed: []string{}, Failures: []state.Failure{}}
	if err := h.prepare(d); err != nil {
		applied.Failures = append(applied.Failures, describe("wireguard", err))
		return applied
	}
	chosen, why, err := h.choose(d)
	if err != nil {
		applied.Failures = append(applied.Failures, describe("wireguard", err))
		return applied
	}
	withTAP := chosen != state.EngineKernel
	if was := h.running(); was != nil && was.Name() != chosen {
		applied.Changed = append(applied.Changed, "engine "+was.Name()+" ended")
		if err := h.replaceEngine(nil, ""); err != nil {
			applied.Failures = append(applied.Failures, describe("wireguard", err))
		}
	}
	if chosen != "" && h.running() == nil {
		if withTAP {
			h.options.Forget(d.Owner)
			left := h.set.RemoveKernelDevices()
			applied.Failures, applied.Changed = append(applied.Failures, left.Failures...), append(applied.Changed, left.Changed...)
		}
		if err := h.start(chosen, why, d.Owner); err != nil {
			applied.Failures = append(applied.Failures, describe("wireguard", err))
			return applied
		}
		applied.Changed = append(applied.Changed, "engine "+chosen+" started")
	}
	// Before an address is there, its guard is.
	if err := h.guard.Apply(d.Networks); err != nil {
		applied.Failures = append(applied.Failures, describe("wireguard", err))
	}
	// First what is new, then the engine, then what goes: the engine never has a device taken from under it.
	ensured := h.set.Ensure(d, withTAP)
	applied.Failures = append(applied.Failures, ensured.Failures...)
	if running := h.running(); running != nil {
		usable := without(d, ensured.Broken)
		applied.Failures = append(applied.Failures, running.Apply(usable, h.set.TAPs())...)
		applied.Failures = append(applied.Failures, h.tools.serve(running, d)...)
	}
	pruned := h.set.Prune(d, withTAP)
	applied.Failures = append(applied.Failures, pruned.Failures...)
	applied.Changed = append(append(applied.Changed, ensured.Changed...), pruned.Changed...)
	h.remember(d, applied.Failures)
	return applied
}

// Shutdown removes everything that the tunnel made.
func (h *Host) Shutdown() []state.Failure {
	h.applying.Lock()
	defer h.applying.Unlock()
	failures := []state.Failure{}
	h.mu.Lock()
	first := !h.closed
	h.closed = true
	h.mu.Unlock()
	if running := h.running(); running != nil {
		failures = append(failures, running.Apply(state.Desired{}, nil)...)
	}
	if err := errors.Join(h.replaceEngine(nil, ""), h.tools.close()); err != nil {
		failures = append(failures, describe("wireguard", err))
	}
	if h.set != nil {
		failures = append(failures, h.set.RemoveAll().Failures...)
		if err := h.guard.Apply(nil); err != nil {
			failures = append(failures, describe("wireguard", err))
		}
	}
	if first {
		close(h.closing)
	}
	return failures
}

// prepare checks what every change needs, before anything is touched.
func (h *Host) prepare(d *state.Desired) error {
	h.mu.Lock()
	closed, was := h.closed, h.applied
	h.mu.Unlock()
	if closed {
		return state.Failedf(state.CodeShuttingDown, "wireguard", "the tunnel is ending")
	}
	if was != nil && was.Owner != d.Owner {
		return state.Failedf(state.CodeStateInUse, "wireguard", "this tunnel belongs to %s, not to %s", was.Owner, d.Owner)
	}
	if err := Capable(); err != nil {
		return err
	}
	if h.set != nil {
		return nil
	}
	set, err := links.Open(d.Owner)
	if err != nil {
		return err
	}
	h.set, h.guard = set, guard.New(d.Owner)
	return nil
}

// Capable tells whether this process may change network devices at all.
func Capable() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	if data[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		return state.Failedf(state.CodePermissionDenied, "wireguard", "selvedge-tunnel lacks CAP_NET_ADMIN")
	}
	return nil
}

// choose says which engine the state asks for; empty when it has nothing to carry.
func (h *Host) choose(d *state.Desired) (name, why string, err error) {
	if len(d.WireGuard.Keys) == 0 {
		return "", "there is nothing to carry", nil
	}
	h.mu.Lock()
	was, whyWas := h.engine, h.why
	asked := h.applied != nil && h.applied.WireGuard.Engine == d.WireGuard.Engine
	h.mu.Unlock()
	if was != nil && asked {
		return was.Name(), whyWas, nil
	}
	if d.WireGuard.Engine == state.EngineUser {
		return h.user("as configured")
	}
	lacks := h.options.KernelLacks()
	switch {
	case lacks == nil && d.WireGuard.Engine == state.EngineKernel:
		return state.EngineKernel, "as configured", nil
	case lacks == nil:
		return state.EngineKernel, "the kernel has WireGuard and VXLAN", nil
	case d.WireGuard.Engine == state.EngineKernel:
		return "", "", state.Failed(state.CodeUnsupported, "wireguard", lacks)
	}
	return h.user(lacks.Error())
}

func (h *Host) user(why string) (string, string, error) {
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return "", "", state.Failedf(state.CodeUnsupported, "wireguard", "/dev/net/tun is missing: load the module tun, and give a container --device /dev/net/tun")
	}
	return state.EngineUser, why, nil
}

func (h *Host) start(name, why, owner string) error {
	make := h.options.User
	if name == state.EngineKernel {
		make = h.options.Kernel
	}
	started, err := make(owner)
	if err != nil {
		return err
	}
	h.done.Go(func() {
		for event := range started.Events() {
			h.options.Tell(event)
		}
	})
	return h.replaceEngine(started, why)
}

func (h *Host) replaceEngine(next engine.Engine, why string) error {
	h.mu.Lock()
	was := h.engine
	h.engine, h.why = next, why
	h.mu.Unlock()
	if was == nil {
		return nil
	}
	return was.Close()
}

// remember puts the applied state in place, whole, for whoever asks.
func (h *Host) remember(d *state.Desired, failures []state.Failure) {
	peers := make(map[string]struct{}, len(d.Peers))
	for i := range d.Peers {
		peers[d.Peers[i].Node] = struct{}{}
	}
	h.mu.Lock()
	h.applied, h.peers, h.failures = d, peers, failures
	h.mu.Unlock()
}

// without is the state without the networks whose devices failed: the engine has nothing to carry for them.
func without(d *state.Desired, broken map[string]bool) state.Desired {
	usable := *d
	if len(broken) > 0 {
		usable.Networks = slices.DeleteFunc(slices.Clone(d.Networks), func(n state.Network) bool { return broken[n.Name] })
	}
	return usable
}
