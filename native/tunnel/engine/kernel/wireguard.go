package kernel

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"selvedge.dev/tunnel/links"
	"selvedge.dev/tunnel/state"
)

// applyDevices brings the WireGuard devices, one for each of this host's keys, to what is desired, and removes others of ours.
func (e *Engine) applyDevices(table *links.Table) (failures []state.Failure) {
	e.devices = nil
	wanted := map[string]bool{}
	for _, key := range e.desired.WireGuard.Keys {
		name := fmt.Sprintf("svw-%d", key.ListenPort)
		wanted[name] = true
		device, err := e.ensureDevice(table, name, key)
		if err != nil {
			failures = append(failures, failed("wireguard", err))
			continue
		}
		e.devices = append(e.devices, device)
	}
	for _, link := range table.Marked() {
		if link.Type() != "wireguard" || wanted[link.Attrs().Name] {
			continue
		}
		if err := e.nl.LinkDel(link); err != nil {
			failures = append(failures, failed("wireguard", fmt.Errorf("%s cannot be removed: %w", link.Attrs().Name, err)))
		}
	}
	return failures
}

func (e *Engine) ensureDevice(table *links.Table, name string, key state.OwnKey) (device, error) {
	link, err := table.Claim(name, "wireguard", wireguardSubject)
	if err != nil {
		return device{}, err
	}
	if link == nil {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		if link, err = table.Make(&netlink.Wireguard{LinkAttrs: attrs}, wireguardSubject); err != nil {
			return device{}, err
		}
		// An answer may come in by the device of the other key while keys rotate: the way back need not be the same.
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/rp_filter", []byte("2"), 0); err != nil {
			return device{}, fmt.Errorf("%s: its reverse path filter cannot be set: %w", name, err)
		}
	}
	if err := e.configure(name, key); err != nil {
		return device{}, err
	}
	if mtu := e.mtu(); link.Attrs().MTU != mtu {
		if err := e.nl.LinkSetMTU(link, mtu); err != nil {
			return device{}, fmt.Errorf("%s cannot have an MTU of %d: %w", name, mtu, err)
		}
	}
	vtep := &netlink.Addr{IPNet: hostNet(e.desired.WireGuard.VTEP)}
	there, err := e.nl.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return device{}, fmt.Errorf("the addresses of %s cannot be listed: %w", name, err)
	}
	for i := range there {
		if !there[i].IP.Equal(vtep.IP) {
			if err := e.nl.AddrDel(link, &there[i]); err != nil {
				return device{}, fmt.Errorf("%s cannot lose %v: %w", name, there[i].IP, err)
			}
		}
	}
	if err := e.nl.AddrReplace(link, vtep); err != nil {
		return device{}, fmt.Errorf("%s cannot have %v: %w", name, vtep.IP, err)
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		if err := e.nl.LinkSetUp(link); err != nil {
			return device{}, fmt.Errorf("%s cannot be set up on UDP port %d: %w", name, key.ListenPort, err)
		}
	}
	return device{name: name, link: link, key: key}, nil
}

// configure sets key, port and mark where they differ: setting a key anew would end every session.
func (e *Engine) configure(name string, key state.OwnKey) error {
	there, err := e.wg.Device(name)
	if err != nil {
		return fmt.Errorf("%s cannot be read: %w", name, err)
	}
	var config wgtypes.Config
	if private := wgtypes.Key(key.PrivateKey); there.PrivateKey != private {
		config.PrivateKey = &private
	}
	if port := int(key.ListenPort); there.ListenPort != port {
		config.ListenPort = &port
	}
	if mark := int(e.desired.WireGuard.Fwmark); there.FirewallMark != mark {
		config.FirewallMark = &mark
	}
	if config.PrivateKey == nil && config.ListenPort == nil && config.FirewallMark == nil {
		return nil
	}
	if err := e.wg.ConfigureDevice(name, config); err != nil {
		return fmt.Errorf("%s cannot be configured: %w", name, err)
	}
	return nil
}

