package kernel

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"selvedge.dev/tunnel/guard"
	"selvedge.dev/tunnel/state"
)

// filter is an nftables table that holds what the kernel's VXLAN does not: packets of our VNIs come out of our WireGuard and from nowhere
// else, and what is inside is the sender's own (source MAC, source address, and what ARP and ND claim). What is refused is counted.
//
// The table is replaced whole, in one transaction: at no time does a packet meet half of it.
type filter struct {
	name string
	// made is the digest of what the table was made of; counted is what tables before it had counted.
	made    [sha256.Size]byte
	counted map[string]state.Refused
}

// An element list is one netlink attribute, whose length has 16 bits.
const elementsMax = 400

// Offsets from the start of the outer UDP header.
const (
	atPort      = 2
	atVNI       = 8 + 4 // the VNI and a zero byte
	atInner     = 8 + 8
	atSourceMAC = atInner + 6
	atType      = atInner + 12
	atPayload   = atInner + 14
)

const (
	typeIPv4 = 0x0800
	typeARP  = 0x0806
	typeIPv6 = 0x86dd
	typeVLAN = 0x8100
	typeQinQ = 0x88a8
)

// Registers of four bytes each; a concatenated key lies in neighbouring ones.
const firstRegister = 8

func newFilter(owner string) *filter {
	return &filter{name: guard.TableName("vxlan", owner), counted: map[string]state.Refused{}}
}

// lacksFilter says what the kernel lacks for the filter, or nil.
func lacksFilter() error {
	conn, err := guard.Dial()
	if err == nil {
		table := conn.AddTable(&nftables.Table{Name: "selvedge-probe", Family: nftables.TableFamilyIPv4})
		conn.DelTable(table)
		err = conn.Flush()
	}
	if err != nil {
		return fmt.Errorf("this kernel has no nftables: %w", err)
	}
	return nil
}

// apply makes the table for the networks, if it is not that already.
func (f *filter) apply(networks []state.Network) error {
	digest := digestOf(networks)
	if digest == f.made {
		return nil
	}
	f.keepCounts()
	conn, err := guard.Dial()
	if err != nil {
		return fmt.Errorf("nftables cannot be opened: %w", err)
	}
	// Made so that there is one to remove.
	old := conn.AddTable(&nftables.Table{Name: f.name, Family: nftables.TableFamilyIPv4})
	conn.DelTable(old)
	if len(networks) > 0 {
		b := builder{conn: conn, table: conn.AddTable(old)}
		if err := b.build(networks); err != nil {
			return err
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("the nftables table %s cannot be made: %w", f.name, err)
	}
	f.made = digest
	return nil
}

func digestOf(networks []state.Network) [sha256.Size]byte {
	if len(networks) == 0 {
		return [sha256.Size]byte{1}
	}
	hash := sha256.New()
	for i := range networks {
		n := &networks[i]
		fmt.Fprintln(hash, n.Name, n.VNI, n.Learning, n.BroadcastPPS, n.Remote)
	}
	return [sha256.Size]byte(hash.Sum(nil))
}

// builder puts one table together.
type builder struct {
	conn  *nftables.Conn
	table *nftables.Table
	// What each peer may send: (VTEP, VNI) with a MAC, an IPv4 or an IPv6 address.
	macs, ipv4, ipv6 *nftables.Set
}

func (b *builder) build(networks []state.Network) error {
	input := b.conn.AddChain(&nftables.Chain{Table: b.table, Name: "input", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityMangle})
	arriving := b.conn.AddChain(&nftables.Chain{Table: b.table, Name: "vxlan"})
	if err := b.sets(networks); err != nil {
		return err
	}
	chains := &nftables.Set{Table: b.table, Name: "networks", KeyType: nftables.TypeInteger, DataType: nftables.TypeVerdict, IsMap: true}
	var jumps []nftables.SetElement
	for i := range networks {
		n := &networks[i]
		chain := b.conn.AddChain(&nftables.Chain{Table: b.table, Name: fmt.Sprintf("vni-%x", n.VNI)})
		b.network(chain, n)
		jumps = append(jumps, nftables.SetElement{Key: vniKey(n.VNI), VerdictData: &expr.Verdict{Kind: expr.VerdictJump, Chain: chain.Name}})
	}
	if err := b.add(chains, jumps); err != nil {
		return err
	}
	b.rule(input, protocol(17), transport(atPort, 2, firstRegister), equal(be16(vxlanPort)), verdict(expr.VerdictJump, arriving.Name))
	b.rule(arriving, transport(atVNI, 4, firstRegister), &expr.Lookup{SourceRegister: firstRegister, SetName: chains.Name, SetID: chains.ID, IsDestRegSet: true})
	// Not of our VNIs: any other VXLAN of the host is none of our business, unless it came by our WireGuard.
	b.rule(arriving, outside, verdict(expr.VerdictReturn, ""))
	b.rule(arriving, b.count("", "wrong_vni"), drop)
	return nil
}

// sets has every peer's endpoints of every network.
func (b *builder) sets(networks []state.Network) error {
	set := func(name string, kind nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{Table: b.table, Name: name, KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInteger, kind), Concatenation: true}
	}
	b.macs, b.ipv4, b.ipv6 = set("macs", nftables.TypeEtherAddr), set("addresses4", nftables.TypeIPAddr), set("addresses6", nftables.TypeIP6Addr)
	var macs, ipv4, ipv6 []nftables.SetElement
	for i := range networks {
		n := &networks[i]
		for j := range n.Remote {
			r := &n.Remote[j]
			sender := append(r.VTEP.AsSlice(), vniKey(n.VNI)...)
			macs = append(macs, nftables.SetElement{Key: slices.Concat(sender, r.MAC[:], []byte{0, 0})})
			for _, address := range r.Addresses {
				element := nftables.SetElement{Key: slices.Concat(sender, address.AsSlice())}
				if address.Is4() {
					ipv4 = append(ipv4, element)
				} else {
					ipv6 = append(ipv6, element)
				}
			}
		}
	}
	for _, s := range []struct {
		set      *nftables.Set
		elements []nftables.SetElement
	}{{b.macs, macs}, {b.ipv4, ipv4}, {b.ipv6, ipv6}} {
		if err := b.add(s.set, s.elements); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) add(set *nftables.Set, elements []nftables.SetElement) error {
	if err := b.conn.AddSet(set, nil); err != nil {
		return fmt.Errorf("set %s: %w", set.Name, err)
	}
	for part := range slices.Chunk(elements, elementsMax) {
		if err := b.conn.SetAddElements(set, part); err != nil {
			return fmt.Errorf("set %s: %w", set.Name, err)
		}
	}
	return nil
}

// outside holds for what did not come by one of our WireGuard devices.
var outside = []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte("svw-")}}

