package links

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"selvedge.dev/tunnel/state"
)

// namespace is an open network namespace with netlink inside. It is held only while something is done there, so that it can end.
type namespace struct {
	handle netns.NsHandle
	nl     *netlink.Handle
}

// openNamespace opens what the text of an attachment names: a path, or the namespace of a process.
func openNamespace(text string) (*namespace, error) {
	path, pid, err := state.ParseNamespace(text)
	if err != nil {
		return nil, err
	}
	if pid != 0 {
		path = fmt.Sprintf("/proc/%d/ns/net", pid)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, state.Failedf(state.CodeNamespaceMissing, text, "network namespace %s cannot be opened: %w", text, err)
	}
	ns := &namespace{handle: netns.NsHandle(fd)}
	if err := ns.enter(text); err != nil {
		return nil, errors.Join(err, ns.handle.Close())
	}
	return ns, nil
}

func (ns *namespace) enter(text string) error {
	kind, err := unix.IoctlRetInt(int(ns.handle), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		return state.Failedf(state.CodeNamespaceMissing, text, "%s is not a network namespace", text)
	}
	own, err := netns.Get()
	if err != nil {
		return fmt.Errorf("the own namespace cannot be opened: %w", err)
	}
	defer own.Close()
	if own.Equal(ns.handle) {
		return state.Failedf(state.CodeRequestInvalid, text, "%s is the host's own network namespace, which the network's bridge is in already", text)
	}
	if ns.nl, err = netlink.NewHandleAt(ns.handle, unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("network namespace %s cannot be entered: %w", text, err)
	}
	return nil
}

func (ns *namespace) close() {
	ns.nl.Close()
	_ = ns.handle.Close()
}
