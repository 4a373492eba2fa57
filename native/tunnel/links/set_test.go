package links

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"selvedge.dev/tunnel/internal/nstest"
	"selvedge.dev/tunnel/state"
)

func TestMain(m *testing.M) { nstest.Main(m) }

const owner = "edge/5c7f8766cca7"

func open(t *testing.T) *Set {
	t.Helper()
	set, err := Open(owner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		set.RemoveAll()
		set.Close()
	})
	return set
}

func network(i int) state.Network {
	return state.Network{
		Name: fmt.Sprintf("net%d", i), VNI: uint32(1000 + i), Bridge: fmt.Sprintf("svb-%x", 1000+i), TAP: fmt.Sprintf("svt-%x", 1000+i), MTU: 1370,
		MAC:       state.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)},
		Addresses: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.2/24", 9+i/250, i%250)), netip.MustParsePrefix(fmt.Sprintf("fd00:%x::2/64", i))},
	}
}

func desired(networks ...state.Network) *state.Desired {
	return &state.Desired{Owner: owner, Networks: networks}
}

func ensure(t *testing.T, set *Set, d *state.Desired) Outcome {
	t.Helper()
	out := set.Ensure(d, true)
	if len(out.Failures) > 0 {
		t.Fatalf("failures: %v", out.Failures)
	}
	pruned := set.Prune(d, true)
	if len(pruned.Failures) > 0 {
		t.Fatalf("failures: %v", pruned.Failures)
	}
	out.Changed = append(out.Changed, pruned.Changed...)
	return out
}

