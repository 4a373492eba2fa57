package bind

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/tailscale/wireguard-go/conn"
)

// opened is an open Bind, and what its receive functions return: one channel of packets for all.
func opened(t *testing.T) (b *Bind, port uint16, packets chan string) {
	t.Helper()
	b = New(Hooks{})
	receivers, port, err := b.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	packets = make(chan string, 4096)
	for _, receive := range receivers {
		go func() {
			slab, got := make([]byte, 131070), make([]conn.ReceivedPacket, b.BatchSize())
			for {
				n, err := receive(slab, got)
				if errors.Is(err, net.ErrClosed) {
					return
				}
				for _, p := range got[:n] {
					packets <- string(p.Bytes(slab))
				}
			}
		}()
	}
	t.Cleanup(func() { _ = b.Close() })
	return b, port, packets
}

func numbered(n int, size func(i int) int) (bufs [][]byte) {
	for i := range n {
		b := bytes.Repeat([]byte{byte(i)}, 8+size(i))
		binary.LittleEndian.PutUint32(b[8:], messageTransport)
		bufs = append(bufs, b)
	}
	return bufs
}

func want(t *testing.T, packets chan string, bufs [][]byte) {
	t.Helper()
	for i, b := range bufs {
		select {
		case got := <-packets:
			if got != string(b[8:]) {
				t.Fatalf("packet %d: %d bytes, want %d", i, len(got), len(b)-8)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("packet %d did not come", i)
		}
	}
}

func TestPacketsArriveInOrderWithAndWithoutSegmentation(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		_, port, packets := opened(t)
		from, _, _ := opened(t)
		p := from.AddPeer("b", Key{1})
		p.SetAddress(netip.AddrPortFrom(netip.MustParseAddr(host), port))
		for name, bufs := range map[string][][]byte{
			"one size":            numbered(128, func(int) int { return 1452 }),
			"the last is shorter": numbered(50, func(i int) int { return 1452 - i/49*400 }),
			"all sizes":           numbered(200, func(i int) int { return 32 + i*37%1400 }),
			"large":               numbered(3, func(int) int { return 60000 }),
		} {
			p.send(bufs, 8)
			want(t, packets, bufs)
			for _, s := range []*socket{from.v4, from.v6} {
				s.gso.Store(false)
			}
			p.send(bufs, 8)
			want(t, packets, bufs)
			for _, s := range []*socket{from.v4, from.v6} {
				s.gso.Store(true)
			}
			_ = name
		}
		if _, tx, dropped := p.Counters(); dropped != 0 || tx == 0 {
			t.Errorf("%d sent, %d dropped", tx, dropped)
		}
	}
}

func TestASegmentTooLargeForThePathIsFragmentedInstead(t *testing.T) {
	_, port, packets := opened(t)
	from, _, _ := opened(t)
	p := from.AddPeer("b", Key{1})
	p.SetAddress(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))
	// The loopback's MTU is 65536; no segment is too large for it, but a message of the kernel's has a bound all the same.
	bufs := numbered(4, func(int) int { return 40000 })
	p.send(bufs, 8)
	want(t, packets, bufs)
}

func TestSocketsChangeHandsWithoutLosingAPacket(t *testing.T) {
	a, port, packetsA := opened(t)
	b, _, packetsB := opened(t)
	a.SetSiblings([]*Bind{b})
	b.SetSiblings([]*Bind{a})
	from, _, _ := opened(t)
	p := from.AddPeer("a", Key{1})
	p.SetAddress(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))
	for range 20 {
		bufs := numbered(20, func(int) int { return 100 })
		for i := range bufs {
			p.send(bufs[i:i+1], 8)
			if i == 10 {
				Swap(a, b)
			}
		}
		seen := map[chan string]map[string]bool{packetsA: {}, packetsB: {}}
		for range 2 * len(bufs) {
			select {
			case packet := <-packetsA:
				seen[packetsA][packet] = true
			case packet := <-packetsB:
				seen[packetsB][packet] = true
			case <-time.After(10 * time.Second):
				t.Fatal("a packet got lost")
			}
		}
		if len(seen[packetsA]) != len(bufs) || len(seen[packetsB]) != len(bufs) {
			t.Fatalf("%d and %d", len(seen[packetsA]), len(seen[packetsB]))
		}
	}
}

func TestNobodyWaitsForATurnAtASocketThatHasChangedHands(t *testing.T) {
	a, b := New(Hooks{}), New(Hooks{})
	for _, one := range []*Bind{a, b} {
		if _, _, err := one.Open(0); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = one.Close() }()
	}
	first, second := a.v4, b.v4
	// Somebody reads what is a's, and keeps reading: it will be the right one after the exchange.
	first.turn <- struct{}{}
	took := make(chan *socket)
	go func() { took <- a.take(func() *socket { return a.v4 }, a.closed) }()
	select {
	case <-took:
		t.Fatal("two read at once")
	case <-time.After(20 * time.Millisecond):
	}
	Swap(a, b)
	select {
	case got := <-took:
		if got != second {
			t.Error("it reads what is no longer its own")
		}
	case <-time.After(10 * time.Second):
		t.Error("its own socket is not read")
	}
}