// mtu is that of the WireGuard devices: enough for the largest network's packets in VXLAN. The daemon sees to it that they fit.
func (e *Engine) mtu() int {
	mtu := 0
	for i := range e.desired.Networks {
		mtu = max(mtu, e.desired.Networks[i].MTU)
	}
	return max(mtu, state.MTUBytesMin) + vxlanOverheadBytes
}

// steer brings peers and the routes to them to what is desired. While keys rotate it is called again and again: it moves a peer to a
// newer key once that has shaken hands, never before.
func (e *Engine) steer() (failures []state.Failure) {
	e.unsettled = false
	through := make(map[string]int, len(e.desired.Peers))
	for i := len(e.devices) - 1; i >= 0; i-- {
		there, err := e.wg.Device(e.devices[i].name)
		if err != nil {
			failures = append(failures, failed("wireguard", fmt.Errorf("%s cannot be read: %w", e.devices[i].name, err)))
			continue
		}
		failures = append(failures, e.steerDevice(there, i, through)...)
	}
	for _, index := range through {
		e.unsettled = e.unsettled || index > 0
	}
	return append(failures, e.route(through)...)
}

func (e *Engine) steerDevice(there *wgtypes.Device, index int, through map[string]int) (failures []state.Failure) {
	present := make(map[state.Key]*wgtypes.Peer, len(there.Peers))
	for i := range there.Peers {
		present[state.Key(there.Peers[i].PublicKey)] = &there.Peers[i]
	}
	var changes []wgtypes.PeerConfig
	for i := range e.desired.Peers {
		p := &e.desired.Peers[i]
		active := activeKey(p, present)
		e.unsettled = e.unsettled || active != p.Keys[0]
		for k, key := range p.Keys {
			if change := e.peerChange(p, k == 0, key == active, key, present[key]); change != nil {
				changes = append(changes, *change)
			}
		}
		if _, chosen := through[p.Node]; !chosen || spoken(present[active]) {
			through[p.Node] = index
		}
		for _, key := range p.Keys {
			delete(present, key)
		}
	}
	for key := range present {
		changes = append(changes, wgtypes.PeerConfig{PublicKey: wgtypes.Key(key), Remove: true})
	}
	if len(changes) == 0 {
		return nil
	}
	if err := e.wg.ConfigureDevice(there.Name, wgtypes.Config{Peers: changes}); err != nil {
		failures = append(failures, failed("wireguard", fmt.Errorf("the peers of %s cannot be set: %w", there.Name, err)))
	}
	return failures
}

// activeKey is the one key of the peer whose packets are accepted and to which ours go: WireGuard has one for each address. A newer key
// takes over when it has shaken hands.
func activeKey(p *state.Peer, present map[state.Key]*wgtypes.Peer) state.Key {
	newest := p.Keys[0]
	for _, older := range p.Keys[1:] {
		if there := present[older]; there != nil && len(there.AllowedIPs) > 0 && !spoken(present[newest]) {
			return older
		}
	}
	return newest
}

// newEndpoint is the endpoint that one key of a peer is to be given now, or nil to leave it: the relay's while the peer is carried,
// else the desired one when that is new, or when nothing better is known.
func (e *Engine) newEndpoint(p *state.Peer, newest bool, key state.Key, there *wgtypes.Peer) *state.Endpoint {
	given := p.Node + key.String()
	if r := e.relays[p.Node]; r != nil && e.pathOf(p) == state.PathCarried {
		at := r.endpoint()
		e.given[given] = at
		if there != nil && there.Endpoint != nil && there.Endpoint.AddrPort() == at.AddrPort() {
			return nil
		}
		return &at
	}
	if !newest || p.Endpoint == nil {
		return nil
	}
	last, known := e.given[given]
	e.given[given] = *p.Endpoint
	if there != nil && known && last == *p.Endpoint {
		return nil
	}
	if there != nil && !known && there.Endpoint != nil && time.Since(there.LastHandshakeTime) <= sessionTime {
		// Of a tunnel before this one: the kernel knows where the peer was heard.
		return nil
	}
	return p.Endpoint
}

