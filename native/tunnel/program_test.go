package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"selvedge.dev/tunnel/internal/nstest"
	"selvedge.dev/tunnel/state"
)

func TestTwoHostsShareANetwork(t *testing.T) {
	h := newHosts(t)
	tunnels, clients := h.both(1)
	h.ping("10.9.1.2")
	h.ping("fd00:1::2")

	var actual state.Actual
	clients[0].must("actual", "{}", &actual)
	n, p := actual.Networks[0], actual.Peers[0]
	if n.Name != "net1" || n.VNI != 1001 || n.MTU != 1390 || n.Bridge != "svb-3e9" || n.BridgeIndex == 0 || n.PortIndex == 0 || n.Remotes != 1 || len(n.Addresses) != 2 {
		t.Errorf("%+v", n)
	}
	if p.Underlay == nil || p.Underlay.Interface != "up0" || p.Underlay.MTU != 1500 || p.Endpoint == nil {
		t.Errorf("%+v", p)
	}
	if *actual.Generation != 1 || actual.WireGuard.Devices[0].PublicKey.String() != h.keys[0].public || actual.WireGuard.Why == "" {
		t.Errorf("%+v", actual.WireGuard)
	}
	s := clients[0].stats()
	if len(s.Peers) != 1 || s.Peers[0].LatestHandshakeMS == nil || s.Peers[0].RxBytes == 0 || s.Networks[0].RxPackets == 0 {
		t.Errorf("%+v", s)
	}
	var pong struct {
		RTTMS float64 `json:"rtt_ms"`
	}
	clients[0].must("ping", `{"network":"net1","address":"10.9.1.2","timeout_ms":3000}`, &pong)
	if pong.RTTMS <= 0 {
		t.Errorf("%+v", pong)
	}
	clients[0].refused(state.CodeTimeout, "ping", `{"network":"net1","address":"10.9.1.99","timeout_ms":50}`)
	clients[0].refused(state.CodeNotFound, "ping", `{"network":"other","address":"10.9.1.2"}`)
	clients[0].refused(state.CodeNotFound, "path", `{"node":"nobody","path":"direct"}`)

	var out, problems bytes.Buffer
	if code := command([]string{"status", "--socket", tunnels[0].socket}, &out, &problems); code != 0 {
		t.Fatal(problems.String())
	}
	contains(t, out.String(), "net1", "VNI 1001", "MTU 1390", "right", "192.0.2.2:51820", h.keys[0].public)
	for i := range tunnels {
		log, _ := os.ReadFile(tunnels[i].log)
		everything := out.String() + string(log) + string(clients[i].call("actual", "{}").Result) + string(clients[i].call("stats", "{}").Result)
		if strings.Contains(everything, h.keys[i].private) {
			t.Error("a private key came out")
		}
	}
}

func TestWgShowReadsTheDeviceAndChangesNothing(t *testing.T) {
	h := newHosts(t)
	h.both(1)
	h.ping("10.9.1.2")
	// Both hosts share this file system, so the second has the next name.
	for i, name := range []string{"svw-51820", "svw-51820-1"} {
		shown := nstest.Run(t, "wg", "show", name)
		contains(t, shown, "listening port: 51820", "peer: "+h.keys[1-i].public, fmt.Sprintf("endpoint: 192.0.2.%d:51820", 2-i), fmt.Sprintf("allowed ips: 100.96.0.%d/32", 2-i), "latest handshake", "transfer")
		if dump := nstest.Run(t, "wg", "showconf", name); strings.Contains(dump, "PrivateKey") {
			t.Error("the private key came out")
		}
		if err := exec.Command("wg", "set", name, "fwmark", "7").Run(); err == nil {
			t.Error("wg set changed the device")
		}
	}
}

