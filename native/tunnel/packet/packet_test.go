package packet

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// A super is what tests make super-frames from.
type super struct {
	v6, udp  bool
	options  int // bytes of TCP options, a multiple of 4
	payload  []byte
	size     int
	flags    uint8
	id       uint16
	noDF     bool
	sequence uint32
}

// build makes the frame as the kernel hands it over: lengths of the whole, the sum of the pseudo header in the checksum field.
func (s super) build() (VirtioHeader, []byte) {
	l4 := make([]byte, 8)
	proto, field := uint8(ProtoUDP), 6
	if !s.udp {
		l4 = make([]byte, 20+s.options)
		proto, field = ProtoTCP, 16
		binary.BigEndian.PutUint32(l4[4:], s.sequence)
		binary.BigEndian.PutUint32(l4[8:], 0x01020304)
		l4[12] = byte(len(l4)/4) << 4
		l4[13] = s.flags
		binary.BigEndian.PutUint16(l4[14:], 512)
		for i := range s.options {
			l4[20+i] = 1
		}
	} else {
		binary.BigEndian.PutUint16(l4[4:], uint16(8+len(s.payload)))
	}
	binary.BigEndian.PutUint16(l4, 40001)
	binary.BigEndian.PutUint16(l4[2:], 5201)
	l4 = append(l4, s.payload...)
	frame := []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0}
	var ip []byte
	v := VirtioHeader{Flags: VirtioNeedsChecksum, SegmentSize: uint16(s.size), ChecksumOffset: uint16(field)}
	if s.v6 {
		frame[12], frame[13] = 0x86, 0xdd
		ip = make([]byte, 40)
		ip[0], ip[6], ip[7] = 0x60, proto, 64
		binary.BigEndian.PutUint16(ip[4:], uint16(len(l4)))
		copy(ip[8:], []byte{0xfd, 1, 15: 1})
		copy(ip[24:], []byte{0xfd, 1, 15: 2})
		v.GSOType = VirtioGSOTCPv6
	} else {
		ip = make([]byte, 20)
		ip[0], ip[8], ip[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(l4)))
		binary.BigEndian.PutUint16(ip[4:], s.id)
		if !s.noDF {
			ip[6] = 0x40
		}
		copy(ip[12:], []byte{10, 9, 0, 1, 10, 9, 0, 2})
		SetIPv4Checksum(ip)
		v.GSOType = VirtioGSOTCPv4
	}
	if s.udp {
		v.GSOType = VirtioGSOUDP
	}
	v.ChecksumStart = uint16(14 + len(ip))
	frame = append(append(frame, ip...), l4...)
	h, _ := Parse(frame)
	binary.BigEndian.PutUint16(frame[h.L4+field:], Fold(PseudoSum(addresses(frame, h.EtherType), proto, len(l4))))
	if len(s.payload) <= s.size {
		v.GSOType, v.SegmentSize = VirtioGSONone, 0
	}
	return v, frame
}

// slowChecksum is RFC 1071 as it is written, to judge the fast one by.
func slowChecksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		v := uint32(b[i]) << 8
		if i+1 < len(b) {
			v |= uint32(b[i+1])
		}
		sum += v
		for sum > 0xffff {
			sum = sum>>16 + sum&0xffff
		}
	}
	return uint16(sum)
}

func slowRight(t *testing.T, frame []byte) {
	t.Helper()
	h, fault := Parse(frame)
	if fault != Whole {
		t.Fatalf("%s", fault)
	}
	if h.EtherType == TypeIPv4 && slowChecksum(frame[14:h.L4]) != 0xffff {
		t.Fatal("the IPv4 checksum is wrong")
	}
	l4 := frame[h.L4:h.End]
	pseudo := append(bytes.Clone(addresses(frame, h.EtherType)), 0, h.Proto, byte(len(l4)>>8), byte(len(l4)))
	if slowChecksum(append(pseudo, l4...)) != 0xffff {
		t.Fatal("the transport checksum is wrong")
	}
	if h.Proto == ProtoUDP && l4[6] == 0 && l4[7] == 0 {
		t.Fatal("a UDP checksum of 0")
	}
}

func cutAll(t testing.TB, v VirtioHeader, frame []byte) (frames [][]byte) {
	h, fault := Parse(frame)
	if fault != Whole {
		t.Fatalf("parse: %s", fault)
	}
	var c Cutter
	if fault := c.Start(v, frame, h); fault != Whole {
		t.Fatalf("cut: %s", fault)
	}
	for !c.Done() {
		b := make([]byte, c.NextLength())
		if n := c.Next(b); n != len(b) {
			t.Fatalf("promised %d bytes, wrote %d", len(b), n)
		}
		frames = append(frames, b)
	}
	return frames
}

