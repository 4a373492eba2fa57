package packet

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, s := range []super{{payload: numbered(10), size: 1}, {payload: numbered(10), size: 1, v6: true}, {payload: numbered(10), size: 1, udp: true}} {
		_, frame := s.build()
		f.Add(frame)
	}
	f.Add([]byte{12: 0x86, 13: 0xdd, 14: 0x60, 19: 24, 20: 0, 54: 44, 55: 0, 62: 58, 77: 0})
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, fault := Parse(frame)
		if fault != Whole {
			return
		}
		if h.End > len(frame) || h.L4 > h.End || h.Payload > h.End || h.Payload != 0 && h.Payload < h.L4 {
			t.Fatalf("out of bounds: %+v of %d", h, len(frame))
		}
		FlowHash(frame, h)
		// What the beginning tells is what the whole tells, or nothing.
		if part, fault := ParseHead(frame[:len(frame)/2], len(frame)); fault == Whole && part != h {
			t.Fatalf("%+v, of the whole %+v", part, h)
		}
	})
}

func FuzzCut(f *testing.F) {
	for _, s := range []super{{payload: numbered(100), size: 40}, {payload: numbered(100), size: 40, v6: true}, {payload: numbered(100), size: 40, udp: true}} {
		v, frame := s.build()
		b := make([]byte, VirtioHeaderSize)
		v.Encode(b)
		f.Add(append(b, frame...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, frame, ok := DecodeVirtio(b)
		if !ok {
			return
		}
		h, fault := Parse(frame)
		if fault != Whole {
			return
		}
		var c Cutter
		if c.Start(v, frame, h) != Whole {
			return
		}
		payload, count := 0, 0
		for !c.Done() {
			dst := make([]byte, c.NextLength())
			if c.Next(dst) != len(dst) {
				t.Fatal("length")
			}
			if v.GSOType != VirtioGSONone {
				slowRight(t, dst)
				payload += len(dst) - h.Payload
			}
			if count++; count > MaxFrame/segmentPayloadMin {
				t.Fatal("it does not end")
			}
		}
		if v.GSOType != VirtioGSONone && payload != h.End-h.Payload {
			t.Fatalf("%d bytes of payload became %d", h.End-h.Payload, payload)
		}
	})
}

func FuzzCutThenCoalesce(f *testing.F) {
	f.Add(uint16(30000), uint16(1448), uint8(0x18), uint8(12), uint16(3), uint32(9), uint8(0))
	f.Add(uint16(5000), uint16(100), uint8(0), uint8(0), uint16(3), uint32(9), uint8(3))
	f.Add(uint16(1), uint16(8), uint8(0x10), uint8(40), uint16(65535), uint32(0xffffffff), uint8(4))
	f.Fuzz(func(t *testing.T, length, size uint16, flags, options uint8, id uint16, sequence uint32, kind uint8) {
		s := super{v6: kind&1 != 0, udp: kind&2 != 0, noDF: kind&4 != 0, options: int(options) % 44 / 4 * 4, size: max(int(size), segmentPayloadMin),
			flags: flags&^(1|2|4|32|128) | 16, id: id, sequence: sequence, payload: numbered(max(1, int(length)%65000))}
		v, frame := s.build()
		frames := cutAll(t, v, bytes.Clone(frame))
		for _, f := range frames {
			slowRight(t, f)
		}
		var whole []byte
		for _, g := range coalesceAll(frames).Groups() {
			if whole == nil {
				whole = append(whole, g.First[:g.headers.Payload]...)
			}
			whole = append(whole, g.bytes()[g.headers.Payload:]...)
		}
		if h, _ := Parse(frame); !bytes.Equal(whole[h.Payload:], frame[h.Payload:]) {
			t.Fatal("the payload differs")
		}
	})
}

// What came in, in order, is what a kernel that cuts the super-frames again gives each flow.
func FuzzCoalesceThenCut(f *testing.F) {
	v, frame := super{payload: numbered(60), size: 20, flags: 0x18, noDF: true}.build()
	var seed []byte
	for _, f := range cutAll(f, v, frame) {
		seed = append(binary.BigEndian.AppendUint16(seed, uint16(len(f))), f...)
	}
	f.Add(seed, false)
	f.Add(append(bytes.Clone(seed), seed...), true)
	f.Fuzz(func(t *testing.T, b []byte, quick bool) {
		c := NewCoalescer(64)
		in := map[uint32][][]byte{}
		for len(b) >= 2 && !c.Full() {
			n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
			frame := bytes.Clone(b[2 : 2+n])
			b = b[2+n:]
			h, fault := Parse(frame)
			if fault != Whole {
				continue
			}
			in[FlowHash(frame, h)] = append(in[FlowHash(frame, h)], bytes.Clone(frame[:h.End]))
			if !quick || !c.Continue(frame) {
				c.Add(frame, h)
			}
		}
		c.Finish()
		for i := range c.Groups() {
			g := &c.Groups()[i]
			frames := [][]byte{g.First}
			if g.Header.GSOType != VirtioGSONone {
				frames = cutAll(t, g.Header, g.bytes())
			}
			for _, f := range frames {
				h, _ := Parse(f)
				flow := FlowHash(f, h)
				want := in[flow]
				if len(want) == 0 || !same(want[0], f) {
					t.Fatalf("got %x, want %x", f, want)
				}
				in[flow] = want[1:]
			}
		}
		for _, rest := range in {
			if len(rest) > 0 {
				t.Fatal("frames got lost")
			}
		}
	})
}

// same ignores what cutting may change in a packet that is never fragmented: its identification, and the header checksum with it. A short
// last segment of 8 bytes or less may not be cut again with a segment size that small.
func same(a, b []byte) bool {
	if len(a) == len(b) && len(a) > 34 && a[12] == 8 && a[13] == 0 && a[20]&0x40 != 0 {
		a, b = bytes.Clone(a), bytes.Clone(b)
		for _, i := range []int{18, 19, 24, 25} {
			a[i], b[i] = 0, 0
		}
	}
	return bytes.Equal(a, b)
}
