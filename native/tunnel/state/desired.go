// Package state is what daemon and tunnel say to each other: the desired state, the actual state, statistics, failures and events, as
// JSON types with their checks and limits. It knows no socket, no device and no clock, and imports nothing of this module.
//
// Whoever holds a *Desired that came out of Decode may rely on everything that check.go promises.
package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
)

// Engines that a host may be told to use.
const (
	EngineAuto   = "auto"
	EngineKernel = "kernel"
	EngineUser   = "user"
)

// Paths of the sealed packets to a peer: by UDP, or carried by a channel of the daemon.
const (
	PathDirect  = "direct"
	PathCarried = "carried"
)

// Desired is the whole of what this host's app networks should be. It replaces the one before.
type Desired struct {
	Generation uint64    `json:"generation"`
	Owner      string    `json:"owner"`
	WireGuard  WireGuard `json:"wireguard"`
	Peers      []Peer    `json:"peers"`
	Networks   []Network `json:"networks"`
}

// WireGuard is this host's own end.
type WireGuard struct {
	Engine string `json:"engine"`
	// Keys are newest first; there are two while rotating, each with a port of its own.
	Keys   []OwnKey   `json:"keys"`
	Fwmark uint32     `json:"fwmark"`
	VTEP   netip.Addr `json:"vtep"`
}

// OwnKey is one identity of this host and the UDP port where it listens.
type OwnKey struct {
	PrivateKey PrivateKey `json:"privateKey"`
	ListenPort uint16     `json:"listenPort"`
}

// Peer is another host with which this one shares at least one network.
type Peer struct {
	Node string     `json:"node"`
	VTEP netip.Addr `json:"vtep"`
	// Keys are newest first. Endpoint is where the newest listens; an older one stays where it was last heard.
	Keys       []Key     `json:"keys"`
	Endpoint   *Endpoint `json:"endpoint"`
	Path       string    `json:"path"`
	KeepaliveS int       `json:"keepalive_s"`
}

// Endpoint is a UDP address. Names are the daemon's business, so that nothing here waits for a resolver.
type Endpoint struct {
	Host netip.Addr `json:"host"`
	Port uint16     `json:"port"`
}

// AddrPort is the endpoint as net takes it.
func (e Endpoint) AddrPort() netip.AddrPort { return netip.AddrPortFrom(e.Host, e.Port) }

// Network is one app network on this host.
type Network struct {
	Name string `json:"name"`
	VNI  uint32 `json:"vni"`
	// Bridge and TAP are the names of the network's devices here, MAC and Addresses the host's own on the bridge.
	Bridge       string         `json:"bridge"`
	TAP          string         `json:"tap"`
	MTU          int            `json:"mtu"`
	MAC          MAC            `json:"mac"`
	Addresses    []netip.Prefix `json:"addresses"`
	Learning     bool           `json:"learning"`
	BroadcastPPS int            `json:"broadcast_pps"`
	// Remote are the endpoints behind other hosts. Local are those of this host: the bridge's own and every attachment's.
	Remote      []Remote     `json:"remote"`
	Local       []Local      `json:"local"`
	Attachments []Attachment `json:"attachments"`
}

// Remote is an endpoint behind another host, which is named by its VTEP.
type Remote struct {
	MAC       MAC          `json:"mac"`
	Addresses []netip.Addr `json:"addresses"`
	VTEP      netip.Addr   `json:"vtep"`
}

// Local is an endpoint of this host.
type Local struct {
	MAC       MAC          `json:"mac"`
	Addresses []netip.Addr `json:"addresses"`
}

// Attachment is a veth pair: Host on the bridge, Interface in the namespace, which is a path or `pid:NUMBER`.
type Attachment struct {
	Name      string         `json:"name"`
	Namespace string         `json:"netns"`
	Interface string         `json:"interface"`
	MAC       MAC            `json:"mac"`
	Addresses []netip.Prefix `json:"addresses"`
	Host      string         `json:"host"`
}

// Strict decodes one JSON value into target: nothing unknown, nothing after it, no more values than the limits allow.
func Strict(line []byte, target any) error {
	if n := bytes.Count(line, []byte{'{'}); n > ObjectsMax {
		return fmt.Errorf("%d objects, at most %d allowed", n, ObjectsMax)
	}
	if n := bytes.Count(line, []byte{','}); n > ValuesMax {
		return fmt.Errorf("%d values, at most %d allowed", n, ValuesMax)
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(target); err != nil {
		return Clip(err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return errors.New("something follows the value")
	}
	return nil
}

// Decode reads and checks a desired state.
func Decode(line []byte) (*Desired, error) {
	var d Desired
	if err := Strict(line, &d); err != nil {
		return nil, err
	}
	if err := d.Check(); err != nil {
		return nil, err
	}
	return &d, nil
}
