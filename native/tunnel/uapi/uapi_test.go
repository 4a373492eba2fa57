package uapi

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"selvedge.dev/tunnel/internal/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

const config = "private_key=secret\nlisten_port=51820\npublic_key=peer\npreshared_key=secret\nendpoint=192.0.2.1:1\n"

func exchange(t *testing.T, device, request string) string {
	t.Helper()
	conn, err := net.Dial("unix", Directory+"/"+device+".sock")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 4096)
	n, _ := conn.Read(answer)
	return string(answer[:n])
}

func TestADeviceIsReadWithoutItsSecretsAndCannotBeSet(t *testing.T) {
	server, err := Serve("svw-1", func() (string, error) { return config, nil })
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if got := exchange(t, "svw-1", "get=1\n\n"); got != "listen_port=51820\npublic_key=peer\nendpoint=192.0.2.1:1\nerrno=0\n\n" {
		t.Errorf("%q", got)
	}
	for _, request := range []string{"set=1\nfwmark=7\n\n", "get=2\n\n", "\n", "get=1\nx\n", strings.Repeat("x", 5000)} {
		if got := exchange(t, "svw-1", request); strings.Contains(got, "errno=0") || strings.Contains(got, "listen_port") {
			t.Errorf("%.20q: %q", request, got)
		}
	}
	if info, err := os.Stat(Directory + "/svw-1.sock"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

func TestTunnelsThatStartAtOnceTakeEachItsOwnName(t *testing.T) {
	var all sync.WaitGroup
	var mu sync.Mutex
	taken := map[string]int{}
	var servers []*Server
	for range 8 {
		all.Go(func() {
			for i := range 8 {
				name := fmt.Sprintf("svw-%d", i)
				server, err := Serve(name, func() (string, error) { return config, nil })
				if errors.Is(err, ErrInUse) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				taken[name]++
				servers = append(servers, server)
				mu.Unlock()
				return
			}
		})
	}
	all.Wait()
	if len(taken) != 8 {
		t.Errorf("%v", taken)
	}
	for _, server := range servers {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}
}
