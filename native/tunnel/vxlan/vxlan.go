// Package vxlan writes and reads VXLAN (RFC 7348) over an outer IPv4 and UDP header between two VTEPs. It is pure. What it reads has
// come out of WireGuard, so the outer source is the sender's; everything else is hostile until checked.
package vxlan

import (
	"encoding/binary"

	"selvedge.dev/tunnel/packet"
)

const (
	// Port is IANA's for VXLAN, and what the kernel's device is told to use.
	Port = 4789
	// Overhead is what comes before the inner Ethernet frame: IPv4, UDP, VXLAN.
	Overhead = ipv4Header + udpHeader + vxlanHeader

	ipv4Header  = 20
	udpHeader   = 8
	vxlanHeader = 8

	flagVNI      = 0x08
	timeToLive   = 64
	protocolUDP  = 17
	dontFragment = 0x40
	// Source ports carry the flow's hash, so that whoever spreads by ports keeps a flow together (RFC 7348, section 5).
	sourcePortMin = 49152
	sourcePorts   = 1 << 14
)

// Put writes the headers before an inner frame of the given length into the first Overhead bytes of b. The outer UDP checksum is zero,
// as the RFC recommends: WireGuard authenticates the whole packet.
func Put(b []byte, source, destination [4]byte, vni uint32, flow uint32, frameLength int) {
	_ = b[Overhead-1]
	total := Overhead + frameLength
	b[0], b[1] = 0x45, 0
	binary.BigEndian.PutUint16(b[2:], uint16(total))
	// The packet is never fragmented inside WireGuard, so its identification says nothing (RFC 6864).
	b[4], b[5], b[6], b[7] = 0, 0, dontFragment, 0
	b[8], b[9] = timeToLive, protocolUDP
	copy(b[12:16], source[:])
	copy(b[16:20], destination[:])
	packet.SetIPv4Checksum(b)
	binary.BigEndian.PutUint16(b[20:], sourcePortMin+uint16(flow%sourcePorts))
	binary.BigEndian.PutUint16(b[22:], Port)
	binary.BigEndian.PutUint16(b[24:], uint16(total-ipv4Header))
	b[26], b[27] = 0, 0
	binary.BigEndian.PutUint32(b[28:], flagVNI<<24)
	binary.BigEndian.PutUint32(b[32:], vni<<8)
}

// Parsed is what the headers of a received packet say.
type Parsed struct {
	Source, Destination [4]byte
	VNI                 uint32
	Frame               []byte
}

// Parse reads a packet as it came out of WireGuard. It takes IPv4 with options, as other senders may have them, and refuses fragments:
// a host that fragments inside WireGuard has its MTU wrong. Reserved bits are ignored, as the RFC asks. The outer checksum is looked at
// when there is one.
func Parse(b []byte) (p Parsed, ok bool) {
	if len(b) < Overhead || b[0]>>4 != 4 {
		return p, false
	}
	header := int(b[0]&0x0f) * 4
	total := int(binary.BigEndian.Uint16(b[2:]))
	if header < ipv4Header || total > len(b) || total < header+udpHeader+vxlanHeader || b[9] != protocolUDP {
		return p, false
	}
	if binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
		return p, false
	}
	udp := b[header:total]
	length := int(binary.BigEndian.Uint16(udp[4:]))
	if binary.BigEndian.Uint16(udp[2:]) != Port || length < udpHeader+vxlanHeader || length > len(udp) {
		return p, false
	}
	udp = udp[:length]
	if udp[6] != 0 || udp[7] != 0 {
		if packet.Fold(packet.Sum(udp, packet.PseudoSum(b[12:20], protocolUDP, length))) != 0xffff {
			return p, false
		}
	}
	if udp[8]&flagVNI == 0 {
		return p, false
	}
	p.Source, p.Destination = [4]byte(b[12:]), [4]byte(b[16:])
	p.VNI = binary.BigEndian.Uint32(udp[12:]) >> 8
	p.Frame = udp[udpHeader+vxlanHeader:]
	return p, true
}
