// Package lab runs hosts of app networks in network namespaces, each a process of its own with the engine in user space, for tests and for
// measuring. It makes devices with iproute2 and needs root. Nothing of it is in the product.
package lab

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime/pprof"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"selvedge.dev/tunnel/engine/user"
	"selvedge.dev/tunnel/state"
)

// Environment is set in a process that is to be a host; its value is not read.
const Environment = "SELVEDGE_LAB_HOST"

// request is one line from the test to the host, answered by one line.
type request struct {
	Op      string          `json:"op"`
	Desired json.RawMessage `json:"desired,omitempty"`
	Network string          `json:"network,omitempty"`
	TAP     string          `json:"tap,omitempty"`
	Node    string          `json:"node,omitempty"`
	Path    string          `json:"path,omitempty"`
	Config  string          `json:"config,omitempty"`
	Address string          `json:"address,omitempty"`
	Bytes   int64           `json:"bytes,omitempty"`
	Count   int             `json:"count,omitempty"`
	Payload [][]byte        `json:"payload,omitempty"`
}

// RunHost is the main function of a host. It ends with its standard input.
func RunHost() {
	e, err := user.New()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer e.Close()
	taps := map[string]*os.File{}
	var heard listener
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var r request
		var result any = "ok"
		err := json.Unmarshal(lines.Bytes(), &r)
		if err == nil {
			switch r.Op {
			case "tap":
				taps[r.Network], err = OpenTAP(r.TAP)
			case "apply":
				var d *state.Desired
				if d, err = state.Decode(r.Desired); err == nil {
					if failures := e.Apply(*d, taps); len(failures) > 0 {
						err = failures[0]
					}
				}
			case "stats":
				result = e.Stats()
			case "actual":
				result = e.Actual()
			case "path":
				err = e.SetPath(r.Node, r.Path)
			case "carry":
				var c *net.UnixConn
				if c, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: r.Path, Net: "unix"}); err == nil {
					err = e.Carry(r.Node, c)
				}
			case "plain":
				_, err = newPlain(r.TAP, r.Config)
			case "udp":
				err = sendUDP(r.Address, r.Payload, r.Count)
			case "serve":
				_, err = serve(r.Address, r.Bytes)
			case "fetch":
				result, err = fetch(r.Address)
			case "echo":
				err = echo(r.Address, r.Count)
			case "listen":
				err = heard.listen(r.Address)
			case "heard":
				result = heard.count.Load()
			case "event":
				select {
				case event := <-e.Events():
					result = event
				case <-time.After(10 * time.Second):
					err = errors.New("no event in 10 s")
				}
			case "profile":
				var f *os.File
				if f, err = os.Create(r.Path); err == nil {
					err = pprof.StartCPUProfile(f)
				}
			case "profiled":
				pprof.StopCPUProfile()
			case "memory":
				result, err = memory()
			default:
				err = fmt.Errorf("no such op: %s", r.Op)
			}
		}
		if err != nil {
			result = map[string]string{"error": err.Error()}
		}
		_ = out.Encode(result)
	}
}

// memory is the resident set in KiB, of now and at most, and the CPU time in milliseconds.
func memory() (any, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	result := map[string]int{}
	for line := range strings.Lines(string(status)) {
		var n int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &n); err == nil {
			result["rss_kib"] = n
		}
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &n); err == nil {
			result["peak_kib"] = n
		}
	}
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return nil, err
	}
	result["cpu_ms"] = int((usage.Utime.Nano() + usage.Stime.Nano()) / 1e6)
	return result, nil
}

// OpenTAP makes a TAP with a virtio-net header, or takes up the one there is, in this process's namespace.
func OpenTAP(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	var request struct {
		name  [unix.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	request.flags = unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(&request))); errno != 0 {
		_ = unix.Close(fd)
		return nil, errno
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

// IP runs iproute2.
func IP(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
