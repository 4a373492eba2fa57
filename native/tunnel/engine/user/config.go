package user

import "selvedge.dev/tunnel/state"

// DeviceConfig is one identity as WireGuard's configuration protocol writes it, private key and all: it is for package uapi, which
// takes the secrets out.
func (e *Engine) DeviceConfig(device int) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || device < 0 || device >= len(e.identities) {
		return "", state.Failedf(state.CodeNotFound, "wireguard", "there is no identity %d", device)
	}
	return e.identities[device].dev.IpcGet()
}
