package state

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

var (
	privateText = base64.StdEncoding.EncodeToString([]byte(strings.Repeat("p", 32)))
	publicText  = base64.StdEncoding.EncodeToString([]byte(strings.Repeat("q", 32)))
)

// example is a state with one of everything.
func example() map[string]any {
	return map[string]any{
		"generation": 8, "owner": "edge/5c7f8766cca7",
		"wireguard": map[string]any{"engine": "auto", "keys": []any{map[string]any{"privateKey": privateText, "listenPort": 51820}}, "fwmark": 0, "vtep": "100.96.0.1"},
		"peers":     []any{map[string]any{"node": "n2", "vtep": "100.96.0.2", "keys": []any{publicText}, "endpoint": map[string]any{"host": "10.0.0.2", "port": 51820}, "path": "direct", "keepalive_s": 25}},
		"networks": []any{map[string]any{
			"name": "shop", "vni": 1001, "bridge": "svb-3e9", "tap": "svt-3e9", "mtu": 1370, "mac": "02:00:00:00:00:01", "addresses": []any{"10.9.0.2/24", "fd00::2/64"}, "learning": false, "broadcast_pps": 200,
			"remote":      []any{map[string]any{"mac": "02:00:00:00:00:03", "addresses": []any{"10.9.0.3"}, "vtep": "100.96.0.2"}},
			"local":       []any{map[string]any{"mac": "02:00:00:00:00:01", "addresses": []any{"10.9.0.2"}}},
			"attachments": []any{map[string]any{"name": "web", "netns": "/run/netns/web", "interface": "shop0", "mac": "02:00:00:00:00:05", "addresses": []any{"10.9.0.5/24"}, "host": "svv-1"}},
		}},
	}
}

func decode(t testing.TB, value any) (*Desired, error) {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return Decode(text)
}

// set puts a value at a path of keys and indexes.
func set(root any, path string, value any) {
	steps := strings.Split(path, ".")
	for i, step := range steps {
		last := i == len(steps)-1
		switch at := root.(type) {
		case map[string]any:
			if last {
				at[step] = value
			}
			root = at[step]
		case []any:
			if last {
				at[0] = value
			}
			root = at[0]
		}
	}
}

func TestAStateIsReadWhole(t *testing.T) {
	d, err := decode(t, example())
	if err != nil {
		t.Fatal(err)
	}
	if d.Networks[0].Attachments[0].Host != "svv-1" || d.Peers[0].Endpoint.AddrPort().String() != "10.0.0.2:51820" || d.Peers[0].Keys[0].String() != publicText {
		t.Errorf("%+v", d)
	}
	if _, err := decode(t, map[string]any{"generation": 1, "owner": "edge/1", "wireguard": map[string]any{"engine": "auto"}}); err != nil {
		t.Errorf("a host in no network: %v", err)
	}
}

