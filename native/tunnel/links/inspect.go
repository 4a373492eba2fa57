package links

import (
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"selvedge.dev/tunnel/state"
)

// Inspect reads what is there of an owner's networks, from marks alone: also before anything was applied, when owner is empty and any
// owner's devices count. What no device tells (VNI, namespaces) is for the caller to add.
func Inspect(owner string) (networks []state.ActualNetwork, err error) {
	set, err := Open(owner)
	if err != nil {
		return nil, err
	}
	defer set.Close()
	table, err := set.Table()
	if err != nil {
		return nil, err
	}
	byName := map[string]*state.ActualNetwork{}
	for _, link := range table.byName {
		whose, subject, ok := parseMark(link.Attrs().Alias)
		if !ok || owner != "" && whose != owner {
			continue
		}
		name, attachment, _ := strings.Cut(subject, "/")
		if link.Type() == "wireguard" {
			continue
		}
		n := byName[name]
		if n == nil {
			n = &state.ActualNetwork{Name: name}
			byName[name] = n
		}
		table.describe(n, link, attachment)
	}
	for _, n := range byName {
		slices.SortFunc(n.Attachments, func(a, b state.ActualAttachment) int { return strings.Compare(a.Name, b.Name) })
		networks = append(networks, *n)
	}
	slices.SortFunc(networks, func(a, b state.ActualNetwork) int { return strings.Compare(a.Name, b.Name) })
	return networks, nil
}

func (t *Table) describe(n *state.ActualNetwork, link netlink.Link, attachment string) {
	attrs := link.Attrs()
	switch {
	case attachment != "":
		n.Attachments = append(n.Attachments, state.ActualAttachment{Name: attachment, Host: attrs.Name, HostIndex: attrs.Index})
	case link.Type() == "bridge":
		n.Bridge, n.BridgeIndex, n.MTU = attrs.Name, attrs.Index, attrs.MTU
		copy(n.MAC[:], attrs.HardwareAddr)
		for _, prefix := range t.addresses[attrs.Index] {
			if !prefix.Addr().IsLinkLocalUnicast() {
				n.Addresses = append(n.Addresses, prefix)
			}
		}
	default:
		n.Port, n.PortIndex = attrs.Name, attrs.Index
		if vxlan, ok := link.(*netlink.Vxlan); ok {
			n.VNI = uint32(vxlan.VxlanId)
		}
	}
}
