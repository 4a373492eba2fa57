// Package underlay tells how this host reaches its peers (interface, source address, MTU), and when to ask again. It changes nothing.
package underlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"selvedge.dev/tunnel/state"
)

// settle is how long a burst of changes may go on before one of them is told: making 200 networks is thousands of changes.
const settle = 100 * time.Millisecond

// Routes asks the kernel for routes. It is safe for concurrent use.
type Routes struct{ nl *netlink.Handle }

// Open opens netlink in the calling thread's network namespace.
func Open() (*Routes, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink cannot be opened: %w", err)
	}
	return &Routes{nl: handle}, nil
}

func (r *Routes) Close() { r.nl.Close() }

// To tells how a host is reached. Where a router has told of a smaller MTU on the way, that is in the kernel's answer already.
func (r *Routes) To(host netip.Addr, fwmark uint32) *state.UnderlayTo {
	routes, err := r.nl.RouteGetWithOptions(host.AsSlice(), &netlink.RouteGetOptions{Mark: fwmark})
	if err == nil && len(routes) == 0 {
		err = unix.ENETUNREACH
	}
	if err != nil {
		return &state.UnderlayTo{Why: state.Clip(fmt.Errorf("no route to %v: %w", host, err)).Error()}
	}
	link, err := r.nl.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return &state.UnderlayTo{Why: fmt.Sprintf("the interface of the route to %v is gone", host)}
	}
	to := &state.UnderlayTo{Interface: link.Attrs().Name, MTU: link.Attrs().MTU, Why: "MTU of the interface"}
	if source, ok := netip.AddrFromSlice(routes[0].Src); ok {
		source = source.Unmap()
		to.Source = &source
	}
	if mtu := routes[0].MTU; mtu > 0 && mtu < to.MTU {
		to.MTU, to.Why = mtu, "MTU of the route, or as a router on the way told"
	}
	return to
}

// Watch tells on the channel when links, addresses or routes have changed, until the context ends. Changes that nobody waits for are
// one; a change that the kernel could not tell us of counts as one too.
func Watch(ctx context.Context) (<-chan struct{}, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("changes of routes cannot be followed: %w", err)
	}
	context.AfterFunc(ctx, socket.Close)
	raw, told := make(chan struct{}, 1), make(chan struct{}, 1)
	go func() {
		defer close(raw)
		for {
			if _, _, err := socket.Receive(); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return
			}
			signal(raw)
		}
	}()
	go func() {
		defer close(told)
		for range raw {
			timer := time.NewTimer(settle)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			timer.Stop()
			signal(told)
		}
	}()
	return told, nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
