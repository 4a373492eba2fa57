// Package uapi lets `wg show` read a WireGuard device in user space: a socket under /var/run/wireguard that answers WireGuard's
// configuration protocol. It only reads, and private keys are left out, so that a dump of it can be shown to anybody.
package uapi

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Directory is where WireGuard's tools look.
const Directory = "/var/run/wireguard"

const (
	connectionsMax    = 8
	requestBytesMax   = 4096
	requestLinesMax   = 16
	exchangeTimeMax   = 5 * time.Second
	answerBytesMax    = 32 << 20
	permissionRefused = -int(unix.EPERM)
	protocolRefused   = -int(unix.EPROTO)
)

// Server is the socket of one device.
type Server struct {
	listener *net.UnixListener
	path     string
	done     sync.WaitGroup
	slots    chan struct{}
}

// ErrInUse says that another process answers under that name.
var ErrInUse = errors.New("another process answers there")

// Serve listens under the device's name. The socket of a process that is gone is replaced.
func Serve(device string, config func() (string, error)) (*Server, error) {
	if err := os.MkdirAll(Directory, 0o755); err != nil {
		return nil, err
	}
	// Tunnels of several namespaces may share this folder: one at a time looks for a free name and takes it.
	folder, err := os.Open(Directory)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX); err != nil {
		return nil, err
	}
	path := filepath.Join(Directory, device+".sock")
	if probe, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = probe.Close()
		return nil, fmt.Errorf("%s: %w", path, ErrInUse)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("%s is there and is no socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	// Made under another name and renamed when its mode is right: at no time can others connect.
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(fresh, 0o600), os.Rename(fresh, path)); err != nil {
		return nil, errors.Join(err, listener.Close(), os.Remove(fresh))
	}
	s := &Server{listener: listener, path: path, slots: make(chan struct{}, connectionsMax)}
	s.done.Go(func() { s.accept(config) })
	return s, nil
}

// Close stops answering and removes the socket.
func (s *Server) Close() error {
	err := errors.Join(s.listener.Close(), os.Remove(s.path))
	s.done.Wait()
	return err
}

func (s *Server) accept(config func() (string, error)) {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		select {
		case s.slots <- struct{}{}:
			s.done.Go(func() {
				defer func() { <-s.slots }()
				answer(conn, config)
			})
		default:
			_ = conn.Close()
		}
	}
}

// answer serves one connection, which is one exchange for each operation.
func answer(conn net.Conn, config func() (string, error)) {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(exchangeTimeMax)); err != nil {
		return
	}
	reader := bufio.NewReader(io.LimitReader(conn, requestBytesMax))
	operation, err := reader.ReadString('\n')
	if err != nil {
		return
	}
	switch operation {
	case "get=1\n":
		if end, err := reader.ReadString('\n'); err != nil || end != "\n" {
			refuse(conn, protocolRefused)
			return
		}
		text, err := config()
		if err != nil || len(text) > answerBytesMax {
			refuse(conn, protocolRefused)
			return
		}
		_, _ = io.WriteString(conn, Public(text)+"errno=0\n\n")
	case "set=1\n":
		// The daemon's desired state is the only way to change anything.
		for range requestLinesMax {
			if line, err := reader.ReadString('\n'); err != nil || line == "\n" {
				break
			}
		}
		refuse(conn, permissionRefused)
	default:
		refuse(conn, protocolRefused)
	}
}

func refuse(conn net.Conn, errno int) { _, _ = fmt.Fprintf(conn, "errno=%d\n\n", errno) }

// Public is a device's configuration without its secrets.
func Public(config string) string {
	var out strings.Builder
	for line := range strings.Lines(config) {
		if strings.HasPrefix(line, "private_key=") || strings.HasPrefix(line, "preshared_key=") || line == "\n" {
			continue
		}
		out.WriteString(line)
	}
	return out.String()
}
