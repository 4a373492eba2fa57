package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/tailscale/wireguard-go/conn"
	"github.com/tailscale/wireguard-go/device"
	"github.com/tailscale/wireguard-go/tun"
)

// plain is WireGuard on a TUN of the kernel's, without any of our checks: what a host with kernel VXLAN looks like on the wire, and from where
// a hostile member sends what it likes.
type plain struct{ dev *device.Device }

// newPlain makes the device; config is WireGuard's configuration protocol.
func newPlain(name, config string) (*plain, error) {
	t, err := tun.CreateTUN(name, 1420)
	if err != nil {
		return nil, err
	}
	d := device.NewDevice(t, conn.NewStdNetBind(), device.NewLogger(device.LogLevelError, "plain: "))
	if err := d.IpcSet(config); err != nil {
		return nil, err
	}
	return &plain{d}, d.Up()
}

// sendUDP sends datagrams from one socket, or with count copies of one.
func sendUDP(to string, payloads [][]byte, count int) error {
	c, err := net.Dial("udp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	for range max(1, count) {
		for _, p := range payloads {
			if _, err := c.Write(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// listener counts the datagrams that come to an address.
type listener struct{ count atomic.Int64 }

func (l *listener) listen(address string) error {
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	go func() {
		for {
			if _, _, err := c.ReadFrom(make([]byte, 65536)); err != nil {
				return
			}
			l.count.Add(1)
		}
	}()
	return nil
}

// serve answers each TCP connection with so many bytes of a fixed sequence, and each UDP datagram with itself.
func serve(address string, bytes int64) (io.Closer, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	u, err := net.ListenPacket("udp", address)
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	go func() {
		b := make([]byte, 65536)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = u.WriteTo(b[:n], from)
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, io.LimitReader(&sequence{}, bytes))
			}()
		}
	}()
	return closers{l, u}, nil
}

type closers []io.Closer

func (c closers) Close() error {
	for _, one := range c {
		_ = one.Close()
	}
	return nil
}

// fetch reads what serve sends and returns its SHA-256.
func fetch(address string) (string, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, c); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// echo sends datagrams of 1 to sizes bytes to a serve and wants each of them back as it was, a few of them under way at once.
func echo(address string, sizes int) error {
	c, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	const window = 16
	b := make([]byte, 65536)
	for first := 1; first <= sizes; first += window {
		missing := map[string]bool{}
		for size := first; size < first+window && size <= sizes; size++ {
			payload := make([]byte, size)
			_, _ = (&sequence{state: uint64(size)}).Read(payload)
			missing[string(payload)] = true
			if _, err := c.Write(payload); err != nil {
				return err
			}
		}
		for len(missing) > 0 {
			_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
			n, err := c.Read(b)
			if err != nil {
				return fmt.Errorf("sizes from %d: %d missing: %w", first, len(missing), err)
			}
			delete(missing, string(b[:n]))
		}
	}
	return nil
}

// Sum is the SHA-256 of what serve sends.
func Sum(bytes int64) string {
	hash := sha256.New()
	_, _ = io.Copy(hash, io.LimitReader(&sequence{}, bytes))
	return hex.EncodeToString(hash.Sum(nil))
}

type sequence struct{ state uint64 }

func (s *sequence) Read(b []byte) (int, error) {
	for i := range b {
		s.state = s.state*6364136223846793005 + 1442695040888963407
		b[i] = byte(s.state >> 56)
	}
	return len(b), nil
}

// PlainConfig is the configuration of a host as a plain WireGuard on its TUN, for MakePlain.
func (l *Lab) PlainConfig(h *Host) string {
	config := fmt.Sprintf("private_key=%s\nlisten_port=%d\n", hexOf(h.PrivateKey), h.Port)
	for _, m := range l.Hosts {
		if m != h {
			config += fmt.Sprintf("public_key=%s\nendpoint=%s\nallowed_ip=%s/32\n", hexOf(m.PublicKey),
				netip.AddrPortFrom(netip.MustParseAddr(m.Underlay), uint16(m.Port)), m.VTEP)
		}
	}
	return config
}

// MakePlain makes a host a plain WireGuard host whose interface `plain0` has its VTEP as address.
func (l *Lab) MakePlain(h *Host) error {
	if err := h.Ask(map[string]any{"op": "plain", "tap": "plain0", "config": l.PlainConfig(h)}, nil); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"addr", "add", h.VTEP + "/12", "dev", "plain0"},
		{"link", "set", "plain0", "mtu", "1420", "up"},
	} {
		if err := IP(append([]string{"-n", h.Namespace}, args...)...); err != nil {
			return err
		}
	}
	return nil
}