func TestEachFaultIsNamedByItsPath(t *testing.T) {
	for _, c := range []struct {
		path  string
		value any
		says  string
	}{
		{"owner", "two words", "owner"},
		{"owner", strings.Repeat("o", 129), "owner"},
		{"wireguard.engine", "turbo", "wireguard.engine"},
		{"wireguard.keys", []any{}, "wireguard.keys"},
		{"wireguard.keys.0.listenPort", 0, "keys[0].listenPort"},
		{"wireguard.keys.0.privateKey", privateText[:43], "not 32 bytes"},
		{"wireguard.vtep", "fd00::1", "vtep"},
		{"wireguard.vtep", "100.96.0.2", "peers[0].vtep"},
		{"peers.0.node", "", "peers[0].node"},
		{"peers.0.keys", []any{}, "peers[0].keys"},
		{"peers.0.keys", []any{publicText, publicText}, "given twice"},
		{"peers.0.path", "up", "peers[0].path"},
		{"peers.0.keepalive_s", 121, "keepalive_s"},
		{"peers.0.endpoint.host", "::ffff:10.0.0.1", "endpoint"},
		{"peers.0.endpoint.host", "fe80::1%eth0", "endpoint"},
		{"peers.0.endpoint.host", "host.example", "ParseAddr"},
		{"peers.0.endpoint.port", 65536, "uint16"},
		{"networks.0.name", "Shop", "networks[0].name"},
		{"networks.0.name", "shop\n", "networks[0].name"},
		{"networks.0.vni", 0, "vni"},
		{"networks.0.vni", 1 << 24, "vni"},
		{"networks.0.bridge", "docker0", "svb-"},
		{"networks.0.bridge", "svb-", "svb-"},
		{"networks.0.bridge", "svb-../../x", "bridge"},
		{"networks.0.tap", "svt-0123456789ab", "tap"},
		{"networks.0.mtu", 68, "mtu"},
		{"networks.0.mac", "01:00:5e:00:00:01", "mac"},
		{"networks.0.mac", "02:00:00:00:00", "MAC"},
		{"networks.0.addresses", []any{"10.9.0.2/0"}, "wider"},
		{"networks.0.addresses", []any{"127.0.0.1/24"}, "addresses[0]"},
		{"networks.0.addresses", []any{"224.0.0.1/24"}, "addresses[0]"},
		{"networks.0.broadcast_pps", -1, "broadcast_pps"},
		{"networks.0.remote.0.vtep", "100.96.0.9", "belongs to no peer"},
		{"networks.0.remote.0.vtep", "100.96.0.1", "belongs to no peer"},
		{"networks.0.remote.0.mac", "02:00:00:00:00:01", "given twice"},
		{"networks.0.remote.0.addresses", []any{"10.9.0.2"}, "given twice"},
		{"networks.0.attachments.0.netns", "run/netns/web", "absolute path"},
		{"networks.0.attachments.0.netns", "pid:0", "process"},
		{"networks.0.attachments.0.netns", "pid:+7", "process"},
		{"networks.0.attachments.0.interface", "shop0/../x", "interface"},
		{"networks.0.attachments.0.interface", "..", "interface"},
		{"networks.0.attachments.0.host", "eth0", "svv-"},
		{"networks.0.attachments.0.name", "a b", "name"},
		{"networks.0.attachments.0.extra", 1, "unknown field"},
	} {
		t.Run(c.path+fmt.Sprint(c.value), func(t *testing.T) {
			d := example()
			set(d, c.path, c.value)
			if _, err := decode(t, d); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			} else if strings.Contains(err.Error(), privateText[:40]) {
				t.Errorf("the error quotes a private key: %v", err)
			}
		})
	}
}

func TestAPrivateKeyCannotBePrintedOrEncoded(t *testing.T) {
	d, err := decode(t, example())
	if err != nil {
		t.Fatal(err)
	}
	key := d.WireGuard.Keys[0].PrivateKey
	texts := []string{fmt.Sprint(key), fmt.Sprintf("%v %+v %#v %s %q %x %d", key, key, key, key, key, key, key), fmt.Sprintf("%+v", d.WireGuard), fmt.Sprintf("%#v", d.WireGuard)}
	for _, text := range texts {
		if strings.Contains(text, privateText) || strings.Contains(text, "70707070") || strings.Contains(text, "112 112") || strings.Contains(text, "0x70, 0x70") || strings.Contains(text, "pppp") {
			t.Errorf("printed: %s", text)
		}
	}
	if text, err := json.Marshal(d); err == nil {
		t.Errorf("encoded: %s", text)
	}
}

func TestTheMostValuesAreCountedBeforeTheyAreDecoded(t *testing.T) {
	if _, err := Decode([]byte(`{"peers":[` + strings.Repeat("{},", ObjectsMax) + `{}]}`)); err == nil || !strings.Contains(err.Error(), "objects") {
		t.Error(err)
	}
	if _, err := Decode([]byte(`{"peers":[` + strings.Repeat("1,", ValuesMax+1) + `1]}`)); err == nil || !strings.Contains(err.Error(), "values") {
		t.Error(err)
	}
}

// FuzzDecode: whatever is accepted holds what check.go promises, and survives being checked again.
func FuzzDecode(f *testing.F) {
	text, err := json.Marshal(example())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		d, err := Decode(line)
		if err != nil {
			if len(err.Error()) > 2*TextBytesMax {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		if err := d.Check(); err != nil {
			t.Error(err)
		}
		for _, n := range d.Networks {
			if !strings.HasPrefix(n.Bridge, BridgePrefix) || !strings.HasPrefix(n.TAP, TAPPrefix) || strings.ContainsAny(n.Bridge+n.TAP, "/ \n") {
				t.Errorf("%q %q", n.Bridge, n.TAP)
			}
		}
	})
}
