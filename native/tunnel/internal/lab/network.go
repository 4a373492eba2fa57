package lab

import (
	"fmt"
)

// Network is an app network of some hosts, whose TAPs have the addresses themselves.
type Network struct {
	Name    string
	Number  int // of its subnets 10.9.NUMBER.0/24 and fd09:NUMBER::/64, and of its VNI 1000+NUMBER
	MTU     int
	Members []*Host
	PPS     int
}

// MAC, IPv4 and IPv6 are a member's.
func (n *Network) MAC(h *Host) string {
	return fmt.Sprintf("02:00:00:%02x:00:%02x", n.Number, h.number())
}
func (n *Network) IPv4(h *Host) string { return fmt.Sprintf("10.9.%d.%d", n.Number, h.number()) }
func (n *Network) IPv6(h *Host) string { return fmt.Sprintf("fd09:%d::%d", n.Number, h.number()) }
func (n *Network) TAP() string         { return "svt-" + n.Name }
func (n *Network) VNI() int            { return 1000 + n.Number }

func (h *Host) number() (n int) {
	_, _ = fmt.Sscanf(h.Node, "host%d", &n)
	return n
}

// MakeTAPs makes the TAPs of the network on its members.
func (n *Network) MakeTAPs() error {
	for _, h := range n.Members {
		if err := h.Ask(map[string]any{"op": "tap", "network": n.Name, "tap": n.TAP()}, nil); err != nil {
			return err
		}
		for _, args := range [][]string{
			{"link", "set", n.TAP(), "address", n.MAC(h), "mtu", fmt.Sprint(n.MTU), "up"},
			{"addr", "add", n.IPv4(h) + "/24", "broadcast", "+", "dev", n.TAP()},
			{"addr", "add", n.IPv6(h) + "/64", "dev", n.TAP(), "nodad"},
		} {
			if err := IP(append([]string{"-n", h.Namespace}, args...)...); err != nil {
				return err
			}
		}
	}
	return nil
}

// Desired is the whole state of one host that is a member of the networks, in the shape of the control socket.
func (l *Lab) Desired(h *Host, networks ...*Network) map[string]any {
	peers, nets := []any{}, []any{}
	shared := map[*Host]bool{}
	for _, n := range networks {
		remote, member := []any{}, false
		for _, m := range n.Members {
			if m == h {
				member = true
				continue
			}
			remote = append(remote, map[string]any{"mac": n.MAC(m), "addresses": []string{n.IPv4(m), n.IPv6(m)}, "vtep": m.VTEP})
		}
		if !member {
			continue
		}
		for _, m := range n.Members {
			shared[m] = m != h
		}
		pps := n.PPS
		if pps == 0 {
			pps = 1000
		}
		nets = append(nets, map[string]any{"name": n.Name, "vni": n.VNI(), "bridge": "svb-" + n.Name, "tap": n.TAP(), "mtu": n.MTU, "mac": n.MAC(h),
			"addresses": []string{n.IPv4(h) + "/24", n.IPv6(h) + "/64"}, "learning": false, "broadcast_pps": pps, "remote": remote,
			"local": []any{}, "attachments": []any{}})
	}
	for _, m := range l.Hosts {
		if shared[m] {
			peers = append(peers, m.AsPeer())
		}
	}
	return map[string]any{"generation": 1, "owner": "lab", "wireguard": map[string]any{"engine": "user", "fwmark": 0, "vtep": h.VTEP,
		"keys": []any{map[string]any{"privateKey": h.PrivateKey, "listenPort": h.Port}}}, "peers": peers, "networks": nets}
}

// AsPeer is the host as the others' desired state names it.
func (h *Host) AsPeer() map[string]any {
	return map[string]any{"node": h.Node, "vtep": h.VTEP, "keys": []string{h.PublicKey},
		"endpoint": map[string]any{"host": h.Underlay, "port": h.Port}, "path": "direct", "keepalive_s": 0}
}

// Apply gives each host its state.
func (l *Lab) Apply(networks ...*Network) error {
	for _, h := range l.Hosts {
		if err := h.Ask(map[string]any{"op": "apply", "desired": l.Desired(h, networks...)}, nil); err != nil {
			return err
		}
	}
	return nil
}
