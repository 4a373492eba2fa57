// Package engine says what an engine of app networks is: what carries frames between hosts, sealed by WireGuard. There are two: user,
// in this process, and kernel. Both speak the same on the wire.
package engine

import (
	"net"
	"os"

	"selvedge.dev/tunnel/state"
)

// Engine is safe for use by several goroutines. Apply and Close are called one at a time.
type Engine interface {
	Name() string
	// Apply makes the desired state so, as far as it can, and says what it could not. What has not changed is not touched: its flows
	// go on. An engine that needs TAPs gets one for each network, by the network's name; it works on a duplicate of the file's
	// descriptor, so the caller keeps its own.
	Apply(d state.Desired, taps map[string]*os.File) []state.Failure
	Actual() state.EngineActual
	Stats() state.Stats
	// SetPath changes the path of one peer at once, until the next Apply says otherwise.
	SetPath(node, path string) error
	// Carry gives a peer a stream for its sealed packets. The engine closes it when it ends, is replaced, or the peer goes.
	Carry(node string, conn *net.UnixConn) error
	// Events is closed by Close. An event that nobody takes in time is dropped: events tell that something may be looked at.
	Events() <-chan state.Event
	Close() error
}
