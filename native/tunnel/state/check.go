package state

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

var (
	networkName   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	interfaceName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)
	// Also parts of a device's mark, in which spaces divide.
	word = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@-]*$`)
)

// Prefixes of the names of our devices. A name outside of them is refused, so that no request can even name another's device.
const (
	BridgePrefix = "svb-"
	TAPPrefix    = "svt-"
	VethPrefix   = "svv-"
)

// Check finds the first thing that is wrong, named by its path in the JSON.
func (d *Desired) Check() error {
	if err := checkWord("owner", d.Owner, OwnerBytesMax); err != nil {
		return err
	}
	if err := d.WireGuard.check(len(d.Networks) > 0 || len(d.Peers) > 0); err != nil {
		return fmt.Errorf("wireguard.%w", err)
	}
	if err := atMost("peers", len(d.Peers), PeersMax); err != nil {
		return err
	}
	if err := atMost("networks", len(d.Networks), NetworksMax); err != nil {
		return err
	}
	nodes, keys := unique[string]{}, unique[Key]{}
	vteps := unique[netip.Addr]{d.WireGuard.VTEP: {}}
	for i, own := range d.WireGuard.Keys {
		if err := keys.add("privateKey", own.PrivateKey.Public()); err != nil {
			return fmt.Errorf("wireguard.keys[%d].privateKey: given twice", i)
		}
	}
	for i := range d.Peers {
		p := &d.Peers[i]
		if err := errors.Join(p.check(), nodes.add("node", p.Node), vteps.add("vtep", p.VTEP), keys.addAll("keys", p.Keys)); err != nil {
			return fmt.Errorf("peers[%d].%w", i, first(err))
		}
	}
	delete(vteps, d.WireGuard.VTEP)
	names, vnis, devices := unique[string]{}, unique[uint32]{}, unique[string]{}
	for i := range d.Networks {
		n := &d.Networks[i]
		err := errors.Join(n.check(vteps, devices), names.add("name", n.Name), vnis.add("vni", n.VNI))
		if err != nil {
			return fmt.Errorf("networks[%d].%w", i, first(err))
		}
	}
	return nil
}

func (w *WireGuard) check(used bool) error {
	switch w.Engine {
	case EngineAuto, EngineKernel, EngineUser:
	default:
		return fmt.Errorf("engine: %s is not allowed; allowed: auto, kernel, user", quote(w.Engine))
	}
	if err := atMost("keys", len(w.Keys), OwnKeysMax); err != nil {
		return err
	}
	if !used && len(w.Keys) == 0 && !w.VTEP.IsValid() {
		return nil
	}
	if len(w.Keys) == 0 {
		return errors.New("keys: there are peers or networks, and no key")
	}
	ports := unique[uint16]{}
	for i, key := range w.Keys {
		if key.ListenPort == 0 {
			return fmt.Errorf("keys[%d].listenPort: 1 to 65535 allowed", i)
		}
		if err := ports.add("listenPort", key.ListenPort); err != nil {
			return fmt.Errorf("keys[%d].%w", i, err)
		}
	}
	return checkVTEP(w.VTEP)
}

func (p *Peer) check() error {
	if err := checkWord("node", p.Node, NodeNameBytesMax); err != nil {
		return err
	}
	if err := checkVTEP(p.VTEP); err != nil {
		return err
	}
	if len(p.Keys) == 0 {
		return errors.New("keys: a peer needs one")
	}
	if err := atMost("keys", len(p.Keys), PeerKeysMax); err != nil {
		return err
	}
	if p.Path != PathDirect && p.Path != PathCarried {
		return fmt.Errorf("path: %s is not allowed; allowed: direct, carried", quote(p.Path))
	}
	if p.KeepaliveS < 0 || p.KeepaliveS > KeepaliveSMax {
		return fmt.Errorf("keepalive_s: %d is not within 0 and %d", p.KeepaliveS, KeepaliveSMax)
	}
	if p.Endpoint == nil {
		return nil
	}
	host := p.Endpoint.Host
	if !host.IsValid() || host.Zone() != "" || host.Is4In6() || host.IsUnspecified() || host.IsMulticast() || p.Endpoint.Port == 0 {
		return errors.New("endpoint: not the UDP address of one host")
	}
	return nil
}

func (n *Network) check(vteps unique[netip.Addr], devices unique[string]) error {
	if !networkName.MatchString(n.Name) {
		return fmt.Errorf("name: %s is not a network's name", quote(n.Name))
	}
	if n.VNI == 0 || n.VNI > VNIMax {
		return fmt.Errorf("vni: %d is not within 1 and %d", n.VNI, VNIMax)
	}
	if n.MTU < MTUBytesMin || n.MTU > MTUBytesMax {
		return fmt.Errorf("mtu: %d is not within %d and %d", n.MTU, MTUBytesMin, MTUBytesMax)
	}
	if n.BroadcastPPS < 0 || n.BroadcastPPS > BroadcastPPSMax {
		return fmt.Errorf("broadcast_pps: %d is not within 0 and %d", n.BroadcastPPS, BroadcastPPSMax)
	}
	err := errors.Join(
		checkMAC("mac", n.MAC),
		checkPrefixes("addresses", n.Addresses),
		checkDevice("bridge", n.Bridge, BridgePrefix, devices),
		checkDevice("tap", n.TAP, TAPPrefix, devices),
		atMost("remote", len(n.Remote), RemotesPerNetworkMax),
		atMost("local", len(n.Local), LocalsPerNetworkMax),
		atMost("attachments", len(n.Attachments), AttachmentsPerNetworkMax),
	)
	if err != nil {
		return first(err)
	}
	return n.checkEndpoints(vteps, devices)
}

// checkEndpoints holds that each MAC and each address of the network has one place, and each remote one a peer behind which it lives.
func (n *Network) checkEndpoints(vteps unique[netip.Addr], devices unique[string]) error {
	macs, addresses, names := unique[MAC]{}, unique[netip.Addr]{}, unique[string]{}
	for i := range n.Remote {
		r := &n.Remote[i]
		err := errors.Join(checkMAC("mac", r.MAC), macs.add("mac", r.MAC), checkAddresses("addresses", r.Addresses), addresses.addAll("addresses", r.Addresses))
		if _, known := vteps[r.VTEP]; err == nil && !known {
			err = fmt.Errorf("vtep: %v belongs to no peer", r.VTEP)
		}
		if err != nil {
			return fmt.Errorf("remote[%d].%w", i, first(err))
		}
	}
	for i := range n.Local {
		l := &n.Local[i]
		err := errors.Join(checkMAC("mac", l.MAC), macs.add("mac", l.MAC), checkAddresses("addresses", l.Addresses), addresses.addAll("addresses", l.Addresses))
		if err != nil {
			return fmt.Errorf("local[%d].%w", i, first(err))
		}
	}
	for i := range n.Attachments {
		a := &n.Attachments[i]
		if err := errors.Join(a.check(devices), names.add("name", a.Name)); err != nil {
			return fmt.Errorf("attachments[%d].%w", i, first(err))
		}
	}
	return nil
}

func (a *Attachment) check(devices unique[string]) error {
	if err := checkWord("name", a.Name, AttachmentNameBytesMax); err != nil {
		return err
	}
	if _, _, err := ParseNamespace(a.Namespace); err != nil {
		return fmt.Errorf("netns: %w", err)
	}
	if err := checkInterface("interface", a.Interface); err != nil {
		return err
	}
	return errors.Join(checkMAC("mac", a.MAC), checkPrefixes("addresses", a.Addresses), checkDevice("host", a.Host, VethPrefix, devices))
}

// ParseNamespace tells what a network namespace is named by: an absolute path, or `pid:NUMBER` for that of a process.
func ParseNamespace(text string) (path string, pid int, err error) {
	if number, ok := strings.CutPrefix(text, "pid:"); ok {
		pid, err = strconv.Atoi(number)
		if err != nil || pid < 1 || pid > PIDMax || strconv.Itoa(pid) != number {
			return "", 0, fmt.Errorf("%s is not the number of a process", quote(number))
		}
		return "", pid, nil
	}
	if len(text) > NamespacePathBytesMax || !strings.HasPrefix(text, "/") || strings.ContainsRune(text, 0) {
		return "", 0, fmt.Errorf("%s is neither an absolute path nor pid:NUMBER", quote(text))
	}
	return text, 0, nil
}

func checkVTEP(vtep netip.Addr) error {
	if !vtep.Is4() || vtep.IsUnspecified() || vtep.IsMulticast() || vtep.IsLoopback() {
		return fmt.Errorf("vtep: %v is not the IPv4 address of a host", vtep)
	}
	return nil
}

func checkMAC(path string, mac MAC) error {
	if mac.IsGroup() || mac == (MAC{}) {
		return fmt.Errorf("%s: %v is not the address of one interface", path, mac)
	}
	return nil
}

func checkAddress(path string, address netip.Addr) error {
	if !address.IsValid() || address.Zone() != "" || address.Is4In6() || address.IsUnspecified() || address.IsMulticast() || address.IsLoopback() {
		return fmt.Errorf("%s: %v is not the address of a host", path, address)
	}
	return nil
}

func checkAddresses(path string, addresses []netip.Addr) error {
	if err := atMost(path, len(addresses), AddressesPerEndpointMax); err != nil {
		return err
	}
	for i, address := range addresses {
		if err := checkAddress(fmt.Sprintf("%s[%d]", path, i), address); err != nil {
			return err
		}
	}
	return nil
}

func checkPrefixes(path string, prefixes []netip.Prefix) error {
	if err := atMost(path, len(prefixes), AddressesPerEndpointMax); err != nil {
		return err
	}
	seen := unique[netip.Prefix]{}
	for i, prefix := range prefixes {
		at := fmt.Sprintf("%s[%d]", path, i)
		if err := errors.Join(checkAddress(at, prefix.Addr()), seen.add(at, prefix)); err != nil {
			return first(err)
		}
		least := PrefixBits6Min
		if prefix.Addr().Is4() {
			least = PrefixBits4Min
		}
		if prefix.Bits() < least {
			return fmt.Errorf("%s: %v is wider than /%d", at, prefix, least)
		}
	}
	return nil
}

func checkInterface(path, name string) error {
	if len(name) > InterfaceNameBytesMax || !interfaceName.MatchString(name) {
		return fmt.Errorf("%s: %s is not the name of an interface", path, quote(name))
	}
	return nil
}

func checkDevice(path, name, prefix string, devices unique[string]) error {
	if err := checkInterface(path, name); err != nil {
		return err
	}
	if !strings.HasPrefix(name, prefix) || name == prefix {
		return fmt.Errorf("%s: %s does not start with %s", path, quote(name), prefix)
	}
	return devices.add(path, name)
}

func checkWord(path, text string, bytesMax int) error {
	if len(text) > bytesMax || !word.MatchString(text) {
		return fmt.Errorf("%s: %s is not a name of at most %d letters, digits and ._:/@-", path, quote(text), bytesMax)
	}
	return nil
}

func atMost(path string, n, most int) error {
	if n > most {
		return fmt.Errorf("%s: %d, at most %d allowed", path, n, most)
	}
	return nil
}

// unique is a set that refuses what it has.
type unique[T comparable] map[T]struct{}

func (u unique[T]) add(path string, value T) error {
	if _, taken := u[value]; taken {
		return fmt.Errorf("%s: %v is given twice", path, value)
	}
	u[value] = struct{}{}
	return nil
}

func (u unique[T]) addAll(path string, values []T) error {
	for i, value := range values {
		if err := u.add(fmt.Sprintf("%s[%d]", path, i), value); err != nil {
			return err
		}
	}
	return nil
}

// first is the first of joined errors: one line for whoever reads it.
func first(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return first(joined.Unwrap()[0])
	}
	return err
}
