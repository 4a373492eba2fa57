package host

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"selvedge.dev/tunnel/engine"
	"selvedge.dev/tunnel/state"
	"selvedge.dev/tunnel/uapi"
)

// namesMax is how many names are tried for a device: on one file system several namespaces may have tunnels with the same port.
const namesMax = 10

// configured is an engine whose devices live in this process, so that WireGuard's tools must be shown them.
type configured interface {
	DeviceConfig(device int) (string, error)
}

// tools are the sockets that `wg show` reads, by listening port.
type tools struct {
	mu     sync.Mutex
	served map[uint16]served
}

type served struct {
	name   string
	server *uapi.Server
}

// serve opens a socket for each of this host's keys and closes those of keys that are gone.
func (t *tools) serve(running engine.Engine, d *state.Desired) (failures []state.Failure) {
	devices, ok := running.(configured)
	if !ok {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.served == nil {
		t.served = map[uint16]served{}
	}
	for port, there := range t.served {
		if !slices.ContainsFunc(d.WireGuard.Keys, func(k state.OwnKey) bool { return k.ListenPort == port }) {
			_ = there.server.Close()
			delete(t.served, port)
		}
	}
	for _, key := range d.WireGuard.Keys {
		if _, there := t.served[key.ListenPort]; there {
			continue
		}
		// Which device has the port may change while the socket is open, so it is looked up at each question.
		config := func() (string, error) { return configOf(running, devices, key.ListenPort) }
		opened, err := open(key.ListenPort, config)
		if err != nil {
			failures = append(failures, state.Failed(state.CodeDeviceFailed, "wireguard", fmt.Errorf("wg show will not work: %w", err)))
			continue
		}
		t.served[key.ListenPort] = opened
	}
	return failures
}

func open(port uint16, config func() (string, error)) (served, error) {
	var err error
	for i := range namesMax {
		name := fmt.Sprintf("svw-%d", port)
		if i > 0 {
			name = fmt.Sprintf("svw-%d-%d", port, i)
		}
		var server *uapi.Server
		if server, err = uapi.Serve(name, config); err == nil {
			return served{name: name, server: server}, nil
		}
		if !errors.Is(err, uapi.ErrInUse) {
			break
		}
	}
	return served{}, err
}

func configOf(running engine.Engine, devices configured, port uint16) (string, error) {
	for i, device := range running.Actual().Devices {
		if device.ListenPort == port {
			return devices.DeviceConfig(i)
		}
	}
	return "", fmt.Errorf("no device listens on port %d", port)
}

// named gives devices in user space the names under which `wg show` finds them.
func (t *tools) named(devices []state.WireGuardDevice) []state.WireGuardDevice {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range devices {
		if there, ok := t.served[devices[i].ListenPort]; ok {
			devices[i].Name = there.name
		}
	}
	return devices
}

func (t *tools) close() (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, there := range t.served {
		err = errors.Join(err, there.server.Close())
	}
	clear(t.served)
	return err
}
