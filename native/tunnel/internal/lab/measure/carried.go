package main

import (
	"io"
	"net"
	"os"
	"path/filepath"

	"selvedge.dev/tunnel/internal/lab"
)

// carry joins the two hosts by a stream through this process, as daemons would, and returns what ends it.
func carry(l *lab.Lab) (stop func(), err error) {
	directory, err := os.MkdirTemp("", "measure")
	if err != nil {
		return func() {}, err
	}
	path := filepath.Join(directory, "carry")
	listener, err := net.Listen("unix", path)
	stop = func() { _ = os.RemoveAll(directory) }
	if err != nil {
		return stop, err
	}
	defer listener.Close()
	var ends [2]net.Conn
	for i, h := range l.Hosts {
		if err := h.Ask(map[string]any{"op": "carry", "node": l.Hosts[1-i].Node, "path": path}, nil); err != nil {
			return stop, err
		}
		if ends[i], err = listener.Accept(); err != nil {
			return stop, err
		}
	}
	go func() { _, _ = io.Copy(ends[0], ends[1]) }()
	go func() { _, _ = io.Copy(ends[1], ends[0]) }()
	return stop, nil
}

// setPath chooses the path of both hosts.
func setPath(l *lab.Lab, path string) error {
	for i, h := range l.Hosts {
		if err := h.Ask(map[string]any{"op": "path", "node": l.Hosts[1-i].Node, "path": path}, nil); err != nil {
			return err
		}
	}
	return nil
}