func TestOnlyAnAuthenticatedPacketMovesAPeer(t *testing.T) {
	b, _, _ := opened(t)
	p := b.AddPeer("x", Key{7})
	first, second := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2")
	p.SetAddress(first)
	a := &arrival{destination: destination{addr: second}, bind: b}
	a.InitiationMessagePublicKey(p.Key)
	if got, _ := p.Address(); got != first {
		t.Error("an initiation that nobody has checked moved the peer")
	}
	a.FromPeer(Key{8})
	if got, _ := p.Address(); got != first {
		t.Error("another peer's packet moved it")
	}
	a.FromPeer(p.Key)
	if got, _ := p.Address(); got != second {
		t.Error("its own packet did not")
	}
	c := a.ofInitiation(99)
	c.addr = first
	c.InitiationMessagePublicKey(p.Key)
	response := make([]byte, 92)
	response[0] = messageResponse
	binary.LittleEndian.PutUint32(response[8:], 98)
	p.send([][]byte{response}, 0)
	if got, _ := p.Address(); got != second {
		t.Error("an answer to another initiation moved it")
	}
	binary.LittleEndian.PutUint32(response[8:], 99)
	p.send([][]byte{response}, 0)
	if got, _ := p.Address(); got != first {
		t.Error("the answer to its initiation did not")
	}
}

func TestACarrierDropsTheNewestAndNeverBlocks(t *testing.T) {
	near, far := streams(t)
	done := make(chan struct{})
	c, err := NewCarrier("b", near, func() []*Bind { return nil }, func(*Carrier) { close(done) })
	if err != nil {
		t.Fatal(err)
	}
	bufs := numbered(1000, func(int) int { return 1452 })
	taken := 0
	for range 10 {
		taken += c.enqueue(bufs, 8)
	}
	if taken == 0 || taken > 2*(carryQueueBytesMax+carrySocketBytes)/1454 || c.Dropped() != uint64(10*len(bufs)-taken) {
		t.Errorf("%d taken, %d dropped", taken, c.Dropped())
	}
	frame := make([]byte, 2+1452)
	for i := range min(taken, 100) {
		if _, err := readFull(far, frame); err != nil || binary.BigEndian.Uint16(frame) != 1452 || frame[len(frame)-1] != byte(i) {
			t.Fatal(i, err, frame[:4])
		}
	}
	_ = far.Close()
	<-done
	if c.enqueue(bufs, 8) != 0 {
		t.Error("a closed carrier took packets")
	}
}

// streams are both ends of a connection of a Unix socket.
func streams(t *testing.T) (near, far *net.UnixConn) {
	t.Helper()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "carry"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if far, err = net.DialUnix("unix", nil, listener.Addr().(*net.UnixAddr)); err != nil {
		t.Fatal(err)
	}
	if near, err = listener.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

func readFull(c net.Conn, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = c.Read(b[n:])
		n += m
	}
	return n, err
}

func TestWhatACarrierBringsIsReceived(t *testing.T) {
	b, _, packets := opened(t)
	near, far := streams(t)
	c, err := NewCarrier("b", near, func() []*Bind { return []*Bind{b} }, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	bufs := numbered(300, func(i int) int { return 1 + i*31%1400 + 11 })
	go func() {
		var stream []byte
		for _, p := range bufs {
			stream = append(binary.BigEndian.AppendUint16(stream, uint16(len(p)-8)), p[8:]...)
		}
		for len(stream) > 0 {
			n := min(len(stream), 777)
			_, _ = far.Write(stream[:n])
			stream = stream[n:]
		}
	}()
	want(t, packets, bufs)
}

func FuzzWholeFrames(f *testing.F) {
	f.Add([]byte{0, 1, 2, 0, 2, 3, 4, 0})
	f.Add([]byte{255, 255, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		used := wholeFrames(b)
		if used > len(b) {
			t.Fatal("more than there is")
		}
		for at := 0; at < used; {
			at += 2 + int(binary.BigEndian.Uint16(b[at:]))
			if at > used {
				t.Fatal("half a frame")
			}
		}
	})
}

func FuzzControl(f *testing.F) {
	b := make([]byte, controlBytes)
	n := putSegmentSize(b, putSource(b, 0, netip.MustParseAddr("10.0.0.1")), 1452)
	f.Add(b[:n])
	f.Fuzz(func(t *testing.T, b []byte) { readControl(b) })
}
