package packet

import (
	"math/bits"

	"github.com/tailscale/wireguard-go/tun"
)

// Sum adds the 16-bit big-endian words of b to a running ones-complement sum, in memory order of the host, because such a sum does not
// care about byte order until it is folded (RFC 1071). The adding is WireGuard's, which has it in vector instructions.
func Sum(b []byte, initial uint64) uint64 {
	return addWithCarry(initial, word(tun.Checksum(b, 0)))
}

// Fold turns a running sum into the 16-bit value as it stands in a header, not yet complemented.
func Fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return bits.ReverseBytes16(uint16(sum))
}

// word is a 16-bit header value as Sum would see it.
func word(v uint16) uint64 { return uint64(bits.ReverseBytes16(v)) }

// PseudoSum is the sum over the pseudo header of TCP, UDP and ICMPv6: addresses, protocol, and the length of header and payload.
func PseudoSum(addresses []byte, proto uint8, length int) uint64 {
	sum := Sum(addresses, 0)
	// A length above 65535 does not occur: frames are bounded by MaxFrame.
	return addWithCarry(sum, word(uint16(proto))+word(uint16(length)))
}

func addWithCarry(sum, v uint64) uint64 {
	sum, carry := bits.Add64(sum, v, 0)
	return sum + carry
}

// finish complements a sum for a header. A UDP checksum of zero means "none", so what comes out as zero is sent as all ones, which
// is the same number in ones-complement arithmetic; for TCP it does no harm.
func finish(sum uint64) uint16 {
	c := ^Fold(sum)
	if c == 0 {
		return 0xffff
	}
	return c
}
