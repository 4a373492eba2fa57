package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"selvedge.dev/tunnel/state"
)

// listen makes a Unix socket of mode 0600. The file of a tunnel that is gone is replaced; a tunnel that answers is not disturbed.
func listen(path string) (*net.UnixListener, error) {
	if len(path) > socketPathBytes || !filepath.IsAbs(path) {
		return nil, state.Failedf(state.CodeArgumentInvalid, path, "a socket's path is absolute and has at most %d bytes", socketPathBytes)
	}
	folder := filepath.Dir(path)
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, state.Failedf(state.CodeArgumentInvalid, path, "its folder cannot be made: %w", err)
	}
	// Two tunnels that start at once must not both find the file stale. The lock is on the folder, so it leaves no file.
	unlock, err := lock(folder)
	if err != nil {
		return nil, state.Failedf(state.CodeArgumentInvalid, path, "its folder cannot be locked: %w", err)
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// Made under another name and renamed when its mode is right: at no time can others connect.
	fresh := path + ".new"
	if err := removeStale(fresh); err != nil {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, state.Failedf(state.CodeArgumentInvalid, path, "the socket cannot be made: %w", err)
	}
	listener.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(fresh, 0o600), os.Rename(fresh, path)); err != nil {
		return nil, errors.Join(state.Failedf(state.CodeArgumentInvalid, path, "the socket cannot be put in place: %w", err), listener.Close(), os.Remove(fresh))
	}
	return listener, nil
}

func lock(folder string) (unlock func(), err error) {
	file, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() { _ = file.Close() }, nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return state.Failedf(state.CodeArgumentInvalid, path, "it cannot be looked at: %w", err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return state.Failedf(state.CodeArgumentInvalid, path, "it is there and is no socket")
	}
	probe, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = probe.Close()
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return state.Failedf(state.CodeStateInUse, path, "another selvedge-tunnel answers there")
	}
	if err := os.Remove(path); err != nil {
		return state.Failedf(state.CodeArgumentInvalid, path, "the socket of a tunnel that is gone cannot be removed: %w", err)
	}
	return nil
}

// authorize checks who is at the other end: root, or the user that runs the tunnel.
func authorize(conn *net.UnixConn, own int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var inner error
	if err := raw.Control(func(fd uintptr) { peer, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if inner != nil {
		return inner
	}
	if peer.Uid != 0 && int(peer.Uid) != own {
		return state.Failed(state.CodeUnauthorized, "control socket", fmt.Errorf("user %d is neither root nor the tunnel's user %d", peer.Uid, own))
	}
	return nil
}
