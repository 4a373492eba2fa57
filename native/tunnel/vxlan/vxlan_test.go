package vxlan

import (
	"bytes"
	"testing"
)

var (
	alice = [4]byte{100, 96, 0, 1}
	bob   = [4]byte{100, 96, 0, 2}
)

func made(frame []byte) []byte {
	b := make([]byte, Overhead+len(frame))
	Put(b, alice, bob, 0xabcdef, 77, len(frame))
	copy(b[Overhead:], frame)
	return b
}

func TestWhatIsPutIsParsed(t *testing.T) {
	frame := []byte("an Ethernet frame")
	// WireGuard pads, so bytes may follow.
	p, ok := Parse(append(made(frame), 0, 0, 0))
	if !ok || p.Source != alice || p.Destination != bob || p.VNI != 0xabcdef || !bytes.Equal(p.Frame, frame) {
		t.Fatalf("%+v %v", p, ok)
	}
}

func TestWhatIsNotVXLANIsRefused(t *testing.T) {
	for name, change := range map[string]func(b []byte) []byte{
		"short":             func(b []byte) []byte { return b[:Overhead-1] },
		"IPv6":              func(b []byte) []byte { b[0] = 0x65; return b },
		"TCP":               func(b []byte) []byte { b[9] = 6; return b },
		"a fragment":        func(b []byte) []byte { b[7] = 1; return b },
		"more to come":      func(b []byte) []byte { b[6] = 0x20; return b },
		"another port":      func(b []byte) []byte { b[23]++; return b },
		"no VNI":            func(b []byte) []byte { b[28] = 0; return b },
		"too long":          func(b []byte) []byte { b[2] = 0xff; return b },
		"UDP too long":      func(b []byte) []byte { b[24] = 0xff; return b },
		"a wrong checksum":  func(b []byte) []byte { b[27] = 1; return b },
		"options to no end": func(b []byte) []byte { b[0] = 0x4f; return b },
	} {
		if _, ok := Parse(change(made(make([]byte, 10)))); ok {
			t.Error(name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(made([]byte("frame")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, ok := Parse(b); ok && len(p.Frame) > len(b)-Overhead {
			t.Fatal("more than there is")
		}
	})
}
