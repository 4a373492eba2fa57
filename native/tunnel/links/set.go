// Package links makes the devices of app networks and keeps them as desired: a bridge and a TAP for each network, the host's addresses
// on the bridge, a veth pair for each attachment. It speaks netlink only.
//
// What it makes it marks (mark.go). It adopts what bears its owner's mark, changes only what differs, and removes only what is marked.
// A device that has a name of ours and not our mark is refused by name and never touched. It knows nothing of WireGuard or VXLAN; the
// kernel engine uses its Table and Claim for devices of its own.
package links

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"selvedge.dev/tunnel/state"
)

// dumpsMax bounds how often a listing is repeated because something changed meanwhile.
const dumpsMax = 8

// Set is the devices of one owner in the network namespace in which it was opened. It is not safe for concurrent use.
type Set struct {
	owner string
	nl    *netlink.Handle
	taps  map[string]tap
}

// tap is an open TAP. The file is the only thing that keeps the device's carrier up.
type tap struct {
	file  *os.File
	index int
}

// Open opens netlink in the calling thread's network namespace.
func Open(owner string) (*Set, error) {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink cannot be opened: %w", err)
	}
	return &Set{owner: owner, nl: nl, taps: map[string]tap{}}, nil
}

// Close lets go of the TAPs and of netlink, and leaves every device as it is: the next tunnel adopts them.
func (s *Set) Close() {
	for name := range s.taps {
		s.closeTAP(name)
	}
	s.nl.Close()
}

// Outcome is what one Apply did.
type Outcome struct {
	// Changed says in words what was changed; empty when all was as desired.
	Changed  []string
	Failures []state.Failure
	// Broken are networks that cannot carry anything, since bridge or TAP failed; other failures leave a network usable.
	Broken map[string]bool
}

func (o *Outcome) changed(format string, args ...any) {
	o.Changed = append(o.Changed, fmt.Sprintf(format, args...))
}

func (o *Outcome) failed(what string, err error) {
	var failure state.Failure
	if !errors.As(err, &failure) {
		failure = state.Failed(codeOf(err), what, err)
	}
	failure.What = what
	o.Failures = append(o.Failures, failure)
}

// codeOf tells what the kernel's refusal means.
func codeOf(err error) state.Code {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return state.CodePermissionDenied
	case errors.Is(err, unix.EOPNOTSUPP):
		return state.CodeUnsupported
	case errors.Is(err, unix.EBUSY):
		return state.CodeStateInUse
	default:
		return state.CodeDeviceFailed
	}
}

// Ensure brings the devices of all networks to what is desired and removes nothing that another network still needs: that is Prune's,
// after the engine has let go. withTAP is false where the kernel's VXLAN device is the bridge's port.
func (s *Set) Ensure(d *state.Desired, withTAP bool) Outcome {
	out := Outcome{Broken: map[string]bool{}}
	table, err := s.Table()
	if err != nil {
		for i := range d.Networks {
			out.failed("network "+d.Networks[i].Name, err)
			out.Broken[d.Networks[i].Name] = true
		}
		return out
	}
	for i := range d.Networks {
		n := &d.Networks[i]
		bridge, err := s.ensureBridge(table, n, &out)
		if err == nil && withTAP {
			err = s.ensureTAP(table, n, bridge, &out)
		}
		if err != nil {
			out.failed("network "+n.Name, err)
			out.Broken[n.Name] = true
			continue
		}
		for j := range n.Attachments {
			a := &n.Attachments[j]
			if err := s.ensureVeth(table, n, a, bridge, &out); err != nil {
				out.failed("attachment "+n.Name+"/"+a.Name, err)
			}
		}
	}
	return out
}

// kernelKinds are devices that only the kernel engine makes.
var kernelKinds = []string{"vxlan", "wireguard"}

// RemoveKernelDevices removes what a kernel engine left behind. Its WireGuard holds the UDP port that another engine is to open.
func (s *Set) RemoveKernelDevices() Outcome {
	out := Outcome{}
	for _, link := range s.marked(&out) {
		if slices.Contains(kernelKinds, link.Type()) {
			s.remove(link, &out)
		}
	}
	return out
}

// Prune removes what bears our mark and is not desired any more. The kernel engine's devices are its own to remove, unless it is not
// in use: then what it left behind goes too.
func (s *Set) Prune(d *state.Desired, withTAP bool) Outcome {
	out := Outcome{}
	wanted := map[string]bool{}
	networks := map[string]bool{}
	for i := range d.Networks {
		n := &d.Networks[i]
		networks[n.Name] = true
		wanted[n.Bridge] = true
		wanted[n.TAP] = withTAP
		for j := range n.Attachments {
			wanted[n.Attachments[j].Host] = true
		}
	}
	for name := range s.taps {
		if !networks[name] || !withTAP {
			s.closeTAP(name)
		}
	}
	for _, link := range s.marked(&out) {
		if wanted[link.Attrs().Name] || !withTAP && slices.Contains(kernelKinds, link.Type()) {
			continue
		}
		s.remove(link, &out)
	}
	return out
}

// RemoveAll removes every device that bears our mark.
func (s *Set) RemoveAll() Outcome {
	return s.Prune(&state.Desired{}, true)
}

// TAPs are the open TAPs by network. They stay this package's: whoever reads and writes them never closes them.
func (s *Set) TAPs() map[string]*os.File {
	files := make(map[string]*os.File, len(s.taps))
	for name, tap := range s.taps {
		files[name] = tap.file
	}
	return files
}