// network has the rules of one network's chain, for packets of its VNI.
func (b *builder) network(chain *nftables.Chain, n *state.Network) {
	count := func(reason string) []expr.Any { return b.count(n.Name, reason) }
	forged, arp := count("forged_source"), count("arp_forged")
	b.rule(chain, outside, count("not_member"), drop)
	tagged := count("vlan_tagged")
	b.rule(chain, innerType(typeVLAN), tagged, drop)
	b.rule(chain, innerType(typeQinQ), tagged, drop)
	b.rule(chain, transport(atType, 2, firstRegister), isNot(typeIPv4), isNot(typeARP), isNot(typeIPv6), count("not_ip"), drop)
	if !n.Learning {
		b.rule(chain, notSenders(b.macs, atSourceMAC, 6), forged, drop)
		b.rule(chain, innerType(typeIPv4), notSenders(b.ipv4, atPayload+12, 4), forged, drop)
		b.rule(chain, innerType(typeARP), notSenders(b.macs, atPayload+8, 6), arp, drop)
		b.rule(chain, innerType(typeARP), notSenders(b.ipv4, atPayload+14, 4), arp, drop)
		// Link-local addresses are everybody's own, and the unspecified one is for who has none yet.
		b.rule(chain, innerType(typeIPv6), unless(atPayload+8, netip.MustParsePrefix("fe80::/10")), unless(atPayload+8, netip.MustParsePrefix("::/128")), notSenders(b.ipv6, atPayload+8, 16), forged, drop)
		// A neighbour advertisement says whose address it is.
		b.rule(chain, innerType(typeIPv6), transport(atPayload+6, 1, firstRegister), equal([]byte{58}), transport(atPayload+40, 1, firstRegister), equal([]byte{136}),
			unless(atPayload+48, netip.MustParsePrefix("fe80::/10")), notSenders(b.ipv6, atPayload+48, 16), arp, drop)
	}
	group := []expr.Any{
		&expr.Payload{DestRegister: firstRegister, Base: expr.PayloadBaseTransportHeader, Offset: atInner, Len: 1},
		&expr.Bitwise{SourceRegister: firstRegister, DestRegister: firstRegister, Len: 1, Mask: []byte{1}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: firstRegister, Data: []byte{1}},
	}
	if n.BroadcastPPS > 0 {
		group = append(group, &expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(n.BroadcastPPS), Unit: expr.LimitTimeSecond, Burst: uint32(n.BroadcastPPS), Over: true})
	}
	b.rule(chain, group, count("broadcast_limited"), drop)
	b.rule(chain, verdict(expr.VerdictAccept, ""))
}

