// Package probe sends echo requests out of one device and times the answers. It keeps nothing between two echoes.
package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// SizeBytesMax is the largest payload of an echo that fits an IPv4 packet.
const SizeBytesMax = 65535 - 20 - 8

// answerBytesMax holds the largest answer, header and all.
const answerBytesMax = 65535

// family is what differs between IPv4 and IPv6.
type family struct {
	network  string
	any      string
	protocol int
	request  icmp.Type
	reply    icmp.Type
}

var (
	family4 = family{"ip4:icmp", "0.0.0.0", 1, ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply}
	family6 = family{"ip6:ipv6-icmp", "::", 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply}
)

// Echo sends one echo request with size octets of payload out of the named device, and waits for the answer until ctx is over. Its error
// is then ctx's.
func Echo(ctx context.Context, device string, address netip.Addr, size int) (time.Duration, error) {
	if size < 0 || size > SizeBytesMax {
		return 0, fmt.Errorf("%d octets of payload, 0 to %d allowed", size, SizeBytesMax)
	}
	address = address.Unmap()
	f := family6
	if address.Is4() {
		f = family4
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error { return bindToDevice(raw, device) }}
	conn, err := config.ListenPacket(ctx, f.network, f.any)
	if err != nil {
		return 0, fmt.Errorf("no socket for echoes on %s: %w", device, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	question := newQuestion(size)
	packet, err := (&icmp.Message{Type: f.request, Body: question}).Marshal(nil)
	if err != nil {
		return 0, err
	}
	sent := time.Now()
	if _, err := conn.WriteTo(packet, &net.IPAddr{IP: address.AsSlice(), Zone: address.Zone()}); err != nil {
		return 0, whichever(ctx, fmt.Errorf("no echo to %v out of %s: %w", address, device, err))
	}
	if err := f.await(conn, address, question); err != nil {
		return 0, whichever(ctx, err)
	}
	return time.Since(sent), nil
}

// newQuestion has a random identifier and payload: a raw socket hears every answer on the device, also those to others.
func newQuestion(size int) *icmp.Echo {
	head := make([]byte, 4)
	payload := make([]byte, size)
	rand.Read(head)
	rand.Read(payload)
	return &icmp.Echo{ID: int(binary.BigEndian.Uint16(head)), Seq: int(binary.BigEndian.Uint16(head[2:])), Data: payload}
}

// await reads until the answer to question comes. What else comes is passed over.
func (f *family) await(conn net.PacketConn, address netip.Addr, question *icmp.Echo) error {
	buffer := make([]byte, answerBytesMax)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return err
		}
		if host, ok := from.(*net.IPAddr); !ok || !host.IP.Equal(address.AsSlice()) {
			continue
		}
		message, err := icmp.ParseMessage(f.protocol, buffer[:n])
		if err != nil || message.Type != f.reply {
			continue
		}
		if echo, ok := message.Body.(*icmp.Echo); ok && echo.ID == question.ID && echo.Seq == question.Seq && bytes.Equal(echo.Data, question.Data) {
			return nil
		}
	}
}

// whichever is ctx's error once it is over: the deadline that its end sets looks like a failure of the socket.
func whichever(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func bindToDevice(raw syscall.RawConn, device string) error {
	var bound error
	err := raw.Control(func(fd uintptr) { bound = unix.BindToDevice(int(fd), device) })
	if err != nil {
		return err
	}
	return bound
}
