package main

import (
	"bufio"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"selvedge.dev/tunnel/internal/nstest"
	"selvedge.dev/tunnel/state"
)

const runAsProgram = "SELVEDGE_TUNNEL_PROGRAM"

// TestMain is the program when a test starts it as one, so that the tests need no build of it.
func TestMain(m *testing.M) {
	if os.Getenv(runAsProgram) != "" {
		os.Exit(command(os.Args[1:], os.Stdout, os.Stderr))
	}
	nstest.Main(m)
}

// tunnel is a running selvedge-tunnel in a namespace.
type tunnel struct {
	t             *testing.T
	process       *exec.Cmd
	socket, carry string
	log           string
	ended         chan error
}

// program is a command line of the tunnel, in a namespace or, with none, in the test's own.
func program(ctx context.Context, namespace string, arguments ...string) *exec.Cmd {
	line := append([]string{"/proc/self/exe"}, arguments...)
	if self, err := os.Executable(); err == nil {
		line[0] = self
	}
	if namespace != "" {
		line = append([]string{"ip", "netns", "exec", namespace}, line...)
	}
	process := exec.CommandContext(ctx, line[0], line[1:]...)
	process.Env = append(os.Environ(), runAsProgram+"=1")
	return process
}

// start runs a tunnel and waits until it answers.
func start(t *testing.T, namespace, folder string) *tunnel {
	t.Helper()
	u := &tunnel{t: t, socket: filepath.Join(folder, "tunnel.sock"), carry: filepath.Join(folder, "carry.sock"), log: filepath.Join(folder, "log"), ended: make(chan error, 1)}
	u.process = program(context.Background(), namespace, "run", "--socket", u.socket, "--carry", u.carry)
	log, err := os.OpenFile(u.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	u.process.Stderr = log
	if err := u.process.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		u.ended <- u.process.Wait()
		_ = log.Close()
	}()
	t.Cleanup(u.kill)
	waitFor(t, func() bool {
		select {
		case err := <-u.ended:
			u.ended <- err
			text, _ := os.ReadFile(u.log)
			t.Fatalf("the tunnel ended: %v\n%s", err, text)
		default:
		}
		probe, err := net.Dial("unix", u.carry)
		if err == nil {
			_ = probe.Close()
		}
		return err == nil
	})
	return u
}

// kill is kill -9.
func (u *tunnel) kill() {
	_ = u.process.Process.Kill()
	u.wait()
}

func (u *tunnel) wait() error {
	u.t.Helper()
	select {
	case err := <-u.ended:
		u.ended <- err
		return err
	case <-time.After(20 * time.Second):
		u.t.Fatal("the tunnel did not end within 20 s")
		return nil
	}
}

func (u *tunnel) terminate() error {
	_ = u.process.Process.Signal(syscall.SIGTERM)
	return u.wait()
}

// client is a daemon's end of the control socket.
type client struct {
	t      *testing.T
	conn   net.Conn
	reader *bufio.Reader
	last   int
	events []event
}

