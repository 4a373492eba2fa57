// Package guard keeps an app network to itself: Linux answers for an address of the host on every interface, so without it any neighbour
// on the host's LAN could reach the host's own address in a network, and what the host forwards could reach its attachments. A packet to
// a network's subnet must come out of its bridge (or be the host's own).
//
// It is one nftables table, programmed over netlink and replaced whole in one transaction.
package guard

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"

	"selvedge.dev/tunnel/state"
)

const (
	bufferBytes = 16 << 20
	// elementsMax is how many elements go into one message: their list is an attribute whose length has 16 bits.
	elementsMax   = 400
	firstRegister = 8
	// priorityRaw is before connection tracking: what is dropped costs nothing more.
	priorityRaw = -300
)

// Dial opens nftables with buffers that hold a whole transaction.
func Dial() (*nftables.Conn, error) {
	return nftables.New(nftables.WithSockOptions(
		func(c *netlink.Conn) error { return c.SetReadBuffer(bufferBytes) },
		func(c *netlink.Conn) error { return c.SetWriteBuffer(bufferBytes) },
	))
}

// TableName is the name of an owner's table for a purpose.
func TableName(purpose, owner string) string {
	sum := sha256.Sum256([]byte(owner))
	return "selvedge-" + purpose + "-" + hex.EncodeToString(sum[:4])
}

// Guard is the table of one owner. It is not safe for concurrent use.
type Guard struct {
	name string
	made []subnet
	set  bool
}

// subnet is what may be reached from one bridge only.
type subnet struct {
	prefix netip.Prefix
	bridge string
}

// New knows nothing of a table that is there already; the first Apply replaces it.
func New(owner string) *Guard { return &Guard{name: TableName("guard", owner)} }

// Apply makes the table for the networks, if it is not that already; for none it removes it.
func (g *Guard) Apply(networks []state.Network) error {
	wanted := subnetsOf(networks)
	if g.set && slices.Equal(wanted, g.made) {
		return nil
	}
	conn, err := Dial()
	if err != nil {
		return failed(err)
	}
	// Made so that there is one to remove.
	table := conn.AddTable(&nftables.Table{Name: g.name, Family: nftables.TableFamilyINet})
	conn.DelTable(table)
	if len(wanted) > 0 {
		if err := build(conn, conn.AddTable(table), wanted); err != nil {
			return failed(err)
		}
	}
	if err := conn.Flush(); err != nil {
		return failed(err)
	}
	g.made, g.set = wanted, true
	return nil
}

func failed(err error) error {
	return state.Failedf(state.CodeUnsupported, "wireguard", "neighbours can reach this host's own app addresses, since nftables cannot keep them out: %w", err)
}

// subnetsOf are the subnets of the networks, each once: of two that overlap the first, as links refuses the second's addresses.
func subnetsOf(networks []state.Network) (all []subnet) {
	for i := range networks {
		n := &networks[i]
		prefixes := slices.Clone(n.Addresses)
		for j := range n.Attachments {
			prefixes = append(prefixes, n.Attachments[j].Addresses...)
		}
		for _, prefix := range prefixes {
			prefix = prefix.Masked()
			if !slices.ContainsFunc(all, func(s subnet) bool { return s.prefix.Overlaps(prefix) }) {
				all = append(all, subnet{prefix: prefix, bridge: n.Bridge})
			}
		}
	}
	return all
}

// build has a map of subnets to chains: a packet to anywhere else costs one look-up, however many networks there are.
func build(conn *nftables.Conn, table *nftables.Table, subnets []subnet) error {
	arriving := conn.AddChain(&nftables.Chain{Table: table, Name: "arriving", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRef(priorityRaw)})
	var elements [2][]nftables.SetElement
	bridges := map[string]bool{}
	for _, s := range subnets {
		if !bridges[s.bridge] {
			bridges[s.bridge] = true
			chain := conn.AddChain(&nftables.Chain{Table: table, Name: s.bridge})
			for _, name := range []string{s.bridge, "lo"} {
				conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
					&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: append([]byte(name), 0)}, &expr.Verdict{Kind: expr.VerdictReturn}}})
			}
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}}})
		}
		family := 0
		if s.prefix.Addr().Is6() {
			family = 1
		}
		// An interval is its first address, and the one after its last.
		elements[family] = append(elements[family],
			nftables.SetElement{Key: s.prefix.Addr().AsSlice(), VerdictData: &expr.Verdict{Kind: expr.VerdictJump, Chain: s.bridge}},
			nftables.SetElement{Key: last(s.prefix).Next().AsSlice(), IntervalEnd: true})
	}
	for i, f := range []struct {
		name           string
		kind           nftables.SetDatatype
		protocol       byte
		offset, length uint32
	}{{"subnets4", nftables.TypeIPAddr, 2, 16, 4}, {"subnets6", nftables.TypeIP6Addr, 10, 24, 16}} {
		set := &nftables.Set{Table: table, Name: f.name, KeyType: f.kind, DataType: nftables.TypeVerdict, IsMap: true, Interval: true}
		if err := conn.AddSet(set, nil); err != nil {
			return err
		}
		for part := range slices.Chunk(elements[i], elementsMax) {
			if err := conn.SetAddElements(set, part); err != nil {
				return err
			}
		}
		conn.AddRule(&nftables.Rule{Table: table, Chain: arriving, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{f.protocol}},
			&expr.Payload{DestRegister: firstRegister, Base: expr.PayloadBaseNetworkHeader, Offset: f.offset, Len: f.length},
			&expr.Lookup{SourceRegister: firstRegister, SetName: set.Name, SetID: set.ID, IsDestRegSet: true},
		}})
	}
	return nil
}

// last is the highest address of a prefix.
func last(prefix netip.Prefix) netip.Addr {
	bytes := prefix.Addr().AsSlice()
	for i := prefix.Bits(); i < len(bytes)*8; i++ {
		bytes[i/8] |= 0x80 >> (i % 8)
	}
	address, _ := netip.AddrFromSlice(bytes)
	return address
}
