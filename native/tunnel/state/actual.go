package state

import "net/netip"

// Actual is what is there: the desired state as far as it holds, and facts that only the host knows. No private key is in it.
type Actual struct {
	// Generation is that of the last state applied; nil before the first.
	Generation *uint64         `json:"generation"`
	Owner      string          `json:"owner"`
	WireGuard  ActualWireGuard `json:"wireguard"`
	Peers      []ActualPeer    `json:"peers"`
	Networks   []ActualNetwork `json:"networks"`
	// Failures are those of the last apply.
	Failures []Failure `json:"failures"`
}

// ActualWireGuard is this host's own end. Engine is empty while there is none; Why says how it was chosen.
type ActualWireGuard struct {
	Engine  string            `json:"engine"`
	Why     string            `json:"why"`
	VTEP    *netip.Addr       `json:"vtep"`
	Fwmark  uint32            `json:"fwmark"`
	Devices []WireGuardDevice `json:"devices"`
}

// WireGuardDevice is one identity. Name is what `wg show` calls it; Index is 0 for a device in user space.
type WireGuardDevice struct {
	Name       string `json:"name"`
	PublicKey  Key    `json:"publicKey"`
	ListenPort uint16 `json:"listenPort"`
	Index      int    `json:"index"`
}

// ActualPeer is a peer as WireGuard has it. Endpoint is where it was last heard, or where it is tried.
type ActualPeer struct {
	Node       string      `json:"node"`
	VTEP       netip.Addr  `json:"vtep"`
	Keys       []Key       `json:"keys"`
	Endpoint   *Endpoint   `json:"endpoint"`
	Path       string      `json:"path"`
	KeepaliveS int         `json:"keepalive_s"`
	Underlay   *UnderlayTo `json:"underlay"`
}

// UnderlayTo is how the host reaches a peer's endpoint; nil when there is no endpoint.
type UnderlayTo struct {
	Interface string      `json:"interface"`
	Source    *netip.Addr `json:"source"`
	MTU       int         `json:"mtu"`
	// Why says where the MTU comes from, or why there is no route.
	Why string `json:"why"`
}

// ActualNetwork is a network's devices. Port is the bridge's port towards the other hosts: the TAP, or the kernel's VXLAN device.
type ActualNetwork struct {
	Name        string             `json:"name"`
	VNI         uint32             `json:"vni"`
	Bridge      string             `json:"bridge"`
	BridgeIndex int                `json:"bridgeIndex"`
	Port        string             `json:"port"`
	PortIndex   int                `json:"portIndex"`
	MTU         int                `json:"mtu"`
	MAC         MAC                `json:"mac"`
	Addresses   []netip.Prefix     `json:"addresses"`
	Remotes     int                `json:"remotes"`
	Attachments []ActualAttachment `json:"attachments"`
}

// ActualAttachment is a veth pair that is in place.
type ActualAttachment struct {
	Name      string         `json:"name"`
	Namespace string         `json:"netns"`
	Interface string         `json:"interface"`
	MAC       MAC            `json:"mac"`
	Addresses []netip.Prefix `json:"addresses"`
	Host      string         `json:"host"`
	HostIndex int            `json:"hostIndex"`
}

// EngineActual is an engine's part of the actual state; the underlay is added by whoever knows routes.
type EngineActual struct {
	Engine  string
	Devices []WireGuardDevice
	Peers   []ActualPeer
}

// Stats are counters since the engine started, which only grow, and ages: milliseconds since a thing was last seen, null for never.
type Stats struct {
	Peers    []PeerStats    `json:"peers"`
	Networks []NetworkStats `json:"networks"`
	Keys     []KeyStats     `json:"keys"`
}

// PeerStats are of sealed packets. DirectHeardMS is the age of the last packet over UDP, CarriedHeardMS that of the last carried one.
type PeerStats struct {
	Node string `json:"node"`
	// PublicKey is the peer's key in use; nil before the first handshake.
	PublicKey         *Key      `json:"publicKey"`
	Path              string    `json:"path"`
	Why               string    `json:"why"`
	Endpoint          *Endpoint `json:"endpoint"`
	LatestHandshakeMS *int64    `json:"latestHandshake_ms"`
	DirectHeardMS     *int64    `json:"directHeard_ms"`
	CarriedHeardMS    *int64    `json:"carriedHeard_ms"`
	RxBytes           uint64    `json:"rxBytes"`
	TxBytes           uint64    `json:"txBytes"`
	RxPackets         uint64    `json:"rxPackets"`
	TxPackets         uint64    `json:"txPackets"`
	Dropped           uint64    `json:"dropped"`
}

// KeyStats tell when a peer last used a key of this host, so that the daemon can drop an old key that nobody uses.
type KeyStats struct {
	PublicKey  Key    `json:"publicKey"`
	LastUsedMS *int64 `json:"lastUsed_ms"`
}

// NetworkStats are of inner frames, towards the host (rx) and from it (tx).
type NetworkStats struct {
	Name      string  `json:"name"`
	RxBytes   uint64  `json:"rxBytes"`
	TxBytes   uint64  `json:"txBytes"`
	RxPackets uint64  `json:"rxPackets"`
	TxPackets uint64  `json:"txPackets"`
	Refused   Refused `json:"refused"`
}

// Refused counts frames that got nowhere, by reason.
type Refused struct {
	ForgedSource     uint64 `json:"forged_source"`
	WrongVNI         uint64 `json:"wrong_vni"`
	UnknownMAC       uint64 `json:"unknown_mac"`
	NotMember        uint64 `json:"not_member"`
	BroadcastLimited uint64 `json:"broadcast_limited"`
	Malformed        uint64 `json:"malformed"`
	VLANTagged       uint64 `json:"vlan_tagged"`
	NotIP            uint64 `json:"not_ip"`
	TooBig           uint64 `json:"too_big"`
	ARPForged        uint64 `json:"arp_forged"`
	QueueFull        uint64 `json:"queue_full"`
}

// Kinds of events.
const (
	EventPeer     = "peer"
	EventFault    = "fault"
	EventNeighbor = "neighbor"
	EventUnderlay = "underlay"
)

// Event goes to every connected daemon. Data is one of the types below, or a Failure for a fault.
type Event struct {
	Event string `json:"event"`
	Data  any    `json:"data"`
}

// PeerEvent tells that a peer's path changed, or by which path it was heard: at most once a second for each peer.
type PeerEvent struct {
	Node string `json:"node"`
	// Path is the one in use, Heard the one by which a packet of the peer came; empty when the event tells nothing of it.
	Path  string `json:"path,omitempty"`
	Heard string `json:"heard,omitempty"`
	Why   string `json:"why,omitempty"`
}

// NeighborEvent tells of a MAC address learned behind a peer, where that is allowed.
type NeighborEvent struct {
	Network string     `json:"network"`
	MAC     MAC        `json:"mac"`
	VTEP    netip.Addr `json:"vtep"`
}

// UnderlayEvent tells that the way to a peer changed: interface, source or MTU.
type UnderlayEvent struct {
	Node     string      `json:"node"`
	Underlay *UnderlayTo `json:"underlay"`
}