func spoken(peer *wgtypes.Peer) bool { return peer != nil && !peer.LastHandshakeTime.IsZero() }

// peerChange is what one key of a peer needs, or nil.
func (e *Engine) peerChange(p *state.Peer, newest, active bool, key state.Key, there *wgtypes.Peer) *wgtypes.PeerConfig {
	change := wgtypes.PeerConfig{PublicKey: wgtypes.Key(key)}
	needed := there == nil
	keepalive := time.Duration(p.KeepaliveS) * time.Second
	if !active {
		keepalive = rotatingKeepalive
	}
	if there == nil && keepalive > 0 || there != nil && there.PersistentKeepaliveInterval != keepalive {
		change.PersistentKeepaliveInterval, needed = &keepalive, true
	}
	allowed := []net.IPNet{}
	if active {
		allowed = []net.IPNet{*hostNet(p.VTEP)}
	}
	if there == nil || !slices.EqualFunc(there.AllowedIPs, allowed, func(a, b net.IPNet) bool { return a.String() == b.String() }) {
		change.ReplaceAllowedIPs, change.AllowedIPs, needed = true, allowed, true
	}
	if endpoint := e.newEndpoint(p, newest, key, there); endpoint != nil {
		change.Endpoint, needed = net.UDPAddrFromAddrPort(endpoint.AddrPort()), true
	}
	if !needed {
		return nil
	}
	return &change
}

// route leads each peer's VTEP into the device of the newest of our keys with which it has shaken hands.
func (e *Engine) route(through map[string]int) (failures []state.Failure) {
	all, err := e.nl.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return []state.Failure{failed("wireguard", fmt.Errorf("routes cannot be listed: %w", err))}
	}
	ours := map[int]bool{}
	for i := range e.devices {
		ours[e.devices[i].link.Attrs().Index] = true
	}
	there := map[netip.Addr]*netlink.Route{}
	for i := range all {
		if dst, ok := hostOf(all[i].Dst); ok {
			there[dst] = &all[i]
		}
	}
	for i := range e.desired.Peers {
		p := &e.desired.Peers[i]
		at, ok := through[p.Node]
		if !ok {
			continue
		}
		index, was := e.devices[at].link.Attrs().Index, there[p.VTEP]
		delete(there, p.VTEP)
		if was != nil && was.LinkIndex == index {
			continue
		}
		if was != nil && !ours[was.LinkIndex] {
			failures = append(failures, state.Failedf(state.CodeAddressInUse, "peer "+p.Node, "there is a route to %v that is not ours", p.VTEP))
			continue
		}
		route := &netlink.Route{LinkIndex: index, Dst: hostNet(p.VTEP), Scope: netlink.SCOPE_LINK, Src: e.desired.WireGuard.VTEP.AsSlice()}
		if err := e.nl.RouteReplace(route); err != nil {
			failures = append(failures, failed("peer "+p.Node, fmt.Errorf("no route to %v can be made: %w", p.VTEP, err)))
		}
	}
	for dst, route := range there {
		if !ours[route.LinkIndex] {
			continue
		}
		if err := e.nl.RouteDel(route); err != nil {
			failures = append(failures, failed("wireguard", fmt.Errorf("the route to %v cannot be removed: %w", dst, err)))
		}
	}
	return failures
}

func hostNet(address netip.Addr) *net.IPNet {
	return &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(address.BitLen(), address.BitLen())}
}

func hostOf(dst *net.IPNet) (netip.Addr, bool) {
	if dst == nil {
		return netip.Addr{}, false
	}
	ones, bits := dst.Mask.Size()
	address, ok := netip.AddrFromSlice(dst.IP)
	return address.Unmap(), ok && ones == bits
}
