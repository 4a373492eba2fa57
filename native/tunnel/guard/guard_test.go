package guard

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"selvedge.dev/tunnel/internal/nstest"
	"selvedge.dev/tunnel/state"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func network(i int) state.Network {
	return state.Network{Name: fmt.Sprintf("net%d", i), Bridge: fmt.Sprintf("svb-%x", 1000+i),
		Addresses: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.9.%d.2/24", i)), netip.MustParsePrefix(fmt.Sprintf("fd00:%x::2/64", i))}}
}

func pings(from, to string) bool {
	return exec.Command("ip", "netns", "exec", from, "ping", "-c1", "-W1", to).Run() == nil
}

func TestANeighbourReachesAHostsAppAddressOnlyOverTheNetwork(t *testing.T) {
	for _, name := range []string{"neighbour", "member"} {
		nstest.Namespace(t, name)
	}
	nstest.Run(t, "ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan0", "netns", "neighbour")
	nstest.Run(t, "ip", "link", "add", "svb-3e9", "type", "bridge")
	nstest.Run(t, "ip", "link", "add", "svv-1", "type", "veth", "peer", "name", "shop0", "netns", "member")
	nstest.Run(t, "ip", "link", "set", "svv-1", "master", "svb-3e9")
	for _, command := range []string{
		"ip addr add 192.0.2.1/24 dev lan0", "ip addr add 2001:db8::1/64 dev lan0 nodad", "ip link set lan0 up",
		"ip addr add 10.9.1.2/24 dev svb-3e9", "ip addr add fd00:1::2/64 dev svb-3e9 nodad", "ip link set svb-3e9 up", "ip link set svv-1 up",
		"ip -n neighbour addr add 192.0.2.2/24 dev lan0", "ip -n neighbour addr add 2001:db8::2/64 dev lan0 nodad", "ip -n neighbour link set lan0 up",
		"ip -n neighbour route add 10.9.1.0/24 via 192.0.2.1", "ip -n neighbour route add fd00:1::/64 via 2001:db8::1",
		"ip -n member addr add 10.9.1.5/24 dev shop0", "ip -n member addr add fd00:1::5/64 dev shop0 nodad", "ip -n member link set shop0 up",
	} {
		nstest.Run(t, strings.Fields(command)...)
	}
	own := []string{"10.9.1.2", "fd00:1::2"}
	for _, address := range own {
		if !pings("neighbour", address) {
			t.Fatalf("%s: without a guard a neighbour reaches it, else this test shows nothing", address)
		}
	}
	g := New("edge/here")
	if err := g.Apply([]state.Network{network(1)}); err != nil {
		t.Fatal(err)
	}
	for _, address := range own {
		if pings("neighbour", address) {
			t.Errorf("a neighbour reaches %s", address)
		}
		if !pings("member", address) {
			t.Errorf("a member does not reach %s", address)
		}
		nstest.Run(t, "ping", "-c1", "-W1", address)
	}
	if !pings("neighbour", "192.0.2.1") {
		t.Error("the host's other addresses are nobody's business")
	}
	// The next tunnel knows nothing of the table, and replaces it.
	next := New("edge/here")
	for range 2 {
		if err := next.Apply([]state.Network{network(1), network(2)}); err != nil {
			t.Fatal(err)
		}
	}
	if pings("neighbour", own[0]) || !pings("member", own[0]) {
		t.Error("after a restart")
	}
	if err := next.Apply(nil); err != nil {
		t.Fatal(err)
	}
	if rules := nstest.Run(t, "nft", "list", "ruleset"); rules != "" {
		t.Errorf("left behind:\n%s", rules)
	}
}

func TestOverlappingAndNeighbouringSubnetsAreOneTable(t *testing.T) {
	g := New("edge/here")
	var many []state.Network
	for i := range 250 {
		many = append(many, network(i))
	}
	wide := network(251)
	wide.Addresses = []netip.Prefix{netip.MustParsePrefix("10.9.0.9/16")}
	began := time.Now()
	if err := g.Apply(append(many, wide)); err != nil {
		t.Fatal(err)
	}
	t.Logf("250 networks in %v", time.Since(began))
	if err := g.Apply(nil); err != nil {
		t.Fatal(err)
	}
}