func TestATunnelThatWasKilledIsFollowedByOneThatAdoptsItsDevices(t *testing.T) {
	h := newHosts(t)
	tunnels, clients := h.both(1, 2)
	h.ping("10.9.1.2")
	before := nstest.Run(t, "ip", "-n", "left", "-o", "link")
	tunnels[0].kill()
	next := h.start(0)
	c := next.connect()
	var actual state.Actual
	c.must("actual", "{}", &actual)
	if actual.Generation != nil || len(actual.Networks) != 2 || actual.Networks[0].Bridge != "svb-3e9" {
		t.Errorf("before the first apply: %+v", actual)
	}
	changed := strings.Join(c.apply(h.desired(0, 1, 2)).Changed, "; ")
	if changed != "engine user started; svt-3e9 adopted; svt-3ea adopted" {
		t.Error(changed)
	}
	names := regexp.MustCompile(`(?m)^\d+: \S+`)
	if after := nstest.Run(t, "ip", "-n", "left", "-o", "link"); fmt.Sprint(names.FindAllString(after, -1)) != fmt.Sprint(names.FindAllString(before, -1)) {
		t.Errorf("devices were made anew:\n%s\nbefore:\n%s", after, before)
	}
	h.ping("10.9.1.2")
	_ = clients
}

func TestADaemonThatComesBackFindsEverythingInPlace(t *testing.T) {
	h := newHosts(t)
	tunnels, clients := h.both(1)
	_ = clients[0].conn.Close()
	h.ping("10.9.1.2")
	c := tunnels[0].dial()
	var hello struct {
		Engine     string   `json:"engine"`
		Generation uint64   `json:"generation"`
		Features   []string `json:"features"`
	}
	c.must("hello", `{"version":1}`, &hello)
	if hello.Engine != "user" || hello.Generation != 1 {
		t.Errorf("%+v", hello)
	}
	again := h.desired(0, 1)
	again["generation"] = 2
	if a := c.apply(again); len(a.Changed) != 0 || a.Generation != 2 {
		t.Errorf("%+v", a)
	}
}

func TestWhatHasNotChangedLosesNoPacket(t *testing.T) {
	h := newHosts(t)
	_, clients := h.both(1, 2)
	h.ping("10.9.1.2")
	flood := exec.Command("ip", "netns", "exec", "left", "ping", "-c300", "-i0.005", "-W3", "10.9.1.2")
	var out bytes.Buffer
	flood.Stdout = &out
	if err := flood.Start(); err != nil {
		t.Fatal(err)
	}
	applies := 0
	done := make(chan error, 1)
	go func() { done <- flood.Wait() }()
	for running := true; running; applies++ {
		select {
		case <-done:
			running = false
		default:
			networks := [][]int{{1, 2, 3}, {1}, {1, 4}}[applies%3]
			clients[0].apply(h.desired(0, networks...))
		}
	}
	if !strings.Contains(out.String(), "300 received") {
		t.Error(out.String())
	}
	t.Logf("%d changes of other networks meanwhile", applies)
}

func TestAChangeOfTheUnderlaysMTUIsTold(t *testing.T) {
	h := newHosts(t)
	_, clients := h.both(1)
	h.ping("10.9.1.2")
	var first state.Actual
	clients[0].must("actual", "{}", &first)
	waitFor(t, func() bool {
		// The way is known once it has been looked at; any change of a link makes the tunnel look.
		nstest.Run(t, "ip", "-n", "left", "link", "set", "lo", "mtu", fmt.Sprint(60000+time.Now().Nanosecond()%1000))
		nstest.Run(t, "ip", "-n", "left", "link", "set", "up0", "mtu", fmt.Sprint(1400+time.Now().Nanosecond()%2))
		_ = clients[0].call("stats", "{}")
		for _, e := range clients[0].events {
			if e.Event == state.EventUnderlay {
				return true
			}
		}
		return false
	})
	clients[0].waitEvent(state.EventUnderlay, func(data json.RawMessage) bool {
		var e state.UnderlayEvent
		return json.Unmarshal(data, &e) == nil && e.Node == "right" && (e.Underlay.MTU == 1400 || e.Underlay.MTU == 1401)
	})
}

