package state

import (
	"crypto/ecdh"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
)

// Key is a WireGuard public key; as text, base64.
type Key [32]byte

var errKey = errors.New("not 32 bytes of base64")

func decodeKey(text []byte) (key [32]byte, err error) {
	if len(text) != base64.StdEncoding.EncodedLen(len(key)) {
		return key, errKey
	}
	var bytes [33]byte
	n, err := base64.StdEncoding.Strict().Decode(bytes[:], text)
	if err != nil || n != len(key) {
		// The error of base64 quotes its input, which may be a private key.
		return key, errKey
	}
	copy(key[:], bytes[:])
	return key, nil
}

func (k *Key) UnmarshalText(text []byte) (err error) {
	*k, err = decodeKey(text)
	return err
}

func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }
func (k Key) String() string               { return base64.StdEncoding.EncodeToString(k[:]) }

// Hex is the key as WireGuard's configuration protocol (UAPI) writes it.
func (k Key) Hex() string { return hex.EncodeToString(k[:]) }

// PrivateKey can be read from the socket and handed to WireGuard. It cannot be printed, formatted or encoded.
type PrivateKey [32]byte

const hidden = "(private key)"

func (k *PrivateKey) UnmarshalText(text []byte) (err error) {
	*k, err = decodeKey(text)
	return err
}

func (k PrivateKey) MarshalText() ([]byte, error) {
	return nil, errors.New("a private key is never written out")
}
func (k PrivateKey) String() string             { return hidden }
func (k PrivateKey) GoString() string           { return hidden }
func (k PrivateKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hidden)) }

// Hex is the key for WireGuard's configuration protocol; the result must go nowhere else.
func (k PrivateKey) Hex() string { return hex.EncodeToString(k[:]) }

// Public is the public key that belongs to it.
func (k PrivateKey) Public() Key {
	private, err := ecdh.X25519().NewPrivateKey(k[:])
	if err != nil {
		panic("a private key has 32 bytes, and any 32 bytes are one: " + err.Error())
	}
	return Key(private.PublicKey().Bytes())
}

// MAC is an Ethernet address; as text, six pairs of hex digits with colons.
type MAC [6]byte

func (m *MAC) UnmarshalText(text []byte) error {
	if len(text) != len("02:00:00:00:00:00") {
		return errors.New("not a MAC address")
	}
	parsed, err := net.ParseMAC(string(text))
	if err != nil || len(parsed) != len(m) {
		return errors.New("not a MAC address")
	}
	copy(m[:], parsed)
	return nil
}

func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }
func (m MAC) String() string               { return m.Hardware().String() }

// Hardware is the address in the form that netlink takes.
func (m MAC) Hardware() net.HardwareAddr { return net.HardwareAddr(m[:]) }

// IsGroup reports a multicast or broadcast address, which no endpoint can have.
func (m MAC) IsGroup() bool { return m[0]&1 == 1 }