func (s *Set) marked(out *Outcome) []netlink.Link {
	table, err := s.Table()
	if err != nil {
		out.failed("wireguard", err)
		return nil
	}
	return table.Marked()
}

func (s *Set) remove(link netlink.Link, out *Outcome) {
	name := link.Attrs().Name
	if err := s.nl.LinkDel(link); err != nil && !gone(err) {
		_, subject, _ := parseMark(link.Attrs().Alias)
		out.failed(whatOf(subject), fmt.Errorf("%s cannot be removed: %w", name, err))
		return
	}
	out.changed("%s removed", name)
}

func whatOf(subject string) string {
	if strings.Contains(subject, "/") {
		return "attachment " + subject
	}
	return "network " + subject
}

func gone(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) || errors.As(err, &missing)
}

// Table is what there is in the namespace, read in one go.
type Table struct {
	set       *Set
	byName    map[string]netlink.Link
	byIndex   map[int]netlink.Link
	addresses map[int][]netip.Prefix
}

// Table reads all links and addresses.
func (s *Set) Table() (*Table, error) {
	links, err := dump(s.nl.LinkList)
	if err != nil {
		return nil, fmt.Errorf("the interfaces cannot be listed: %w", err)
	}
	addresses, err := dump(func() ([]netlink.Addr, error) { return s.nl.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("the addresses cannot be listed: %w", err)
	}
	t := &Table{set: s, byName: make(map[string]netlink.Link, len(links)), byIndex: make(map[int]netlink.Link, len(links)), addresses: map[int][]netip.Prefix{}}
	for _, link := range links {
		t.add(link)
	}
	for _, address := range addresses {
		if prefix, ok := prefixOf(address); ok {
			t.addresses[address.LinkIndex] = append(t.addresses[address.LinkIndex], prefix)
		}
	}
	return t, nil
}

// dump repeats a listing that changed while it was read.
func dump[T any](list func() ([]T, error)) (all []T, err error) {
	for range dumpsMax {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return all, err
}

func (t *Table) add(link netlink.Link) {
	t.byName[link.Attrs().Name] = link
	t.byIndex[link.Attrs().Index] = link
}

// Named is the link of that name, or nil.
func (t *Table) Named(name string) netlink.Link { return t.byName[name] }

// Marked are the links that bear the owner's mark: veths and ports before bridges, so that none is removed from under another.
func (t *Table) Marked() []netlink.Link {
	var links []netlink.Link
	for _, link := range t.byName {
		if owner, _, ok := parseMark(link.Attrs().Alias); ok && owner == t.set.owner {
			links = append(links, link)
		}
	}
	slices.SortFunc(links, func(a, b netlink.Link) int {
		if order := rank(a) - rank(b); order != 0 {
			return order
		}
		return a.Attrs().Index - b.Attrs().Index
	})
	return links
}

func rank(link netlink.Link) int {
	if link.Type() == "bridge" {
		return 1
	}
	return 0
}

// Claim finds the device that we may use under a name: ours, with this subject and kind. It is nil when there is none. What we made for
// something else, or only half made, is removed first. A device of anybody else is a failure, and stays as it is.
func (t *Table) Claim(name, kind, subject string) (netlink.Link, error) {
	link := t.byName[name]
	if link == nil {
		return nil, nil
	}
	attrs := link.Attrs()
	if attrs.Alias == Mark(t.set.owner, subject) && link.Type() == kind {
		return link, nil
	}
	owner, _, marked := parseMark(attrs.Alias)
	if ours := marked && owner == t.set.owner; !ours && !(attrs.Alias == "" && attrs.Group == deviceGroup) {
		whose := "has no mark of Selvedge"
		if marked {
			whose = "is marked as that of " + owner
		}
		return nil, state.Failedf(state.CodeDeviceForeign, name, "the name %s is taken: a %s device that %s", name, link.Type(), whose)
	}
	return nil, t.Drop(link)
}

// Drop removes a device of ours, to be made anew.
func (t *Table) Drop(link netlink.Link) error {
	for network, tap := range t.set.taps {
		if tap.index == link.Attrs().Index {
			t.set.closeTAP(network)
		}
	}
	if err := t.set.nl.LinkDel(link); err != nil && !gone(err) {
		return fmt.Errorf("%s, which was made for something else, cannot be removed: %w", link.Attrs().Name, err)
	}
	delete(t.byName, link.Attrs().Name)
	delete(t.byIndex, link.Attrs().Index)
	delete(t.addresses, link.Attrs().Index)
	return nil
}

// Make makes a device, marks it and returns it as the kernel has it. A device that cannot be marked is removed again.
func (t *Table) Make(link netlink.Link, subject string) (netlink.Link, error) {
	nl, name := t.set.nl, link.Attrs().Name
	link.Attrs().Group = deviceGroup
	if err := nl.LinkAdd(link); err != nil {
		return nil, fmt.Errorf("%s %s cannot be made: %w", link.Type(), name, err)
	}
	made, err := nl.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("%s was made and is gone: %w", name, err)
	}
	if err := nl.LinkSetAlias(made, Mark(t.set.owner, subject)); err != nil {
		return nil, errors.Join(fmt.Errorf("%s cannot be marked: %w", name, err), nl.LinkDel(made))
	}
	made.Attrs().Alias = Mark(t.set.owner, subject)
	t.add(made)
	return made, nil
}
