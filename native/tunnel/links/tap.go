package links

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"selvedge.dev/tunnel/state"
)

// VnetHeaderBytes is the length of the virtio-net header before each frame read from or written to a TAP.
const VnetHeaderBytes = 10

const (
	tunPath = "/dev/net/tun"
	// addressesNone keeps the kernel from giving a port of a bridge an IPv6 address, with which it would speak into the network.
	addressesNone = 1
)

// The offloads that the engine takes over: checksums, and frames of up to 64 KiB to be cut. UDP's came with Linux 6.2.
const (
	offloadsAlways = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	offloadsUDP    = unix.TUN_F_USO4 | unix.TUN_F_USO6
)

// ensureTAP brings a network's TAP to what is desired: open, marked, a port of the bridge.
func (s *Set) ensureTAP(t *Table, n *state.Network, bridge netlink.Link, out *Outcome) error {
	link, err := t.Claim(n.TAP, "tuntap", n.Name)
	if err != nil {
		return err
	}
	if open, ok := s.taps[n.Name]; ok && (link == nil || open.index != link.Attrs().Index) {
		s.closeTAP(n.Name)
	}
	if _, ok := s.taps[n.Name]; !ok {
		made := link == nil
		if link, err = s.openTAP(n, made); err != nil {
			return err
		}
		t.add(link)
		out.changed("%s %s", n.TAP, map[bool]string{true: "made", false: "adopted"}[made])
	}
	return s.ensurePort(link, bridge, n.MTU, out)
}

// openTAP opens the TAP and, where it is new, marks it before it may outlive this process: one that is killed between leaves nothing.
func (s *Set) openTAP(n *state.Network, made bool) (link netlink.Link, err error) {
	file, err := openDevice(n.TAP)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	if link, err = s.nl.LinkByName(n.TAP); err != nil {
		return nil, fmt.Errorf("%s was opened and is gone: %w", n.TAP, err)
	}
	if made {
		// Where the kernel has no IPv6 there is nothing to keep it from.
		_ = s.nl.LinkSetIP6AddrGenMode(link, addressesNone)
		if err = s.nl.LinkSetAlias(link, Mark(s.owner, n.Name)); err != nil {
			return nil, fmt.Errorf("%s cannot be marked: %w", n.TAP, err)
		}
		if err = control(file, func(fd int) error { return unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1) }); err != nil {
			return nil, fmt.Errorf("%s cannot be kept: %w", n.TAP, err)
		}
	}
	s.taps[n.Name] = tap{file: file, index: link.Attrs().Index}
	return link, nil
}

// openDevice opens a TAP by name, making it if it is not there.
func openDevice(name string) (*os.File, error) {
	fd, err := unix.Open(tunPath, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return nil, state.Failedf(state.CodeUnsupported, name, "%s is missing: load the module tun, and give a container --device %s", tunPath, tunPath)
	}
	if err != nil {
		return nil, fmt.Errorf("%s cannot be opened: %w", tunPath, err)
	}
	if err := attach(fd, name); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	// Only now: a descriptor that is not attached yet cannot be waited for.
	return os.NewFile(uintptr(fd), name), nil
}

func attach(fd int, name string) error {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		if errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("%s is held by another process: %w", name, err)
		}
		return fmt.Errorf("%s cannot be opened as a TAP: %w", name, err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, VnetHeaderBytes); err != nil {
		return fmt.Errorf("%s: the length of its header cannot be set: %w", name, err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloadsAlways|offloadsUDP); err == nil {
		return nil
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloadsAlways); err != nil {
		return fmt.Errorf("%s: offloads cannot be set: %w", name, err)
	}
	return nil
}

// control runs f on the file's descriptor without taking it out of the runtime's poller, as Fd would.
func control(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	return errors.Join(raw.Control(func(fd uintptr) { inner = f(int(fd)) }), inner)
}

func (s *Set) closeTAP(network string) {
	// Closing wakes a reader; the device stays, without a carrier, until it is removed.
	_ = s.taps[network].file.Close()
	delete(s.taps, network)
}