func TestTwoHundredNetworksOfFiftyPeersAreApplied(t *testing.T) {
	namespace := "many"
	nstest.Namespace(t, namespace)
	u := start(t, namespace, t.TempDir())
	c := u.connect()
	d := many(t, 200, 50)
	began := time.Now()
	c.apply(d)
	took := time.Since(began)
	began = time.Now()
	d["generation"] = 2
	if a := c.apply(d); len(a.Changed) > 0 {
		t.Errorf("%v", a.Changed)
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", u.process.Process.Pid))
	t.Logf("200 networks of 50 peers: applied in %v, again in %v; %s", took, time.Since(began), regexp.MustCompile(`VmRSS:.*`).Find(status))
	// Told, not judged: machines differ. Only what grows with the square of the networks would take so long.
	if took > time.Minute {
		t.Errorf("%v", took)
	}
}

// many is a state of many networks that all peers share.
func many(t *testing.T, networks, peers int) map[string]any {
	h := &hosts{t: t, names: [2]string{"many", "peer"}, keys: [2]pair{newPair(t), newPair(t)}, ports: [2]int{51820, 51820}}
	d := h.desired(0)
	vtep := func(p int) string { return fmt.Sprintf("100.96.1.%d", p+1) }
	all, nets := []any{}, []any{}
	for p := range peers {
		all = append(all, map[string]any{"node": fmt.Sprintf("node%d", p), "vtep": vtep(p), "keys": []string{newPair(t).public}, "endpoint": map[string]any{"host": "127.0.0.1", "port": 9}, "path": "direct", "keepalive_s": 0})
	}
	for n := range networks {
		network := networkOf(n, 0, 1)
		remotes := []any{}
		for p := range peers {
			remotes = append(remotes, map[string]any{"mac": fmt.Sprintf("02:00:01:00:%02x:%02x", n, p), "addresses": []string{fmt.Sprintf("10.9.%d.%d", n, p+10), fmt.Sprintf("fd00:%x::%x", n, p+10)}, "vtep": vtep(p)})
		}
		network["remote"] = remotes
		nets = append(nets, network)
	}
	d["peers"], d["networks"] = all, nets
	return d
}

func TestCloseRemovesExactlyWhatTheTunnelMade(t *testing.T) {
	h := newHosts(t)
	nstest.Run(t, "ip", "-n", "left", "link", "add", "svb-foreign", "type", "bridge")
	before := nstest.Run(t, "ip", "-n", "left", "-br", "link")
	u := h.start(0)
	c := u.connect()
	c.apply(h.desired(0, 1, 2))
	contains(t, nstest.Run(t, "ip", "netns", "exec", "left", "nft", "list", "ruleset"), "10.9.1.0/24 : jump svb-3e9", "10.9.2.0/24 : jump svb-3ea")
	c.must("close", "{}", nil)
	if err := u.wait(); err != nil {
		t.Error(err)
	}
	if after := nstest.Run(t, "ip", "-n", "left", "-br", "link"); after != before {
		t.Errorf("%s\nbefore:\n%s", after, before)
	}
	if rules := nstest.Run(t, "ip", "netns", "exec", "left", "nft", "list", "ruleset"); rules != "" {
		t.Errorf("rules are left behind:\n%s", rules)
	}
	for _, path := range []string{u.socket, u.carry, "/run/wireguard/svw-51820.sock"} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is left behind", path)
		}
	}
}

func TestATunnelThatIsTerminatedLeavesDevicesAndNoSockets(t *testing.T) {
	h := newHosts(t)
	u := h.start(0)
	u.connect().apply(h.desired(0, 1))
	if err := u.terminate(); err != nil {
		t.Error(err)
	}
	contains(t, nstest.Run(t, "ip", "-n", "left", "-br", "link"), "svb-3e9", "svt-3e9")
	for _, path := range []string{u.socket, u.carry, "/run/wireguard/svw-51820.sock"} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is left behind", path)
		}
	}
}

func TestAForeignDeviceIsNamedAndTheOtherNetworksWork(t *testing.T) {
	h := newHosts(t)
	nstest.Run(t, "ip", "-n", "left", "link", "add", "svb-3e9", "type", "bridge")
	u, v := h.start(0), h.start(1)
	a := u.connect().tryApply(h.desired(0, 1, 2))
	v.connect().apply(h.desired(1, 1, 2))
	if len(a.Failures) != 1 || a.Failures[0].Code != state.CodeDeviceForeign || a.Failures[0].What != "network net1" {
		t.Errorf("%+v", a.Failures)
	}
	h.ping("10.9.2.2")
}

