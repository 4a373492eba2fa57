// Package nft opens nftables with room for the answers to large tables.
package nft

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
)

const bufferBytes = 16 << 20

// Dial opens nftables in the calling thread's network namespace. Nothing stays open between two flushes.
func Dial() (*nftables.Conn, error) {
	conn, err := nftables.New(nftables.WithSockOptions(
		func(c *netlink.Conn) error { return c.SetReadBuffer(bufferBytes) },
		func(c *netlink.Conn) error { return c.SetWriteBuffer(bufferBytes) },
	))
	if err != nil {
		return nil, fmt.Errorf("nftables cannot be opened: %w", err)
	}
	return conn, nil
}
