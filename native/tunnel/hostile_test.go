package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"selvedge.dev/tunnel/state"
)

func TestTheControlSocketRefusesWithACode(t *testing.T) {
	u := start(t, "", t.TempDir())
	c := u.dial()
	c.refused(state.CodeVersionUnsupported, "actual", "{}")
	c.refused(state.CodeVersionUnsupported, "hello", `{"version":2}`)
	c.refused(state.CodeVersionUnsupported, "apply", "{}")
	c.refused(state.CodeRequestInvalid, "hello", `{"version":1,"more":1}`)
	c.refused(state.CodeRequestInvalid, "hello", `{"version":"1"}`)
	c.must("hello", `{"version":1}`, nil)
	for _, r := range []struct{ method, params string }{
		{"dance", "{}"},
		{strings.Repeat("m", 100), "{}"},
		{"actual", `{"x":1}`},
		{"stats", "[]"},
		{"path", `{"node":"a","path":"sideways"}`},
		{"ping", `{"network":"a","address":"10.0.0.1","count":1000}`},
		{"ping", `{"network":"a","address":"10.0.0.1","size":1000000}`},
		{"ping", `{"network":"a","address":"fe80::1%eth0"}`},
		{"apply", `{}`},
		{"apply", `{"generation":-1}`},
		{"apply", `{"unknown":1}`},
		{"apply", `null`},
	} {
		c.refused(state.CodeRequestInvalid, r.method, r.params)
	}
	c.write(`{"id":77,"method":"stats","params":{},"more":true}` + "\n")
	if a, err := c.read(); err != nil || a.Error == nil || a.Error.Code != state.CodeRequestInvalid {
		t.Errorf("%+v %v", a, err)
	}
	expectEnd(t, c)
	if a := u.connect().call("actual", "{}"); a.Error != nil {
		t.Errorf("it does not answer any more: %+v", a.Error)
	}
}

// expectEnd reads until the tunnel closes the connection.
func expectEnd(t *testing.T, c *client) {
	t.Helper()
	for {
		if _, err := c.read(); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection stays open")
			}
			return
		}
	}
}

func TestGarbageEndsOnlyItsOwnConnection(t *testing.T) {
	u := start(t, "", t.TempDir())
	good := u.connect()
	for name, garbage := range map[string]string{
		"not JSON":         "GET / HTTP/1.1\r\n\r\n",
		"zeros":            strings.Repeat("\x00", 1000) + "\n",
		"an empty line":    "\n",
		"a list":           "[1,2,3]\n",
		"deep nesting":     strings.Repeat("[", 100000) + "\n",
		"two values":       `{"id":1,"method":"hello"}{"id":2,"method":"hello"}` + "\n",
		"no id":            `{"method":"hello","params":{"version":1}}` + "\n",
		"a fractional id":  `{"id":1.5,"method":"hello"}` + "\n",
		"too many objects": `{"id":1,"method":"apply","params":{"peers":[` + strings.Repeat("{},", 200000) + "{}]}}\n",
		"bad UTF-8":        "{\"id\":1,\"method\":\"\xff\xfe\"}\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := u.dial()
			c.write(garbage)
			a, err := c.read()
			if err != nil || a.Error == nil {
				t.Fatalf("%+v %v", a, err)
			}
			if a.Error.Code != state.CodeRequestInvalid && a.Error.Code != state.CodeVersionUnsupported {
				t.Errorf("%+v", a.Error)
			}
			if len(a.Error.Message) > 1000 {
				t.Errorf("a message of %d bytes", len(a.Error.Message))
			}
		})
	}
	good.must("stats", "{}", nil)
}

func TestALineThatIsTooLongIsNotBuffered(t *testing.T) {
	u := start(t, "", t.TempDir())
	c := u.connect()
	go func() {
		block := bytes.Repeat([]byte("a"), 1<<20)
		for range 64 {
			if _, err := c.conn.Write(block); err != nil {
				return
			}
		}
	}()
	a, err := c.read()
	if err == nil && (a.Error == nil || a.Error.Code != state.CodeFrameTooLarge) {
		t.Errorf("%+v", a)
	}
	expectEnd(t, c)
	u.connect().must("stats", "{}", nil)
}

func TestAConnectionThatSaysNothingOrHalfALineIsClosed(t *testing.T) {
	t.Parallel()
	u := start(t, "", t.TempDir())
	silent, half, patient := u.dial(), u.dial(), u.connect()
	half.write(`{"id":1,`)
	expectEnd(t, silent)
	expectEnd(t, half)
	patient.must("stats", "{}", nil)
}

