//go:build guest

package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"selvedge.dev/tunnel/internal/guest"
	"selvedge.dev/tunnel/internal/nstest"
	"selvedge.dev/tunnel/state"
)

// The namespace of the tests has no way to a package server, so the kernel is fetched before it is entered.
func init() {
	if nstest.Inside() || os.Getenv(runAsProgram) != "" {
		return
	}
	if err := guest.Fetch(guestFolder); err != nil {
		fmt.Fprintln(os.Stderr, "the guest's kernel:", err)
		os.Exit(1)
	}
}

// guestFolder is below the module, where tests run.
const guestFolder = "target/guest"

// mixed is a host with the kernel engine in the guest (right), and one with the user engine here (left).
type mixed struct {
	*hosts
	guest  *guest.Guest
	left   *client
	right  *client
	tunnel *tunnel
}

func newMixed(t *testing.T) *mixed {
	nstest.Run(t, "ip", "tuntap", "add", "guest0", "mode", "tap")
	nstest.Run(t, "ip", "addr", "add", guest.HostAddress+"/24", "dev", "guest0")
	nstest.Run(t, "ip", "link", "set", "guest0", "up")
	module, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	g, err := guest.Boot(module, filepath.Join(module, guestFolder), "guest0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(g.Console())
		}
		g.Close()
	})
	m := &mixed{hosts: &hosts{t: t, names: [2]string{"left", "right"}, keys: [2]pair{newPair(t), newPair(t)}, ports: [2]int{51820, 51820}}, guest: g}
	m.startRight()
	m.tunnel = start(t, "", t.TempDir())
	m.left = m.tunnel.connect()
	return m
}

// run runs a command in the guest, which must succeed.
func (m *mixed) run(words ...string) guest.Result {
	m.t.Helper()
	result, err := m.guest.Run(words...)
	if err != nil {
		m.t.Fatal(err)
	}
	return result
}