func unchanged(t *testing.T, set *Set, d *state.Desired) {
	t.Helper()
	if out := ensure(t, set, d); len(out.Changed) > 0 {
		t.Errorf("changed although all was as desired: %v", out.Changed)
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

func failure(t *testing.T, out Outcome, code state.Code, what string, parts ...string) {
	t.Helper()
	for _, f := range out.Failures {
		if f.Code == code && f.What == what {
			contains(t, f.Why, parts...)
			if f.Remedy == "" {
				t.Errorf("%v has no remedy", f.Code)
			}
			return
		}
	}
	t.Errorf("no failure %s of %s in %v", code, what, out.Failures)
}

func TestANetworkHasABridgeATAPAndAddresses(t *testing.T) {
	set, d := open(t), desired(network(1))
	ensure(t, set, d)
	contains(t, nstest.Run(t, "ip", "-d", "link", "show", "svb-3e9"), "mtu 1370", "02:00:00:00:00:01", "alias selvedge "+owner+" net1", "state UP")
	contains(t, nstest.Run(t, "ip", "-d", "link", "show", "svt-3e9"), "tun type tap", "vnet_hdr on", "master svb-3e9", "mtu 1370", "alias selvedge "+owner+" net1", "addrgenmode none")
	contains(t, nstest.Run(t, "ip", "addr", "show", "dev", "svb-3e9"), "10.9.1.2/24", "fd00:1::2/64")
	if set.TAPs()["net1"] == nil {
		t.Error("the TAP is not handed out")
	}
	unchanged(t, set, d)
}

func TestOnlyWhatDiffersIsChanged(t *testing.T) {
	set, d := open(t), desired(network(1), network(2))
	ensure(t, set, d)
	kept := set.TAPs()["net2"]
	d.Networks[0].MTU = 1390
	d.Networks[0].MAC[1] = 7
	d.Networks[0].Addresses = d.Networks[0].Addresses[:1]
	d.Networks[0].Addresses[0] = netip.MustParsePrefix("10.9.1.9/24")
	out := ensure(t, set, d)
	contains(t, strings.Join(out.Changed, "\n"), "svb-3e9 has MTU 1390", "svt-3e9 has MTU 1390", "svb-3e9 has 10.9.1.9/24", "10.9.1.2/24 no more", "fd00:1::2/64 no more", "02:07:00:00:00:01")
	for _, change := range out.Changed {
		if strings.Contains(change, "3ea") {
			t.Errorf("the other network was touched: %s", change)
		}
	}
	if set.TAPs()["net2"] != kept {
		t.Error("the other network's TAP was opened again")
	}
	unchanged(t, set, d)
}

func TestANetworkThatIsNotDesiredAnyMoreGoes(t *testing.T) {
	set := open(t)
	ensure(t, set, desired(network(1), network(2)))
	ensure(t, set, desired(network(2)))
	if out := nstest.Run(t, "ip", "-br", "link"); strings.Contains(out, "3e9") || !strings.Contains(out, "svb-3ea") {
		t.Error(out)
	}
}

func TestANameMayMoveFromOneNetworkToAnother(t *testing.T) {
	set := open(t)
	ensure(t, set, desired(network(1)))
	other := network(2)
	other.Bridge, other.TAP = "svb-3e9", "svt-3e9"
	ensure(t, set, desired(other))
	contains(t, nstest.Run(t, "ip", "link", "show", "svt-3e9"), "alias selvedge "+owner+" net2")
	unchanged(t, set, desired(other))
}

func TestTheNextTunnelAdoptsWhatIsThere(t *testing.T) {
	set, d := open(t), desired(network(1))
	ensure(t, set, d)
	before := nstest.Run(t, "ip", "-br", "link")
	set.Close()
	next := open(t)
	out := ensure(t, next, d)
	if len(out.Changed) != 1 || out.Changed[0] != "svt-3e9 adopted" {
		t.Errorf("adoption changed: %v", out.Changed)
	}
	if index := func(text string) string { return strings.Fields(text)[0] }; index(before) != index(nstest.Run(t, "ip", "-br", "link")) {
		t.Error("devices were made anew")
	}
	if stray := next.RemoveAll(); len(stray.Failures) > 0 {
		t.Error(stray.Failures)
	}
	if out := nstest.Run(t, "ip", "-br", "link"); strings.Contains(out, "sv") {
		t.Errorf("left behind:\n%s", out)
	}
}

func TestATAPHeldByAnotherTunnelIsNamed(t *testing.T) {
	set, d := open(t), desired(network(1))
	ensure(t, set, d)
	failure(t, open(t).Ensure(d, true), state.CodeStateInUse, "network net1", "svt-3e9", "another process")
}

func TestAForeignDeviceIsRefusedAndNeverTouched(t *testing.T) {
	for _, c := range []struct{ name, alias, why string }{
		{"svb-3e9", "", "no mark"},
		{"svt-3e9", "", "no mark"},
		{"svb-3e9", "selvedge other/123 net1", "other/123"},
		{"svb-3e9", "uplink of somebody", "no mark"},
	} {
		t.Run(c.name+c.alias, func(t *testing.T) {
			nstest.Run(t, "ip", "link", "add", c.name, "type", "bridge")
			defer nstest.Run(t, "ip", "link", "del", c.name)
			nstest.Run(t, "ip", "link", "set", c.name, "alias", c.alias, "mtu", "1234")
			before := nstest.Run(t, "ip", "-d", "addr", "show", c.name)
			set := open(t)
			out := set.Ensure(desired(network(1), network(2)), true)
			failure(t, out, state.CodeDeviceForeign, "network net1", c.name, "bridge", c.why)
			if !out.Broken["net1"] || out.Broken["net2"] {
				t.Errorf("broken: %v", out.Broken)
			}
			set.Prune(desired(), true)
			if after := nstest.Run(t, "ip", "-d", "addr", "show", c.name); after != before {
				t.Errorf("touched:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

func TestADeviceLeftHalfMadeIsMadeAnew(t *testing.T) {
	nstest.Run(t, "ip", "link", "add", "svb-3e9", "group", fmt.Sprint(deviceGroup), "type", "bridge")
	set := open(t)
	ensure(t, set, desired(network(1)))
}

func TestAnAddressInUseIsNamedWithItsInterface(t *testing.T) {
	nstest.Run(t, "ip", "link", "add", "uplink0", "type", "bridge")
	defer nstest.Run(t, "ip", "link", "del", "uplink0")
	nstest.Run(t, "ip", "addr", "add", "10.9.1.77/32", "dev", "uplink0")
	set := open(t)
	out := set.Ensure(desired(network(1)), true)
	failure(t, out, state.CodeAddressInUse, "network net1", "10.9.1.2/24", "uplink0")
	if out.Broken["net1"] {
		t.Error("the network carries its attachments all the same")
	}
	contains(t, nstest.Run(t, "ip", "addr", "show", "dev", "svb-3e9"), "fd00:1::2/64")
}

func TestIPv6BelowItsLeastMTUIsNamed(t *testing.T) {
	n := network(1)
	n.MTU = 1150
	out := open(t).Ensure(desired(n), true)
	failure(t, out, state.CodeUnsupported, "network net1", "fd00:1::2/64", "1280", "1150")
}

func attachment(i int, ns string) state.Attachment {
	return state.Attachment{Name: fmt.Sprintf("web%d", i), Namespace: ns, Interface: "shop0", MAC: state.MAC{2, 1, 0, 0, 0, byte(i)}, Host: fmt.Sprintf("svv-%d", i),
		Addresses: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.9.1.%d/24", 10+i)), netip.MustParsePrefix(fmt.Sprintf("fd00:1::%x/64", 16+i))}}
}

func TestAnAttachmentIsAnInterfaceInItsNamespace(t *testing.T) {
	set, n := open(t), network(1)
	n.Attachments = []state.Attachment{attachment(1, nstest.Namespace(t, "web1")), attachment(2, nstest.Namespace(t, "web2"))}
	d := desired(n)
	ensure(t, set, d)
	contains(t, nstest.Run(t, "ip", "-n", "web1", "addr", "show", "shop0"), "02:01:00:00:00:01", "mtu 1370", "10.9.1.11/24", "fd00:1::11/64", "state UP")
	contains(t, nstest.Run(t, "ip", "link", "show", "svv-1"), "alias selvedge "+owner+" net1/web1", "master svb-3e9")
	nstest.Run(t, "ip", "netns", "exec", "web1", "ping", "-c1", "-W2", "10.9.1.12")
	nstest.Run(t, "ip", "netns", "exec", "web1", "ping", "-c1", "-W2", "fd00:1::12")
	nstest.Run(t, "ping", "-c1", "-W2", "10.9.1.11")
	unchanged(t, set, d)

	d.Networks[0].MTU = 1400
	d.Networks[0].Attachments = d.Networks[0].Attachments[:1]
	contains(t, strings.Join(ensure(t, set, d).Changed, "\n"), "shop0 of /run/netns/web1 has MTU 1400", "svv-2 removed")
	if out := nstest.Run(t, "ip", "-n", "web2", "-br", "link"); strings.Contains(out, "shop0") {
		t.Error(out)
	}
}

func TestAnAttachmentMayBeNamedByAProcess(t *testing.T) {
	nstest.Namespace(t, "box")
	sleeper := exec.Command("ip", "netns", "exec", "box", "sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = sleeper.Process.Kill()
		_ = sleeper.Wait()
	}()
	own, _ := os.Readlink("/proc/self/ns/net")
	link := fmt.Sprintf("/proc/%d/ns/net", sleeper.Process.Pid)
	waitFor(t, func() bool { there, err := os.Readlink(link); return err == nil && there != own })
	set, n := open(t), network(1)
	n.Attachments = []state.Attachment{attachment(1, fmt.Sprintf("pid:%d", sleeper.Process.Pid))}
	ensure(t, set, desired(n))
	contains(t, nstest.Run(t, "ip", "-n", "box", "addr", "show", "shop0"), "10.9.1.11/24")
}

func TestAContainerThatCameBackIsAttachedAgain(t *testing.T) {
	set, n := open(t), network(1)
	n.Attachments = []state.Attachment{attachment(1, nstest.Namespace(t, "web1"))}
	d := desired(n)
	ensure(t, set, d)
	nstest.Run(t, "ip", "netns", "del", "web1")
	waitFor(t, func() bool { return exec.Command("ip", "link", "show", "svv-1").Run() != nil })
	failure(t, set.Ensure(d, true), state.CodeNamespaceMissing, "attachment net1/web1", "/run/netns/web1")
	nstest.Namespace(t, "web1")
	ensure(t, set, d)
	contains(t, nstest.Run(t, "ip", "-n", "web1", "addr", "show", "shop0"), "10.9.1.11/24")
}

func TestWhatAnAttachmentMeetsIsNamed(t *testing.T) {
	ns := nstest.Namespace(t, "web1")
	nstest.Run(t, "ip", "-n", "web1", "link", "add", "shop0", "type", "bridge")
	file := t.TempDir() + "/plain"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	set := open(t)
	for _, c := range []struct {
		ns, why string
		code    state.Code
	}{
		{ns, "shop0", state.CodeDeviceForeign},
		{file, "not a network namespace", state.CodeNamespaceMissing},
		{"pid:4194304", "pid:4194304", state.CodeNamespaceMissing},
		{"/proc/self/ns/net", "host's own", state.CodeRequestInvalid},
	} {
		n := network(1)
		n.Attachments = []state.Attachment{attachment(1, c.ns)}
		failure(t, set.Ensure(desired(n), true), c.code, "attachment net1/web1", c.why)
	}
	contains(t, nstest.Run(t, "ip", "-n", "web1", "-d", "link", "show", "shop0"), "bridge")
}

func TestTwoHundredNetworksAreMade(t *testing.T) {
	d := desired()
	for i := range 200 {
		d.Networks = append(d.Networks, network(i+1))
	}
	set := open(t)
	began := time.Now()
	ensure(t, set, d)
	made := time.Since(began)
	began = time.Now()
	unchanged(t, set, d)
	t.Logf("200 networks: made in %v, looked at again in %v", made, time.Since(began))
	// Told, not judged: machines differ. Only what grows with the square of the networks would take so long.
	if made > time.Minute {
		t.Errorf("%v", made)
	}
}

func waitFor(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to hold within 5 s")
		}
	}
}
