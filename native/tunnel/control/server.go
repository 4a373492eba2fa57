// Package control is the two Unix sockets of the tunnel: the control socket, where daemons give the desired state and ask for the actual
// one, and the carry socket, where each connection carries the sealed packets of one peer.
//
// Every connection is root's or the tunnel's own user's (SO_PEERCRED, and mode 0600), and bounded in lines, time and memory (limits.go).
// It knows devices and engines only through the interface Tunnel.
package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"selvedge.dev/tunnel/state"
)

// Server owns the sockets and their connections.
type Server struct {
	tunnel    Tunnel
	own       int
	listeners []*net.UnixListener
	paths     []string
	context   context.Context
	cancel    context.CancelFunc
	done      sync.WaitGroup

	mu    sync.Mutex
	conns map[*conn]struct{}
}

// Open listens on both sockets. Nobody is answered before Serve.
func Open(controlPath, carryPath string, tunnel Tunnel) (*Server, error) {
	s := &Server{tunnel: tunnel, own: os.Getuid(), conns: map[*conn]struct{}{}}
	s.context, s.cancel = context.WithCancel(context.Background())
	for _, path := range []string{controlPath, carryPath} {
		listener, err := listen(path)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.listeners, s.paths = append(s.listeners, listener), append(s.paths, path)
	}
	return s, nil
}

// Serve answers on both sockets until Close.
func (s *Server) Serve() {
	slots := make(chan struct{}, connectionsMax)
	s.done.Go(func() { s.accept(s.listeners[0], slots, s.serveControl) })
	carrySlots := make(chan struct{}, carryConnsMax)
	s.done.Go(func() { s.accept(s.listeners[1], carrySlots, func(socket *net.UnixConn) { carry(socket, s.tunnel) }) })
}

// Close ends listening and every control connection, after what was being answered is answered, and removes the sockets' files.
func (s *Server) Close() error {
	s.cancel()
	var err error
	for i, listener := range s.listeners {
		err = errors.Join(err, listener.Close(), os.Remove(s.paths[i]))
	}
	s.done.Wait()
	return err
}

// Tell sends an event to every daemon that has said hello.
func (s *Server) Tell(event state.Event) {
	line, err := encode(event)
	if err != nil {
		slog.Error("an event cannot be encoded", "event", event.Event, "why", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if err := c.tell(line); err != nil {
			slog.Warn("a daemon was disconnected", "why", err)
		}
	}
}

func (s *Server) accept(listener *net.UnixListener, slots chan struct{}, serve func(*net.UnixConn)) {
	for {
		socket, err := listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors, most likely: what is connected goes on.
			slog.Warn("a connection could not be accepted", "why", err)
			select {
			case <-time.After(acceptPause):
			case <-s.context.Done():
			}
			continue
		}
		if err := authorize(socket, s.own); err != nil {
			slog.Warn("a connection was refused", "why", err)
			_ = socket.Close()
			continue
		}
		select {
		case slots <- struct{}{}:
			s.done.Go(func() {
				defer func() { <-slots }()
				serve(socket)
			})
		default:
			slog.Warn("a connection was refused", "why", "too many are open")
			_ = socket.Close()
		}
	}
}

func (s *Server) serveControl(socket *net.UnixConn) {
	c := newConn(s.context, socket, s.tunnel)
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	c.serve(func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	})
}