func (m *mixed) startRight() (pid int) {
	m.t.Helper()
	pid = m.run("&", "/selvedge-tunnel", "run", "--socket", guest.ControlSocket, "--carry", guest.CarrySocket).PID
	waitFor(m.t, func() bool {
		conn, err := net.Dial("tcp", guest.ControlAddress)
		if err != nil {
			return false
		}
		m.right = &client{t: m.t, conn: conn, reader: bufio.NewReader(conn), last: 1}
		m.right.write(`{"id":1,"method":"hello","params":{"version":1}}` + "\n")
		if _, err = m.right.read(); err != nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return pid
}

func (m *mixed) apply(networks ...int) {
	m.t.Helper()
	m.left.apply(m.desired(0, networks...))
	m.right.apply(m.desired(1, networks...))
}

func (m *mixed) pingBoth() {
	m.t.Helper()
	for _, address := range []string{"10.9.1.2", "fd00:1::2"} {
		nstest.Run(m.t, "ping", "-c3", "-i0.1", "-W5", address)
	}
	m.run("ping", "-c3", "-W5", "10.9.1.1")
	m.run("ping", "-6", "-c3", "-W5", "fd00:1::1")
}

func TestAKernelHostInAGuestTalksWithAUserHostOutside(t *testing.T) {
	m := newMixed(t)
	m.apply(1)

	t.Run("engines", func(t *testing.T) {
		var left, right state.Actual
		m.left.must("actual", "{}", &left)
		m.right.must("actual", "{}", &right)
		if left.WireGuard.Engine != "user" || right.WireGuard.Engine != "kernel" {
			t.Errorf("%s (%s), %s (%s)", left.WireGuard.Engine, left.WireGuard.Why, right.WireGuard.Engine, right.WireGuard.Why)
		}
		if n := right.Networks[0]; n.Port != "svx-3e9" || n.VNI != 1001 {
			t.Errorf("%+v", n)
		}
	})
	t.Run("ping", func(t *testing.T) {
		m.pingBoth()
		// In fragments, and at the exact MTU without.
		nstest.Run(t, "ping", "-c2", "-i0.1", "-W5", "-s", "8000", "10.9.1.2")
		nstest.Run(t, "ping", "-c2", "-i0.1", "-W5", "-M", "do", "-s", "1362", "10.9.1.2")
		if err := exec.Command("ping", "-c1", "-W1", "-M", "do", "-s", "1363", "10.9.1.2").Run(); err == nil {
			t.Error("a packet larger than the MTU passed")
		}
	})
	t.Run("tcp", m.tcp)
	t.Run("tools", func(t *testing.T) {
		contains(t, m.run("wg", "show").Output, "interface: svw-51820", "public key: "+m.keys[1].public, "peer: "+m.keys[0].public, "allowed ips: 100.96.0.1/32", "latest handshake")
		contains(t, m.run("bridge", "fdb", "show", "dev", "svx-3e9").Output, "02:00:00:00:01:01 dst 100.96.0.1 self permanent", "00:00:00:00:00:00 dst 100.96.0.1 self permanent")
		contains(t, m.run("ip", "-d", "link", "show", "svx-3e9").Output, "vxlan id 1001", "local 100.96.0.2", "master svb-3e9", "alias selvedge edge/right net1", "mtu 1390")
		s := m.right.stats()
		if len(s.Peers) != 1 || s.Peers[0].LatestHandshakeMS == nil || s.Peers[0].RxBytes == 0 || s.Networks[0].RxPackets == 0 || s.Keys[0].LastUsedMS == nil {
			t.Errorf("%+v", s)
		}
	})
	t.Run("attachment", func(t *testing.T) {
		m.run("ip", "netns", "add", "web")
		d := m.desired(1, 1)
		n := d["networks"].([]any)[0].(map[string]any)
		n["attachments"] = []any{map[string]any{"name": "web", "netns": "/run/netns/web", "interface": "shop0", "mac": "02:00:00:00:01:33", "addresses": []string{"10.9.1.51/24"}, "host": "svv-1"}}
		n["local"] = append(n["local"].([]any), map[string]any{"mac": "02:00:00:00:01:33", "addresses": []string{"10.9.1.51"}})
		m.right.apply(d)
		other := m.desired(0, 1)
		n = other["networks"].([]any)[0].(map[string]any)
		n["remote"] = append(n["remote"].([]any), map[string]any{"mac": "02:00:00:00:01:33", "addresses": []string{"10.9.1.51"}, "vtep": "100.96.0.2"})
		m.left.apply(other)
		nstest.Run(t, "ping", "-c3", "-i0.1", "-W5", "10.9.1.51")
		m.apply(1)
	})
	t.Run("without the tunnel", func(t *testing.T) {
		pids := strings.Fields(m.run("pidof", "selvedge-tunnel").Output)
		_ = m.right.conn.Close()
		m.run("kill", "-9", pids[0])
		nstest.Run(t, "ping", "-c5", "-i0.1", "-W5", "10.9.1.2")
		m.startRight()
		if changed := m.right.apply(m.desired(1, 1)).Changed; len(changed) != 1 || changed[0] != "engine kernel started" {
			t.Errorf("%v", changed)
		}
		nstest.Run(t, "ping", "-c2", "-i0.1", "-W5", "10.9.1.2")
	})
	t.Run("carried", m.carried)
	t.Run("rotation", m.rotation)
	t.Run("engine changed", func(t *testing.T) {
		for _, engine := range []string{"user", "kernel"} {
			d := m.desired(1, 1)
			d["wireguard"].(map[string]any)["engine"] = engine
			m.right.apply(d)
			var actual state.Actual
			m.right.must("actual", "{}", &actual)
			links := m.run("ip", "-br", "link").Output
			if kernel := engine == "kernel"; actual.WireGuard.Engine != engine || strings.Contains(links, "svx-") != kernel || strings.Contains(links, "svt-") == kernel {
				t.Errorf("%s: %+v\n%s", engine, actual.WireGuard, links)
			}
			// The other host finds out that its session is gone when it has heard nothing for 15 s.
			nstest.Run(t, "ping", "-c1", "-w40", "10.9.1.2")
		}
	})
	t.Run("close", func(t *testing.T) {
		m.right.must("close", "{}", nil)
		if links := m.run("ip", "-br", "link").Output; strings.Contains(links, "sv") {
			t.Error(links)
		}
	})
}

// tcp moves 16 MiB each way and compares.
func (m *mixed) tcp(t *testing.T) {
	blob := make([]byte, 16<<20)
	for i := range blob {
		blob[i] = byte(i * i >> 3)
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(blob))
	listener, err := net.Listen("tcp", "10.9.1.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			http.ServeContent(w, r, "blob", time.Time{}, bytes.NewReader(blob))
		}
	})}
	go server.Serve(listener)
	defer server.Close()
	began := time.Now()
	contains(t, m.run("sh", "-c", "wget -qO /run/blob http://10.9.1.1:8080/blob && sha256sum /run/blob").Output, sum)
	there := time.Since(began)

	m.run("&", "/bin/busybox", "httpd", "-f", "-p", "8081", "-h", "/run")
	var back []byte
	waitFor(t, func() bool {
		began = time.Now()
		response, err := http.Get("http://10.9.1.2:8081/blob")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		back, err = io.ReadAll(response.Body)
		return err == nil
	})
	if got := fmt.Sprintf("%x", sha256.Sum256(back)); got != sum {
		t.Errorf("%d bytes came back, of SHA-256 %s, expected %s", len(back), got, sum)
	}
	t.Logf("16 MiB to the guest in %v, back in %v", there, time.Since(began))
}