type event struct {
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

type answer struct {
	event
	ID     *int            `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Code    state.Code        `json:"code"`
		Message string            `json:"message"`
		Details map[string]string `json:"details"`
	} `json:"error"`
}

func (u *tunnel) dial() *client {
	u.t.Helper()
	conn, err := net.Dial("unix", u.socket)
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() { _ = conn.Close() })
	return &client{t: u.t, conn: conn, reader: bufio.NewReader(conn)}
}

// connect dials and says hello.
func (u *tunnel) connect() *client {
	u.t.Helper()
	c := u.dial()
	c.must("hello", `{"version":1}`, nil)
	return c
}

func (c *client) write(text string) {
	c.t.Helper()
	if _, err := c.conn.Write([]byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) read() (a answer, err error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	line, err := c.reader.ReadBytes('\n')
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(line, &a)
}

// call sends a request and waits for its answer; events on the way are kept.
func (c *client) call(method, params string) answer {
	c.t.Helper()
	c.last++
	c.write(fmt.Sprintf(`{"id":%d,"method":%q,"params":%s}`+"\n", c.last, method, params))
	for {
		a, err := c.read()
		if err != nil {
			c.t.Fatalf("%s: %v", method, err)
		}
		if a.Event != "" {
			c.events = append(c.events, a.event)
		} else if a.ID != nil && *a.ID == c.last {
			return a
		}
	}
}

func (c *client) must(method, params string, result any) {
	c.t.Helper()
	a := c.call(method, params)
	if a.Error != nil {
		c.t.Fatalf("%s: %+v", method, *a.Error)
	}
	if result != nil {
		if err := json.Unmarshal(a.Result, result); err != nil {
			c.t.Fatalf("%s: %v in %s", method, err, a.Result)
		}
	}
}

func (c *client) refused(code state.Code, method, params string) {
	c.t.Helper()
	a := c.call(method, params)
	if a.Error == nil || a.Error.Code != code || a.Error.Details["remedy"] == "" {
		c.t.Errorf("%s %.100s: expected %s, got %s %+v", method, params, code, a.Result, a.Error)
	}
}

// waitEvent reads until an event comes that holds what is asked.
func (c *client) waitEvent(name string, holds func(json.RawMessage) bool) {
	c.t.Helper()
	for i := 0; ; i++ {
		if i == len(c.events) {
			a, err := c.read()
			if err != nil {
				c.t.Fatalf("no event %s: %v", name, err)
			}
			c.events = append(c.events, a.event)
		}
		if c.events[i].Event == name && holds(c.events[i].Data) {
			return
		}
	}
}

type applied struct {
	Generation uint64          `json:"generation"`
	Changed    []string        `json:"changed"`
	Failures   []state.Failure `json:"failures"`
}

// apply applies a state that must hold entirely.
func (c *client) apply(d map[string]any) applied {
	c.t.Helper()
	a := c.tryApply(d)
	if len(a.Failures) > 0 {
		c.t.Fatalf("failures: %+v", a.Failures)
	}
	return a
}

func (c *client) tryApply(d map[string]any) (a applied) {
	c.t.Helper()
	text, err := json.Marshal(d)
	if err != nil {
		c.t.Fatal(err)
	}
	c.must("apply", string(text), &a)
	return a
}

func (c *client) stats() (s state.Stats) {
	c.t.Helper()
	c.must("stats", "{}", &s)
	return s
}

// pair is a WireGuard key pair, as the daemon has it.
type pair struct{ private, public string }

func newPair(t *testing.T) pair {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pair{base64.StdEncoding.EncodeToString(key.Bytes()), base64.StdEncoding.EncodeToString(key.PublicKey().Bytes())}
}

// hosts are two namespaces with a link between them, and a key for each.
type hosts struct {
	t     *testing.T
	names [2]string
	keys  [2]pair
	ports [2]int
	dirs  [2]string
}

func newHosts(t *testing.T) *hosts {
	h := &hosts{t: t, names: [2]string{"left", "right"}, ports: [2]int{51820, 51820}}
	for i, name := range h.names {
		nstest.Namespace(t, name)
		h.keys[i], h.dirs[i] = newPair(t), t.TempDir()
	}
	nstest.Run(t, "ip", "-n", "left", "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", "right")
	for i, name := range h.names {
		nstest.Run(t, "ip", "-n", name, "addr", "add", fmt.Sprintf("192.0.2.%d/24", i+1), "dev", "up0")
		nstest.Run(t, "ip", "-n", name, "link", "set", "up0", "up")
	}
	return h
}

func (h *hosts) start(i int) *tunnel { return start(h.t, h.names[i], h.dirs[i]) }

// desired is the state of one of the two, in the numbered networks.
func (h *hosts) desired(i int, networks ...int) map[string]any {
	other := 1 - i
	all := []any{}
	for _, n := range networks {
		all = append(all, networkOf(n, i, other))
	}
	return map[string]any{
		"generation": 1, "owner": "edge/" + h.names[i],
		"wireguard": map[string]any{"engine": "auto", "keys": []any{map[string]any{"privateKey": h.keys[i].private, "listenPort": h.ports[i]}}, "fwmark": 0, "vtep": fmt.Sprintf("100.96.0.%d", i+1)},
		"peers": []any{map[string]any{"node": h.names[other], "vtep": fmt.Sprintf("100.96.0.%d", other+1), "keys": []string{h.keys[other].public},
			"endpoint": map[string]any{"host": fmt.Sprintf("192.0.2.%d", other+1), "port": h.ports[other]}, "path": "direct", "keepalive_s": 0}},
		"networks": all,
	}
}

func networkOf(n, i, other int) map[string]any {
	mac := func(host int) string { return fmt.Sprintf("02:00:00:00:%02x:%02x", n, host+1) }
	addresses := func(host int) []string {
		return []string{fmt.Sprintf("10.9.%d.%d", n, host+1), fmt.Sprintf("fd00:%x::%d", n, host+1)}
	}
	return map[string]any{
		"name": fmt.Sprintf("net%d", n), "vni": 1000 + n, "bridge": fmt.Sprintf("svb-%x", 1000+n), "tap": fmt.Sprintf("svt-%x", 1000+n), "mtu": 1390, "mac": mac(i),
		"addresses": []string{addresses(i)[0] + "/24", addresses(i)[1] + "/64"}, "learning": false, "broadcast_pps": 200,
		"remote":      []any{map[string]any{"mac": mac(other), "addresses": addresses(other), "vtep": fmt.Sprintf("100.96.0.%d", other+1)}},
		"local":       []any{map[string]any{"mac": mac(i), "addresses": addresses(i)}},
		"attachments": []any{},
	}
}

// both starts two tunnels and applies the networks on both.
func (h *hosts) both(networks ...int) (tunnels [2]*tunnel, clients [2]*client) {
	h.t.Helper()
	for i := range tunnels {
		tunnels[i] = h.start(i)
		clients[i] = tunnels[i].connect()
		clients[i].apply(h.desired(i, networks...))
	}
	return tunnels, clients
}

func (h *hosts) ping(address string) {
	h.t.Helper()
	nstest.Run(h.t, "ip", "netns", "exec", "left", "ping", "-c3", "-i0.05", "-W3", address)
}

func waitFor(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to hold within 10 s")
		}
	}
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in:\n%s", part, text)
		}
	}
}