func TestTooManyConnectionsAreRefused(t *testing.T) {
	u := start(t, "", t.TempDir())
	for range 16 {
		u.connect()
	}
	expectEnd(t, u.dial())
}

func TestAReaderThatReadsNothingIsDisconnected(t *testing.T) {
	t.Parallel()
	u := start(t, "", t.TempDir())
	slow, good := u.connect(), u.connect()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			if _, err := fmt.Fprintf(slow.conn, `{"id":%d,"method":"actual"}`+"\n", i); err != nil {
				return
			}
		}
	}()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("it is still connected")
		_ = slow.conn.Close()
	}
	good.must("stats", "{}", nil)
}

func TestOtherUsersAreRefused(t *testing.T) {
	folder := t.TempDir()
	u := start(t, "", folder)
	if info, err := os.Stat(u.socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	// Even where the mode lets them in, as a backup that was restored carelessly might.
	for at := folder; at != "/"; at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, socket := range []string{u.socket, u.carry} {
		if err := os.Chmod(socket, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	stranger := program(t.Context(), "", "status", "--socket", u.socket)
	self := stranger.Path
	copied := filepath.Join(folder, "selvedge-tunnel")
	bytes, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, bytes, 0o755); err != nil {
		t.Fatal(err)
	}
	stranger.Path, stranger.Args = "/usr/bin/setpriv", []string{"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", copied, "status", "--socket", u.socket}
	if out, err := stranger.CombinedOutput(); err == nil || strings.Contains(string(out), "engine") {
		t.Errorf("%s %v", out, err)
	}
	log, _ := os.ReadFile(u.log)
	contains(t, string(log), "user 65534 is neither root")
}

func TestTheSocketOfATunnelThatIsGoneIsReplacedAndThatOfALivingOneIsNot(t *testing.T) {
	folder := t.TempDir()
	first := start(t, "", folder)
	first.kill()
	if _, err := os.Stat(first.socket); err != nil {
		t.Fatal("a killed tunnel leaves its socket:", err)
	}
	second := start(t, "", folder)
	c := second.connect()

	third := program(t.Context(), "", "run", "--socket", second.socket, "--carry", second.carry)
	out, err := third.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatal(err)
	}
	contains(t, string(out), "state_in_use", second.socket)
	c.must("stats", "{}", nil)
	second.connect()

	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = program(t.Context(), "", "run", "--socket", file, "--carry", filepath.Join(folder, "c")).CombinedOutput()
	if err == nil {
		t.Error("it ran")
	}
	contains(t, string(out), "no socket")
	if content, _ := os.ReadFile(file); string(content) != "precious" {
		t.Error("the file was touched")
	}
}

func TestATunnelThatSpeaksAnotherVersionCanBeClosed(t *testing.T) {
	u := start(t, "", t.TempDir())
	c := u.dial()
	c.refused(state.CodeVersionUnsupported, "close", "{}")
	c.refused(state.CodeVersionUnsupported, "hello", `{"version":99}`)
	c.must("close", "{}", nil)
	if err := u.wait(); err != nil {
		t.Error(err)
	}
}

func TestTheCarrySocketTakesOnlyPeers(t *testing.T) {
	h := newHosts(t)
	u := h.start(0)
	u.connect().apply(h.desired(0, 1))
	hello := func(line string) (string, net.Conn) {
		conn, err := net.Dial("unix", u.carry)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, line); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		answer := make([]byte, 4096)
		n, err := conn.Read(answer)
		if err != nil {
			t.Fatal(err)
		}
		return string(answer[:n]), conn
	}
	for line, code := range map[string]state.Code{
		`{"version":1,"node":"nobody"}` + "\n":      state.CodeNotFound,
		`{"version":2,"node":"right"}` + "\n":       state.CodeVersionUnsupported,
		`{"version":1,"node":"right","x":1}` + "\n": state.CodeRequestInvalid,
		"garbage\n":              state.CodeRequestInvalid,
		strings.Repeat("x", 513): state.CodeFrameTooLarge,
		`{"version":1}` + "\n":   state.CodeRequestInvalid,
		`{"version":1,"node":"` + strings.Repeat("n", 200): state.CodeRequestInvalid,
	} {
		t.Run(string(code), func(t *testing.T) {
			answer, _ := hello(line)
			var refused struct {
				Error struct {
					Code state.Code `json:"code"`
				} `json:"error"`
			}
			if err := json.Unmarshal([]byte(answer), &refused); err != nil || refused.Error.Code != code {
				t.Errorf("%.60s: %s", line, answer)
			}
		})
	}
	if answer, _ := hello(`{"version":1,"node":"right"}` + "\n"); answer != `{"ok":true}`+"\n" {
		t.Error(answer)
	}
}