// carried joins the carry sockets of both, tells both to use them, and back.
func (m *mixed) carried(t *testing.T) {
	hello := func(conn net.Conn, err error, node string) net.Conn {
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := fmt.Fprintf(conn, `{"version":1,"node":%q}`+"\n", node); err != nil {
			t.Fatal(err)
		}
		ok := make([]byte, len(`{"ok":true}`)+1)
		if _, err := io.ReadFull(conn, ok); err != nil || string(ok) != `{"ok":true}`+"\n" {
			t.Fatalf("%s %v", ok, err)
		}
		return conn
	}
	conn, err := net.Dial("unix", m.tunnel.carry)
	left := hello(conn, err, "right")
	conn, err = net.Dial("tcp", guest.CarryAddress)
	right := hello(conn, err, "left")
	go io.Copy(left, right)
	go io.Copy(right, left)
	paths := func(path string) {
		m.left.must("path", fmt.Sprintf(`{"node":"right","path":%q}`, path), nil)
		m.right.must("path", fmt.Sprintf(`{"node":"left","path":%q}`, path), nil)
	}
	paths("carried")
	before := m.right.stats().Peers[0]
	nstest.Run(t, "ping", "-c10", "-i0.05", "-W5", "10.9.1.2")
	m.run("ping", "-c3", "-W5", "10.9.1.1")
	after := m.right.stats().Peers[0]
	if after.Path != "carried" || after.CarriedHeardMS == nil || after.RxBytes < before.RxBytes+1000 {
		t.Errorf("%+v", after)
	}
	paths("direct")
	nstest.Run(t, "ping", "-c10", "-i0.05", "-W5", "10.9.1.2")
	if after := m.right.stats().Peers[0]; after.Path != "direct" {
		t.Errorf("%+v", after)
	}
}

// rotation gives first the kernel host, then the user host, a new key, while pings go each way.
func (m *mixed) rotation(t *testing.T) {
	for who, name := range []string{"user host", "kernel host"} {
		old, fresh := m.keys[who], newPair(t)
		flood := exec.Command("ping", "-c600", "-i0.01", "-W3", "10.9.1.2")
		var out bytes.Buffer
		flood.Stdout = &out
		if err := flood.Start(); err != nil {
			t.Fatal(err)
		}
		both := func(privates []map[string]any, publics []string, port int) {
			clients := []*client{m.left, m.right}
			own, other := m.desired(who, 1), m.desired(1-who, 1)
			keys := []any{}
			for _, k := range privates {
				keys = append(keys, k)
			}
			own["wireguard"].(map[string]any)["keys"] = keys
			peer := other["peers"].([]any)[0].(map[string]any)
			peer["keys"], peer["endpoint"] = publics, map[string]any{"host": fmt.Sprintf("192.0.2.%d", who+1), "port": port}
			clients[who].apply(own)
			clients[1-who].apply(other)
		}
		oldOwn, freshOwn := map[string]any{"privateKey": old.private, "listenPort": 51820}, map[string]any{"privateKey": fresh.private, "listenPort": 51821}
		both([]map[string]any{freshOwn, oldOwn}, []string{fresh.public, old.public}, 51821)
		for _, c := range []*client{m.left, m.right} {
			waitFor(t, func() bool {
				s := c.stats()
				if who == 0 == (c == m.right) || len(s.Keys) < 2 {
					return s.Peers[0].PublicKey != nil && (who == 0) == (c == m.right) && s.Peers[0].PublicKey.String() == fresh.public || len(s.Keys) == 2
				}
				return s.Keys[0].LastUsedMS != nil
			})
		}
		both([]map[string]any{freshOwn}, []string{fresh.public}, 51821)
		_ = flood.Wait()
		summary := out.String()[strings.LastIndex(out.String(), "---"):]
		t.Logf("%s rotated: %s", name, strings.ReplaceAll(strings.TrimSpace(summary), "\n", " "))
		nstest.Run(t, "ping", "-c2", "-i0.1", "-W5", "10.9.1.2")
		m.keys[who], m.ports[who] = fresh, 51821
	}
}