func coalesceAll(frames [][]byte) *Coalescer {
	c := NewCoalescer(len(frames) + 1)
	for _, f := range frames {
		h, _ := Parse(f)
		c.Add(f, h)
	}
	c.Finish()
	return c
}

func (g *Group) bytes() []byte { return bytes.Join(append([][]byte{g.First}, g.Rest...), nil) }

func numbered(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return b
}

func TestCutThenCoalesceGivesTheSameBytes(t *testing.T) {
	for _, s := range []super{
		{payload: numbered(60000), size: 1448, flags: 0x18, options: 12, id: 65530},
		{payload: numbered(60000), size: 1448, flags: 0x10, options: 12, v6: true},
		{payload: numbered(4000), size: 1000, flags: 0x18, noDF: true, id: 7},
		{payload: numbered(1448*3 + 1), size: 1448, flags: 0x18, options: 40, sequence: 0xfffffff0},
		{payload: numbered(5000), size: 1200, udp: true},
		{payload: numbered(6400), size: 100, udp: true, v6: true},
	} {
		v, frame := s.build()
		frames := cutAll(t, v, bytes.Clone(frame))
		if want := (len(s.payload) + s.size - 1) / s.size; len(frames) != want {
			t.Fatalf("%d segments, want %d", len(frames), want)
		}
		for _, f := range frames {
			slowRight(t, f)
		}
		c := coalesceAll(frames)
		if len(c.Groups()) != 1 {
			t.Fatalf("%d groups of %+v", len(c.Groups()), s)
		}
		g := &c.Groups()[0]
		again := NewCoalescer(1)
		for i, f := range cutAll(t, v, bytes.Clone(frame)) {
			if h, _ := Parse(f); i == 0 {
				again.Add(f, h)
			} else if !again.Continue(f) {
				t.Fatalf("segment %d does not continue", i)
			}
		}
		again.Finish()
		if !bytes.Equal(again.Groups()[0].bytes(), frame) {
			t.Fatal("continuing gives other bytes")
		}
		if !bytes.Equal(g.bytes(), frame) {
			t.Fatal("the bytes differ")
		}
		g.Header.HeaderLength = 0
		if g.Header != v {
			t.Fatalf("header %+v, want %+v", g.Header, v)
		}
	}
}

func TestFlagsStandWhereTheyBelong(t *testing.T) {
	const fin, psh, ack, ece, cwr = 1, 8, 16, 64, 128
	v, frame := super{payload: numbered(3000), size: 1000, flags: fin | psh | ack | ece | cwr}.build()
	v.GSOType |= VirtioGSOECN
	frames := cutAll(t, v, frame)
	for i, want := range []byte{ack | ece | cwr, ack | ece, fin | psh | ack | ece} {
		if got := frames[i][14+20+13]; got != want {
			t.Errorf("segment %d: flags %08b, want %08b", i, got, want)
		}
	}
}

func TestAUDPChecksumOfZeroIsSentAsAllOnes(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		// The last two bytes of the payload are chosen so that the sum comes out as all ones.
		s := super{payload: make([]byte, 1000), size: 500, udp: true, v6: v6}
		v, frame := s.build()
		for _, f := range cutAll(t, v, bytes.Clone(frame))[:1] {
			h, _ := Parse(f)
			copy(frame[h.Payload+498:], f[h.L4+6:h.L4+8])
		}
		first := cutAll(t, v, bytes.Clone(frame))[0]
		h, _ := Parse(first)
		if first[h.L4+6] != 0xff || first[h.L4+7] != 0xff {
			t.Errorf("segment: checksum %x", first[h.L4+6:h.L4+8])
		}
		slowRight(t, first)
		// The same for a datagram that is not cut.
		one := super{payload: make([]byte, 500), size: 500, udp: true, v6: v6}
		v, frame = one.build()
		f := cutAll(t, v, bytes.Clone(frame))[0]
		copy(frame[h.Payload+498:], f[h.L4+6:h.L4+8])
		f = cutAll(t, v, frame)[0]
		if f[h.L4+6] != 0xff || f[h.L4+7] != 0xff {
			t.Errorf("datagram: checksum %x", f[h.L4+6:h.L4+8])
		}
	}
}

