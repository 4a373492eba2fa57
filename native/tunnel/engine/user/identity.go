package user

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tailscale/wireguard-go/device"
	"golang.org/x/sys/unix"

	"selvedge.dev/tunnel/bind"
	"selvedge.dev/tunnel/state"
	"selvedge.dev/tunnel/switching"
)

// identity is one WireGuard key of this host, with a device, a UDP port and peers of its own. While keys rotate there are two.
type identity struct {
	public state.Key
	listen uint16
	fwmark uint32
	dev    *device.Device
	bind   *bind.Bind
	port   *port
	peers  map[state.Key]*remote

	keys     atomic.Pointer[map[switching.IPv4]state.Key]
	steering bool
}

// remote is one key of a peer, as this identity has it.
type remote struct {
	node      string
	vtep      netip.Addr
	keepalive int
	endpoint  *bind.Peer
}

// errPortInUse is told apart because the user can do something about it.
var errPortInUse = errors.New("the UDP port is in use")

func newIdentity(e *Engine, key state.OwnKey, fwmark uint32, mtu int) (*identity, error) {
	i := &identity{public: key.PrivateKey.Public(), listen: key.ListenPort, fwmark: fwmark, peers: map[state.Key]*remote{}}
	i.bind = bind.New(bind.Hooks{Heard: e.heard, First: func(*bind.Peer) { e.kick() }, Clash: i.clash})
	i.port = newPort(e, mtu)
	i.dev = device.NewDevice(i.port, i.bind, &device.Logger{Verbosef: func(string, ...any) {}, Errorf: e.logf},
		device.WithQueueInboundSize(wireguardQueue), device.WithQueueOutboundSize(wireguardQueue), device.WithQueueStagedSize(stagedBatches))
	i.dev.SetSessionStateFunc(func(device.NoisePublicKey, device.PeerSessionState) { e.kick() })
	if err := i.dev.SetPrivateKey(device.NoisePrivateKey(key.PrivateKey)); err != nil {
		i.close()
		return nil, err
	}
	// Before Up this only notes the port and the mark.
	if err := i.set(fmt.Sprintf("listen_port=%d\nfwmark=%d\n", key.ListenPort, fwmark)); err != nil {
		i.close()
		return nil, err
	}
	if err := i.dev.Up(); err != nil {
		i.close()
		if errors.Is(err, unix.EADDRINUSE) {
			return nil, fmt.Errorf("%w: %d", errPortInUse, key.ListenPort)
		}
		return nil, err
	}
	return i, nil
}

func (i *identity) set(config string) error { return i.dev.IpcSet(config) }

func (i *identity) close() { i.dev.Close() }

// share gives what comes to one identity's port to the others as well: a peer may still use the port that another key had.
func share(identities []*identity) {
	for _, i := range identities {
		var siblings []*bind.Bind
		for _, other := range identities {
			if other != i {
				siblings = append(siblings, other.bind)
			}
		}
		i.bind.SetSiblings(siblings)
	}
}

// moveTo gives the identity its port: in exchange, if another identity of ours has it.
func (i *identity) moveTo(listen uint16, all []*identity) error {
	if i.listen == listen {
		return nil
	}
	for _, other := range all {
		if other.listen == listen {
			bind.Swap(i.bind, other.bind)
			i.listen, other.listen = other.listen, i.listen
			return nil
		}
	}
	if err := i.set(fmt.Sprintf("listen_port=%d\n", listen)); err != nil {
		if errors.Is(err, unix.EADDRINUSE) {
			return fmt.Errorf("%w: %d", errPortInUse, listen)
		}
		return err
	}
	i.listen = listen
	return nil
}

func (i *identity) setMark(fwmark uint32) error {
	if i.fwmark == fwmark {
		return nil
	}
	i.fwmark = fwmark
	return i.set(fmt.Sprintf("fwmark=%d\n", fwmark))
}

// apply makes one key of a peer so. An address is set only when the daemon names a new one: else where the peer was last heard stands.
func (i *identity) apply(p *state.Peer, key state.Key, address *netip.AddrPort) error {
	r := i.peers[key]
	if r != nil && r.node != p.Node {
		i.remove(key)
		r = nil
	}
	fresh := r == nil
	if fresh {
		r = &remote{node: p.Node, endpoint: i.bind.AddPeer(p.Node, bind.Key(key))}
	}
	r.endpoint.SetCarried(p.Path == state.PathCarried)
	if address != nil {
		r.endpoint.SetAddress(*address)
	}
	if !fresh && r.vtep == p.VTEP && r.keepalive == p.KeepaliveS {
		return nil
	}
	var config strings.Builder
	fmt.Fprintf(&config, "public_key=%s\n", key.Hex())
	if fresh {
		fmt.Fprintf(&config, "endpoint=%s\n", bind.EndpointText(bind.Key(key)))
	}
	fmt.Fprintf(&config, "persistent_keepalive_interval=%d\nreplace_allowed_ips=true\nallowed_ip=%s/32\n", p.KeepaliveS, p.VTEP)
	if err := i.set(config.String()); err != nil {
		if fresh {
			i.bind.RemovePeer(bind.Key(key))
		}
		return err
	}
	r.vtep, r.keepalive = p.VTEP, p.KeepaliveS
	// The device's table gives the address to one key only; what both may send as is held with the peer.
	i.dev.LookupPeer(device.NoisePublicKey(key)).SetAllowedIPs([]netip.Prefix{netip.PrefixFrom(p.VTEP, 32)})
	i.peers[key] = r
	return nil
}

