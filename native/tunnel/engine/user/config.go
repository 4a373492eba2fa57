package user

import (
	"fmt"
	"regexp"

	"selvedge.dev/tunnel/state"
)

var listenPort = regexp.MustCompile(`(?m)^listen_port=\d+$`)

// DeviceConfig is one identity as WireGuard's configuration protocol writes it, private key and all: it is for package uapi, which
// takes the secrets out.
func (e *Engine) DeviceConfig(device int) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || device < 0 || device >= len(e.identities) {
		return "", state.Failedf(state.CodeNotFound, "wireguard", "there is no identity %d", device)
	}
	i := e.identities[device]
	text, err := i.dev.IpcGet()
	if err != nil {
		return "", err
	}
	// The device does not know when its port was exchanged with another's.
	return listenPort.ReplaceAllString(text, fmt.Sprintf("listen_port=%d", i.listen)), nil
}