func TestAFrameThatIsNotTheNextSegmentGoesByItself(t *testing.T) {
	s := super{payload: numbered(4000), size: 1000, flags: 0x10, options: 12, noDF: true}
	change := map[string]func(f []byte){
		"another window":          func(f []byte) { f[14+20+15]++ },
		"another acknowledgement": func(f []byte) { f[14+20+11]++ },
		"another option":          func(f []byte) { f[14+20+20] = 2 },
		"a gap in the sequence":   func(f []byte) { f[14+20+7]++ },
		"another TTL":             func(f []byte) { f[14+8]-- },
		"another TOS":             func(f []byte) { f[14+1] = 4 },
		"another identification":  func(f []byte) { f[14+5]++ },
		"FIN":                     func(f []byte) { f[14+20+13] |= 1 },
		"URG":                     func(f []byte) { f[14+20+13] |= 32 },
	}
	for name, f := range change {
		v, frame := s.build()
		frames := cutAll(t, v, frame)
		f(frames[2])
		ip := frames[2][14:]
		SetIPv4Checksum(ip)
		ip[20+16], ip[20+17] = 0, 0
		binary.BigEndian.PutUint16(ip[20+16:], finish(Sum(ip[20:], PseudoSum(ip[12:20], ProtoTCP, len(ip)-20))))
		groups := coalesceAll(frames).Groups()
		if len(groups) < 2 || len(groups[0].Rest) != 1 {
			t.Errorf("%s: %d groups", name, len(groups))
		}
	}
	v, frame := s.build()
	frames := cutAll(t, v, frame)
	frames[1][100] ^= 1
	if g := coalesceAll(frames).Groups(); len(g) < 3 || len(g[0].Rest) != 0 || !bytes.Equal(g[1].First, frames[1]) {
		t.Error("a wrong checksum was covered up")
	}
}

func TestMalformedFramesAreRefused(t *testing.T) {
	_, good := super{payload: numbered(100), size: 1000, flags: 0x10}.build()
	_, good6 := super{payload: numbered(100), size: 1000, flags: 0x10, v6: true}.build()
	for name, f := range map[string]func() []byte{
		"short":             func() []byte { return good[:13] },
		"no IP header":      func() []byte { return good[:30] },
		"version":           func() []byte { b := bytes.Clone(good); b[14] = 0x65; return b },
		"IHL":               func() []byte { b := bytes.Clone(good); b[14] = 0x44; return b },
		"IHL past the end":  func() []byte { b := bytes.Clone(good); b[14], b[16], b[17] = 0x4f, 0, 40; return b },
		"total too long":    func() []byte { b := bytes.Clone(good); b[16] = 0xff; return b },
		"TCP offset":        func() []byte { b := bytes.Clone(good); b[14+20+12] = 0x40; return b },
		"TCP past the end":  func() []byte { b := bytes.Clone(good); b[17] = 40; b[14+20+12] = 0xf0; return b },
		"IPv6 length":       func() []byte { b := bytes.Clone(good6); b[18] = 0xff; return b },
		"IPv6 option chain": func() []byte { b := bytes.Clone(good6); b[14+6] = 0; b[14+41] = 255; return b },
		"ARP":               func() []byte { b := bytes.Clone(good[:30]); b[12], b[13] = 8, 6; return b },
	} {
		if _, fault := Parse(f()); fault != Malformed {
			t.Errorf("%s: %q", name, fault)
		}
	}
	vlan := bytes.Clone(good)
	vlan[12], vlan[13] = 0x81, 0
	if _, fault := Parse(vlan); fault != VLANTagged {
		t.Error(fault)
	}
	vlan[12], vlan[13] = 0x88, 0xcc
	if _, fault := Parse(vlan); fault != NotIP {
		t.Error(fault)
	}
}

func TestNothingIsAllocatedForAPacket(t *testing.T) {
	v, frame := super{payload: numbered(60000), size: 1448, flags: 0x10, options: 12}.build()
	slab := make([]byte, 128<<10)
	c := NewCoalescer(128)
	h, _ := Parse(frame)
	var cutter Cutter
	if n := testing.AllocsPerRun(100, func() {
		cutter.Start(v, frame, h)
		at := 0
		for !cutter.Done() {
			n := cutter.Next(slab[at:])
			h, _ := Parse(slab[at : at+n])
			c.Add(slab[at:at+n], h)
			at += n
		}
		c.Finish()
		c.Reset()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
