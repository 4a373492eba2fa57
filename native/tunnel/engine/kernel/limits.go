package kernel

import "time"

const (
	// vxlanPort is where VXLAN is spoken (RFC 7348), inside WireGuard.
	vxlanPort = 4789
	// vxlanOverheadBytes is what VXLAN adds to an inner packet: outer IPv4, UDP, VXLAN and the inner Ethernet header.
	vxlanOverheadBytes = 20 + 8 + 8 + 14
	probeName          = "svw-probe"
	wireguardSubject   = "wireguard"

	// A carried packet has a length of 16 bits; relayBytesMax is what waits for one peer's stream before packets are dropped.
	packetBytesMax = 65535
	relayBytesMax  = 512 << 10

	eventsMax = 1024
	// steerEvery is how soon a peer is moved once a new key works; it is looked at only while keys rotate.
	steerEvery  = 10 * time.Millisecond
	listenEvery = time.Second
	// sessionTime is how long WireGuard trusts a session (REJECT_AFTER_TIME): a peer heard within it is where it was heard.
	sessionTime = 180 * time.Second
	// rotatingKeepalive makes a peer's new key shake hands though nothing is sent to it yet.
	rotatingKeepalive = 1 * time.Second
)
