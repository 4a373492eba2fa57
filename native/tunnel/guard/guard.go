// Package guard keeps an app network's addresses to its own bridge. Linux answers for every address of a host on every interface, so a
// stranger on the underlay could reach a member's address, and with forwarding the namespaces behind it, without being in the network.
//
// One nftables table of an owner drops what is for a network's subnet and came by another device. It is replaced whole, in one
// transaction. It may import nft and state.
package guard

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"selvedge.dev/tunnel/nft"
	"selvedge.dev/tunnel/state"
)

// Guard is the table of one owner. It is not safe for concurrent use.
type Guard struct {
	name string
	made *[sha256.Size]byte
}

// New touches nothing yet: what an earlier tunnel made stands until the first Apply.
func New(owner string) *Guard {
	sum := sha256.Sum256([]byte(owner))
	return &Guard{name: "selvedge-guard-" + hex.EncodeToString(sum[:4])}
}

// Apply guards these networks and no others.
func (g *Guard) Apply(networks []state.Network) error {
	digest := digestOf(networks)
	if g.made != nil && *g.made == digest {
		return nil
	}
	conn, err := nft.Dial()
	if err != nil {
		return err
	}
	// Made so that there is one to remove.
	table := conn.AddTable(&nftables.Table{Name: g.name, Family: nftables.TableFamilyINet})
	conn.DelTable(table)
	if len(networks) > 0 {
		if err := build(conn, conn.AddTable(table), networks); err != nil {
			return err
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("the nftables table %s cannot be made: %w", g.name, err)
	}
	g.made = &digest
	return nil
}

// Remove takes the table away.
func (g *Guard) Remove() error { return g.Apply(nil) }

func digestOf(networks []state.Network) [sha256.Size]byte {
	hash := sha256.New()
	for i := range networks {
		fmt.Fprintln(hash, networks[i].Bridge, subnetsOf(&networks[i]))
	}
	return [sha256.Size]byte(hash.Sum(nil))
}

// subnetsOf are the subnets that a network has addresses of on this host, each once.
func subnetsOf(n *state.Network) (subnets []netip.Prefix) {
	add := func(prefixes []netip.Prefix) {
		for _, p := range prefixes {
			if masked := p.Masked(); !slices.Contains(subnets, masked) {
				subnets = append(subnets, masked)
			}
		}
	}
	add(n.Addresses)
	for i := range n.Attachments {
		add(n.Attachments[i].Addresses)
	}
	return subnets
}

// build has one map for each family, from a subnet to the chain of its network: what is for none of them costs one look.
func build(conn *nftables.Conn, table *nftables.Table, networks []state.Network) error {
	arriving := conn.AddChain(&nftables.Chain{Table: table, Name: "arriving", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw})
	elements := map[bool][]nftables.SetElement{}
	for i := range networks {
		n := &networks[i]
		chain := conn.AddChain(&nftables.Chain{Table: table, Name: n.Bridge})
		for _, device := range []string{n.Bridge, "lo"} {
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
				&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: nameOf(device)},
				&expr.Verdict{Kind: expr.VerdictReturn},
			}})
		}
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}}})
		for _, subnet := range subnetsOf(n) {
			is4 := subnet.Addr().Is4()
			verdict := &expr.Verdict{Kind: expr.VerdictJump, Chain: n.Bridge}
			elements[is4] = append(elements[is4], nftables.SetElement{Key: subnet.Addr().AsSlice(), VerdictData: verdict})
			if end := endOf(subnet); end.IsValid() {
				elements[is4] = append(elements[is4], nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
			}
		}
	}
	for _, family := range []struct {
		is4            bool
		name           string
		kind           nftables.SetDatatype
		protocol       byte
		offset, length uint32
	}{
		{true, "subnets4", nftables.TypeIPAddr, unix.NFPROTO_IPV4, 16, 4},
		{false, "subnets6", nftables.TypeIP6Addr, unix.NFPROTO_IPV6, 24, 16},
	} {
		if len(elements[family.is4]) == 0 {
			continue
		}
		subnets := &nftables.Set{Table: table, Name: family.name, KeyType: family.kind, DataType: nftables.TypeVerdict, IsMap: true, Interval: true}
		if err := conn.AddSet(subnets, nil); err != nil {
			return fmt.Errorf("set %s: %w", family.name, err)
		}
		for part := range slices.Chunk(elements[family.is4], elementsMax) {
			if err := conn.SetAddElements(subnets, part); err != nil {
				return fmt.Errorf("set %s: %w", family.name, err)
			}
		}
		conn.AddRule(&nftables.Rule{Table: table, Chain: arriving, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family.protocol}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: family.offset, Len: family.length},
			&expr.Lookup{SourceRegister: 1, SetName: subnets.Name, SetID: subnets.ID, IsDestRegSet: true},
		}})
	}
	return nil
}

// elementsMax bounds one netlink attribute, whose length has 16 bits. It is even, so that no interval is cut.
const elementsMax = 400

// endOf is the first address behind the prefix; invalid if there is none.
func endOf(p netip.Prefix) netip.Addr {
	last := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(last)*8; bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	address, _ := netip.AddrFromSlice(last)
	return address.Next()
}

// nameOf is an interface name as the kernel compares it.
func nameOf(device string) []byte {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, device)
	return name
}