func TestAnotherOwnerIsRefused(t *testing.T) {
	h := newHosts(t)
	c := h.start(0).connect()
	c.apply(h.desired(0, 1))
	other := h.desired(0, 1)
	other["owner"] = "edge/other"
	if a := c.tryApply(other); len(a.Failures) != 1 || a.Failures[0].Code != state.CodeStateInUse {
		t.Errorf("%+v", a)
	}
}

func TestTheKernelEngineIsRefusedWhereTheKernelHasNoWireGuard(t *testing.T) {
	if exec.Command("ip", "link", "add", "trial", "type", "wireguard").Run() == nil {
		nstest.Run(t, "ip", "link", "del", "trial")
		t.Skip("this kernel has WireGuard; native/tunnel/guest shows that engine")
	}
	h := newHosts(t)
	d := h.desired(0, 1)
	d["wireguard"].(map[string]any)["engine"] = "kernel"
	a := h.start(0).connect().tryApply(d)
	if len(a.Failures) != 1 || a.Failures[0].Code != state.CodeUnsupported || a.Failures[0].Remedy == "" {
		t.Errorf("%+v", a)
	}
}

func TestAMissingTunDeviceIsNamed(t *testing.T) {
	nstest.Run(t, "mount", "-t", "tmpfs", "none", "/dev/net")
	defer nstest.Run(t, "umount", "/dev/net")
	h := newHosts(t)
	d := h.desired(0, 1)
	d["wireguard"].(map[string]any)["engine"] = "user"
	a := h.start(0).connect().tryApply(d)
	if len(a.Failures) != 1 || a.Failures[0].Code != state.CodeUnsupported {
		t.Fatalf("%+v", a)
	}
	contains(t, a.Failures[0].Why, "/dev/net/tun", "--device")
}

func TestAMissingCapabilityIsNamed(t *testing.T) {
	run := program(t.Context(), "", "run", "--socket", filepath.Join(t.TempDir(), "s"), "--carry", filepath.Join(t.TempDir(), "c"))
	run.Path, run.Args = "/usr/bin/setpriv", append([]string{"setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"}, run.Args...)
	out, err := run.CombinedOutput()
	if err == nil {
		t.Error("it ran")
	}
	contains(t, string(out), "CAP_NET_ADMIN", "permission_denied", "as root")
}

func TestSecretsStayOutOfCoreDumps(t *testing.T) {
	u := start(t, "", t.TempDir())
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", u.process.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`Max core file size\s+0\s+0`).Match(limits) {
		t.Error(string(limits))
	}
}

func TestTheCommandLineHelpsAndRefuses(t *testing.T) {
	manifest, err := os.ReadFile("../../package.json")
	if err != nil {
		t.Fatal(err)
	}
	var product struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(manifest, &product); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		arguments, out, problems string
		code                     int
	}{
		{"--version", "selvedge-tunnel " + product.Version, "", 0},
		{"version", "selvedge-tunnel " + product.Version, "", 0},
		{"--help", "Usage:", "", 0},
		{"run --help", "Usage:", "", 0},
		{"", "Usage:", "", 0},
		{"dance", "", "argument_invalid", 2},
		{"run --port 7", "", "argument_invalid", 2},
		{"status extra", "", "argument_invalid", 2},
		{"status --socket /nowhere/t.sock", "", "no tunnel answers", 1},
		{"run --socket relative.sock", "", "absolute", 2},
		{"run --socket /" + strings.Repeat("x", 120), "", "107 bytes", 2},
	} {
		t.Run(c.arguments, func(t *testing.T) {
			run := program(t.Context(), "", strings.Fields(c.arguments)...)
			var out, problems bytes.Buffer
			run.Stdout, run.Stderr = &out, &problems
			_ = run.Run()
			if code := run.ProcessState.ExitCode(); code != c.code {
				t.Errorf("exit code %s, expected %s\n%s", strconv.Itoa(code), strconv.Itoa(c.code), problems.String())
			}
			contains(t, out.String(), c.out)
			contains(t, problems.String(), c.problems)
		})
	}
}
