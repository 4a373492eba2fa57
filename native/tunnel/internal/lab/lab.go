package lab

import (
	"bufio"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"

	"selvedge.dev/tunnel/state"
)

// Host is one host: a namespace with an underlay interface `u0`, and a process in it.
type Host struct {
	Node       string
	Namespace  string
	VTEP       string
	Underlay   string
	PrivateKey string
	PublicKey  string
	Port       int

	process *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	mu      sync.Mutex
}

// Lab is a switch of hosts: one namespace with a bridge, and hosts attached to it.
type Lab struct {
	prefix string
	Hosts  []*Host
}

// NewKey makes a WireGuard key pair in base64.
func NewKey() (private, public string, err error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return "", "", err
	}
	return base64.StdEncoding.EncodeToString(key.Bytes()), base64.StdEncoding.EncodeToString(key.PublicKey().Bytes()), nil
}

func hexOf(key string) string {
	raw, _ := base64.StdEncoding.DecodeString(key)
	return hex.EncodeToString(raw)
}

// New makes a lab of n hosts. Hosts have the addresses 10.77.0.N and fd77::N on the underlay, and the VTEPs 100.96.0.N.
func New(prefix string, n int, underlayMTU int) (*Lab, error) {
	l := &Lab{prefix: prefix}
	middle := prefix + "-mid"
	if err := IP("netns", "add", middle); err != nil {
		return nil, err
	}
	if err := IP("-n", middle, "link", "add", "br0", "mtu", fmt.Sprint(underlayMTU), "type", "bridge"); err != nil {
		return l, err
	}
	if err := IP("-n", middle, "link", "set", "br0", "up"); err != nil {
		return l, err
	}
	for i := 1; i <= n; i++ {
		h, err := l.addHost(i, middle, underlayMTU)
		if h != nil {
			l.Hosts = append(l.Hosts, h)
		}
		if err != nil {
			return l, err
		}
	}
	return l, nil
}

func (l *Lab) addHost(i int, middle string, mtu int) (*Host, error) {
	h := &Host{Node: fmt.Sprintf("host%d", i), Namespace: fmt.Sprintf("%s-%d", l.prefix, i), VTEP: fmt.Sprintf("100.96.0.%d", i),
		Underlay: fmt.Sprintf("10.77.0.%d", i), Port: 51820}
	var err error
	if h.PrivateKey, h.PublicKey, err = NewKey(); err != nil {
		return nil, err
	}
	ns, port, size := h.Namespace, fmt.Sprintf("p%d", i), fmt.Sprint(mtu)
	for _, args := range [][]string{
		{"netns", "add", ns},
		{"-n", middle, "link", "add", port, "mtu", size, "type", "veth", "peer", "name", "u0", "mtu", size, "netns", ns},
		{"-n", middle, "link", "set", port, "master", "br0", "up"},
		{"-n", ns, "addr", "add", h.Underlay + "/24", "dev", "u0"},
		{"-n", ns, "addr", "add", fmt.Sprintf("fd77::%d/64", i), "dev", "u0", "nodad"},
		{"-n", ns, "link", "set", "u0", "up"},
		{"-n", ns, "link", "set", "lo", "up"},
	} {
		if err := IP(args...); err != nil {
			return h, err
		}
	}
	return h, h.start()
}

func (h *Host) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	h.process = exec.Command("ip", "netns", "exec", h.Namespace, self)
	h.process.Env = append(os.Environ(), Environment+"=1")
	h.process.Stderr = os.Stderr
	if h.in, err = h.process.StdinPipe(); err != nil {
		return err
	}
	out, err := h.process.StdoutPipe()
	if err != nil {
		return err
	}
	h.out = bufio.NewReaderSize(out, 1<<20)
	return h.process.Start()
}

// Ask sends a request to the host's process and decodes the answer into result, which may be nil.
func (h *Host) Ask(request map[string]any, result any) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	line, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := h.in.Write(append(line, '\n')); err != nil {
		return err
	}
	answer, err := h.out.ReadBytes('\n')
	if err != nil {
		return err
	}
	var failed struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(answer, &failed) == nil && failed.Error != "" {
		return fmt.Errorf("%s: %v: %s", h.Node, request["op"], failed.Error)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer, result)
}

// Stats asks the host for its counters.
func (h *Host) Stats() (s state.Stats, err error) {
	err = h.Ask(map[string]any{"op": "stats"}, &s)
	return s, err
}

// Exec runs a command in the host's namespace and returns what it printed.
func (h *Host) Exec(args ...string) (string, error) {
	out, err := exec.Command("ip", append([]string{"netns", "exec", h.Namespace}, args...)...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %s: %w: %s", h.Node, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// Start prepares a command in the host's namespace.
func (h *Host) Command(args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", h.Namespace}, args...)...)
}

// PID is the host's process; `ip netns exec` becomes it.
func (h *Host) PID() int { return h.process.Process.Pid }

// Close ends the processes and removes the namespaces.
func (l *Lab) Close() {
	for _, h := range l.Hosts {
		if h.process != nil && h.process.Process != nil {
			_ = h.in.Close()
			_ = h.process.Wait()
		}
		_ = IP("netns", "del", h.Namespace)
	}
	_ = IP("netns", "del", l.prefix+"-mid")
}
