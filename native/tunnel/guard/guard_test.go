package guard

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"selvedge.dev/tunnel/internal/nstest"
	"selvedge.dev/tunnel/state"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func network(i int) state.Network {
	return state.Network{Name: fmt.Sprintf("net%d", i), Bridge: fmt.Sprintf("svb-%x", 1000+i), Addresses: prefixes(fmt.Sprintf("10.9.%d.2/24", i), fmt.Sprintf("fd00:%x::2/64", i+1))}
}

func answers(from, address string) bool {
	return exec.Command("ip", "netns", "exec", from, "ping", "-n", "-c", "1", "-W", "1", address).Run() == nil
}

// A host with networks 0 and 1, a stranger on its underlay, and a member on the bridge of network 0.
func TestAddressesAreReachedByTheirBridgeAlone(t *testing.T) {
	run := func(command string) { nstest.Run(t, strings.Fields(command)...) }
	nstest.Namespace(t, "stranger")
	nstest.Namespace(t, "member")
	run("ip link add under type veth peer name eth0 netns stranger")
	run("ip addr add 192.0.2.1/24 dev under")
	run("ip link set under up")
	for i := range 2 {
		n := network(i)
		run("ip link add " + n.Bridge + " type bridge")
		run("ip addr add " + n.Addresses[0].String() + " dev " + n.Bridge)
		run("ip addr add " + n.Addresses[1].String() + " dev " + n.Bridge + " nodad")
		run("ip link set " + n.Bridge + " up")
	}
	run("ip link add port type veth peer name eth0 netns member")
	run("ip link set port master svb-3e8 up")
	run("sysctl -qw net.ipv4.ip_forward=1")
	for namespace, commands := range map[string][]string{
		"stranger": {"addr add 192.0.2.2/24 dev eth0", "link set eth0 up", "route add 10.9.0.0/16 via 192.0.2.1"},
		"member":   {"addr add 10.9.0.3/24 dev eth0", "addr add fd00:1::3/64 dev eth0 nodad", "link set eth0 up", "route add 192.0.2.0/24 via 10.9.0.2"},
	} {
		for _, command := range commands {
			run("ip -n " + namespace + " " + command)
		}
	}
	if !answers("stranger", "10.9.0.2") || !answers("stranger", "10.9.0.3") {
		t.Fatal("without a guard a stranger reaches the host's address and the member behind it: else this test shows nothing")
	}

	g := New("edge/5c7f8766cca7")
	if err := g.Apply([]state.Network{network(0), network(1)}); err != nil {
		t.Fatal(err)
	}
	for address, wanted := range map[string]bool{"192.0.2.1": true, "10.9.0.2": false, "10.9.0.3": false, "10.9.1.2": false} {
		if answers("stranger", address) != wanted {
			t.Errorf("the stranger reaches %s: %v, wanted %v", address, !wanted, wanted)
		}
	}
	// Neither is a member of one network one of the other.
	for address, wanted := range map[string]bool{"10.9.0.2": true, "fd00:1::2": true, "10.9.1.2": false} {
		if answers("member", address) != wanted {
			t.Errorf("the member reaches %s: %v, wanted %v", address, !wanted, wanted)
		}
	}
	if exec.Command("ping", "-n", "-c", "1", "-W", "1", "10.9.0.2").Run() != nil {
		t.Error("the host does not reach its own address")
	}

	if err := g.Remove(); err != nil {
		t.Fatal(err)
	}
	if !answers("stranger", "10.9.0.2") || strings.Contains(nstest.Run(t, "nft", "list", "ruleset"), "selvedge") {
		t.Error("it left something behind")
	}
}

func TestManyNetworksAreOneTable(t *testing.T) {
	networks := make([]state.Network, 0, 200)
	for i := range 200 {
		networks = append(networks, network(i))
	}
	g := New("edge/5c7f8766cca7")
	for range 2 {
		if err := g.Apply(networks); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Count(nstest.Run(t, "nft", "list", "ruleset"), "jump svb-"); got != 400 {
		t.Errorf("%d subnets guarded, wanted 400", got)
	}
	if err := g.Remove(); err != nil {
		t.Fatal(err)
	}
}

func TestEndOfThePrefix(t *testing.T) {
	for prefix, want := range map[string]string{"10.9.0.0/24": "10.9.1.0", "10.255.255.0/24": "11.0.0.0", "fd00::/64": "fd00:0:0:1::"} {
		if got := endOf(netip.MustParsePrefix(prefix)); got.String() != want {
			t.Errorf("%s ends before %s, wanted %s", prefix, got, want)
		}
	}
	if endOf(netip.MustParsePrefix("255.255.255.0/24")).IsValid() {
		t.Error("behind the last address there is none")
	}
}