var drop = verdict(expr.VerdictDrop, "")

// rule adds a rule of expressions, given singly or in lists.
func (b *builder) rule(chain *nftables.Chain, parts ...any) {
	rule := &nftables.Rule{Table: b.table, Chain: chain}
	for _, part := range parts {
		switch part := part.(type) {
		case expr.Any:
			rule.Exprs = append(rule.Exprs, part)
		case []expr.Any:
			rule.Exprs = append(rule.Exprs, part...)
		}
	}
	b.conn.AddRule(rule)
}

// count counts with a named counter, `NETWORK.REASON`; for all networks, `.REASON`.
func (b *builder) count(network, reason string) []expr.Any {
	name := network + "." + reason
	b.conn.AddObj(&nftables.CounterObj{Table: b.table, Name: name})
	const typeCounter = 1
	return []expr.Any{&expr.Objref{Type: typeCounter, Name: name}}
}

func protocol(number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{number}}}
}

func transport(offset, length, register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: length}
}

func equal(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: firstRegister, Data: data}
}

func innerType(number uint16) []expr.Any {
	return []expr.Any{transport(atType, 2, firstRegister), equal(be16(number))}
}

func isNot(number uint16) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: firstRegister, Data: be16(number)}
}

// notSenders holds when (outer source, VNI, what is at the offset) is not in the set.
func notSenders(set *nftables.Set, offset, length uint32) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: firstRegister, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		transport(atVNI, 4, firstRegister+1),
		transport(offset, length, firstRegister+2),
		member(set, true),
	}
}

func member(set *nftables.Set, invert bool) expr.Any {
	return &expr.Lookup{SourceRegister: firstRegister, SetName: set.Name, SetID: set.ID, Invert: invert}
}

// unless holds when the IPv6 address at the offset is not within the prefix.
func unless(offset uint32, prefix netip.Prefix) []expr.Any {
	mask := make([]byte, 16)
	for i := range prefix.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []expr.Any{
		transport(offset, 16, firstRegister),
		&expr.Bitwise{SourceRegister: firstRegister, DestRegister: firstRegister, Len: 16, Mask: mask, Xor: make([]byte, 16)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: firstRegister, Data: prefix.Addr().AsSlice()},
	}
}

func verdict(kind expr.VerdictKind, chain string) expr.Any {
	return &expr.Verdict{Kind: kind, Chain: chain}
}

func vniKey(vni uint32) []byte { return binary.BigEndian.AppendUint32(nil, vni<<8) }

func be16(number uint16) []byte { return binary.BigEndian.AppendUint16(nil, number) }

// remove takes the table away.
func (f *filter) remove() error { return f.apply(nil) }

// keepCounts adds up what the table has counted, before it is replaced.
func (f *filter) keepCounts() {
	if f.made == ([sha256.Size]byte{}) {
		return
	}
	f.counted = f.refused()
}

// refused is what was refused since the engine started, by network; under the empty name what belongs to none.
func (f *filter) refused() map[string]state.Refused {
	all := make(map[string]state.Refused, len(f.counted))
	for name, was := range f.counted {
		all[name] = was
	}
	conn, err := guard.Dial()
	if err != nil {
		return all
	}
	objects, err := conn.GetObjects(&nftables.Table{Name: f.name, Family: nftables.TableFamilyIPv4})
	if err != nil {
		return all
	}
	for _, object := range objects {
		counter, ok := object.(*nftables.CounterObj)
		if !ok {
			continue
		}
		network, reason, _ := strings.Cut(counter.Name, ".")
		refused := all[network]
		add(&refused, reason, counter.Packets)
		all[network] = refused
	}
	return all
}

func add(to *state.Refused, reason string, packets uint64) {
	switch reason {
	case "not_member":
		to.NotMember += packets
	case "wrong_vni":
		to.WrongVNI += packets
	case "forged_source":
		to.ForgedSource += packets
	case "arp_forged":
		to.ARPForged += packets
	case "broadcast_limited":
		to.BroadcastLimited += packets
	case "vlan_tagged":
		to.VLANTagged += packets
	case "not_ip":
		to.NotIP += packets
	}
}