func (i *identity) remove(key state.Key) {
	i.dev.RemovePeer(device.NoisePublicKey(key))
	i.bind.RemovePeer(bind.Key(key))
	delete(i.peers, key)
}

// steer chooses by which key of each peer to send, while a peer may have two. The device's own table gives an address to one key only and
// forgets who had it before, so that changing it would lose packets; it is used again once there is one key for each peer.
func (i *identity) steer(keys map[switching.IPv4]state.Key) {
	i.keys.Store(&keys)
	if i.steering {
		return
	}
	i.steering = true
	i.dev.SetPeerByIPPacketFunc(func(_, to netip.Addr, _ []byte) (device.NoisePublicKey, bool) {
		if !to.Is4() {
			return device.NoisePublicKey{}, false
		}
		key, ok := (*i.keys.Load())[to.As4()]
		return device.NoisePublicKey(key), ok
	})
}

// unsteer gives the choice back to the device's table.
func (i *identity) unsteer() error {
	if !i.steering {
		return nil
	}
	var config strings.Builder
	for key, r := range i.peers {
		fmt.Fprintf(&config, "public_key=%s\nupdate_only=true\nallowed_ip=%s/32\n", key.Hex(), r.vtep)
	}
	if err := i.set(config.String()); err != nil {
		return err
	}
	i.steering = false
	i.dev.SetPeerByIPPacketFunc(nil)
	return nil
}

// current is the key of each peer that the device sends by now.
func (i *identity) current() map[switching.IPv4]state.Key {
	if i.steering {
		return *i.keys.Load()
	}
	keys := map[switching.IPv4]state.Key{}
	for key, r := range i.peers {
		keys[r.vtep.As4()] = key
	}
	return keys
}

// initiate begins a handshake, unless one was begun in the last seconds.
func (i *identity) initiate(key state.Key) {
	if p, ok := i.dev.LookupActivePeer(device.NoisePublicKey(key)); ok {
		_ = p.SendHandshakeInitiation(false)
	}
}

// clash is called when both ends may have begun a handshake at once. If nothing is heard soon, the one with the smaller key begins again, with
// no regard to the 5 s that WireGuard would wait.
func (i *identity) clash(p *bind.Peer) {
	if bytes.Compare(i.public[:], p.Key[:]) > 0 {
		return
	}
	time.AfterFunc(clashPatience, func() {
		if peer, ok := i.dev.LookupActivePeer(device.NoisePublicKey(p.Key)); ok && p.Unanswered() {
			peer.ExpireCurrentKeypairs()
			_ = peer.SendHandshakeInitiation(false)
		}
	})
}

// probe sends a keepalive; see bind about what it does for a carried peer.
func (i *identity) probe(key state.Key) {
	if p, ok := i.dev.LookupActivePeer(device.NoisePublicKey(key)); ok {
		p.SendKeepalive()
	}
}

// session is what WireGuard knows of a peer's key.
type session struct {
	handshake        time.Time // zero for never
	rxBytes, txBytes uint64
}

// sessions asks WireGuard, by its configuration protocol.
func (i *identity) sessions() map[state.Key]session {
	text, err := i.dev.IpcGet()
	if err != nil {
		return nil
	}
	all := map[state.Key]session{}
	var key state.Key
	var s session
	var seconds, nanos int64
	finish := func() {
		if key != (state.Key{}) {
			if seconds != 0 || nanos != 0 {
				s.handshake = time.Unix(seconds, nanos)
			}
			all[key] = s
		}
		s, seconds, nanos = session{}, 0, 0
	}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch name {
		case "public_key":
			finish()
			raw, _ := hex.DecodeString(value)
			key = state.Key(raw)
		case "last_handshake_time_sec":
			seconds, _ = strconv.ParseInt(value, 10, 64)
		case "last_handshake_time_nsec":
			nanos, _ = strconv.ParseInt(value, 10, 64)
		case "rx_bytes":
			s.rxBytes, _ = strconv.ParseUint(value, 10, 64)
		case "tx_bytes":
			s.txBytes, _ = strconv.ParseUint(value, 10, 64)
		}
	}
	finish()
	return all
}
