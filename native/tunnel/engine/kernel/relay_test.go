package kernel

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"
)

// device is a UDP socket in the place of WireGuard's.
func deviceSocket(t *testing.T) *net.UDPConn {
	t.Helper()
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	_ = socket.SetDeadline(time.Now().Add(10 * time.Second))
	return socket
}

func port(socket *net.UDPConn) uint16 { return socket.LocalAddr().(*net.UDPAddr).AddrPort().Port() }

func relayFor(t *testing.T, sockets ...*net.UDPConn) *relay {
	t.Helper()
	r, err := newRelay()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	var ports []uint16
	for _, socket := range sockets {
		ports = append(ports, port(socket))
	}
	r.setPorts(ports)
	return r
}

func framed(packets ...[]byte) (all []byte) {
	for _, packet := range packets {
		all = append(binary.BigEndian.AppendUint16(all, uint16(len(packet))), packet...)
	}
	return all
}

func TestARelayCarriesPacketsBothWays(t *testing.T) {
	device, stranger := deviceSocket(t), deviceSocket(t)
	r := relayFor(t, device)
	ours, theirs := net.Pipe()
	r.attach(ours)
	_ = theirs.SetDeadline(time.Now().Add(10 * time.Second))
	to := net.UDPAddrFromAddrPort(r.endpoint().AddrPort())

	first, second := bytes.Repeat([]byte{1}, 1400), bytes.Repeat([]byte{2}, 148)
	if _, err := stranger.WriteToUDP([]byte("not WireGuard's"), to); err != nil {
		t.Fatal(err)
	}
	for _, packet := range [][]byte{first, second} {
		if _, err := device.WriteToUDP(packet, to); err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, len(framed(first, second)))
	if _, err := io.ReadFull(theirs, got); err != nil || !bytes.Equal(got, framed(first, second)) {
		t.Errorf("%v: %x", err, got[:8])
	}

	if _, err := theirs.Write(framed(second, nil, first)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 2000)
	for _, want := range [][]byte{second, nil, first} {
		n, from, err := device.ReadFromUDP(buffer)
		if err != nil || !bytes.Equal(buffer[:n], want) || from.Port != to.Port {
			t.Errorf("%d bytes from %v, expected %d: %v", n, from, len(want), err)
		}
	}
	if _, heard := r.counts(); heard.IsZero() {
		t.Error("the peer was not heard")
	}
}

func TestARelayDropsWhatItsStreamDoesNotTake(t *testing.T) {
	device := deviceSocket(t)
	r := relayFor(t, device)
	ours, theirs := net.Pipe()
	r.attach(ours)
	packet := make([]byte, 60_000)
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err := device.WriteToUDP(packet, net.UDPAddrFromAddrPort(r.endpoint().AddrPort())); err != nil {
			t.Fatal(err)
		}
		if dropped, _ := r.counts(); dropped > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was dropped")
		}
	}
	r.mu.Lock()
	waiting := len(r.pending)
	r.mu.Unlock()
	if waiting > relayBytesMax {
		t.Errorf("%d bytes wait", waiting)
	}
	// Another stream takes its place, and the first is closed.
	next, far := net.Pipe()
	r.attach(next)
	_, _ = io.Copy(io.Discard, theirs)
	_ = far.Close()
}

func TestARelaySurvivesAStreamThatEndsInAFrame(t *testing.T) {
	device := deviceSocket(t)
	r := relayFor(t, device)
	ours, theirs := net.Pipe()
	r.attach(ours)
	if _, err := theirs.Write([]byte{0xff, 0xff, 1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close()
	again, far := net.Pipe()
	r.attach(again)
	if _, err := far.Write(framed([]byte("hello"))); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 100)
	if n, err := device.Read(buffer); err != nil || string(buffer[:n]) != "hello" {
		t.Errorf("%q %v", buffer[:n], err)
	}
}
