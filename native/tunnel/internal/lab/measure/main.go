// Measure compares the engine in user space with plain wireguard-go on the same two hosts in namespaces: one and four TCP flows, small UDP
// packets, the RTT under load, CPU time per GB and memory of both ends. Runs are interleaved, because a machine's speed changes by the hour.
//
//	go build -o /tmp/measure ./internal/lab/measure && /tmp/measure -plain /path/to/wireguard-go
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"selvedge.dev/tunnel/internal/lab"
)

var (
	seconds = flag.Int("seconds", 4, "how long each run takes")
	rounds  = flag.Int("rounds", 2, "how often all is measured")
	plain   = flag.String("plain", "", "a wireguard-go to compare with")
	profile = flag.String("profile", "", "write CPU profiles of both hosts' processes during one TCP flow to FILE.1 and FILE.2")
	carried = flag.Bool("carried", false, "measure the carried path as well, through a stream that this process splices")
	only    = flag.String("only", "tcp1,tcp4,udp,rtt", "what to measure")
)

func main() {
	if os.Getenv(lab.Environment) != "" {
		lab.RunHost()
		return
	}
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// subject is one thing measured: two processes, and the address by which host 1 reaches host 2.
type subject struct {
	name string
	to   string
	pids []int
	l    *lab.Lab
	path string // of the peers, where it is to be set

	user, system float64 // sums of what cpu has seen, for their ratio
}

func run() error {
	l, err := lab.New("svm"+strconv.Itoa(os.Getpid()), 2, 1500)
	if l != nil {
		defer l.Close()
	}
	if err != nil {
		return err
	}
	shop := &lab.Network{Name: "shop", Number: 1, MTU: 1370, Members: l.Hosts}
	if err := shop.MakeTAPs(); err != nil {
		return err
	}
	if err := l.Apply(shop); err != nil {
		return err
	}
	subjects := []*subject{{name: "selvedge", to: shop.IPv4(l.Hosts[1]), pids: []int{l.Hosts[0].PID(), l.Hosts[1].PID()}, l: l, path: "direct"}}
	if *carried {
		stop, err := carry(l)
		defer stop()
		if err != nil {
			return err
		}
		c := *subjects[0]
		c.name, c.path = "carried", "carried"
		subjects = append(subjects, &c)
	}
	if *plain != "" {
		p, stop, err := startPlain(l)
		defer stop()
		if err != nil {
			return err
		}
		subjects = append(subjects, p)
	}
	server := l.Hosts[1].Command("iperf3", "-s")
	if err := server.Start(); err != nil {
		return err
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	for _, s := range subjects {
		if _, err := l.Hosts[0].Exec("ping", "-c", "3", "-i", "0.2", s.to); err != nil {
			return err
		}
	}
	fmt.Printf("%-10s %8s %9s %10s %8s %9s %10s %9s %9s\n", "", "tcp1", "cpu s/GB", "of it user", "tcp4", "udp200", "rtt load", "rss MiB", "peak MiB")
	for range *rounds {
		for _, s := range subjects {
			if err := s.measure(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *subject) measure() error {
	row := []any{s.name}
	if s.path != "" {
		if err := setPath(s.l, s.path); err != nil {
			return err
		}
	}
	want := func(what string) bool { return strings.Contains(*only, what) }
	tcp1, perGB, userPerGB := 0.0, 0.0, 0.0
	if want("tcp1") {
		if *profile != "" && s.name == "selvedge" {
			for i, h := range s.l.Hosts {
				if err := h.Ask(map[string]any{"op": "profile", "path": fmt.Sprintf("%s.%d", *profile, i+1)}, nil); err != nil {
					return err
				}
			}
		}
		before := s.cpu()
		userBefore := s.user
		bits, bytes, _, err := s.iperf()
		if err != nil {
			return err
		}
		tcp1, perGB = bits/1e6, (s.cpu()-before)/(bytes/1e9)
		userPerGB = (s.user - userBefore) / (bytes / 1e9)
		if *profile != "" && s.name == "selvedge" {
			for _, h := range s.l.Hosts {
				_ = h.Ask(map[string]any{"op": "profiled"}, nil)
			}
		}
	}
	row = append(row, tcp1, perGB, userPerGB)
	rss, peak := s.memory()
	tcp4, pps, rtt := 0.0, 0.0, ""
	if want("tcp4") {
		bits, _, _, err := s.iperf("-P", "4")
		if err != nil {
			return err
		}
		tcp4 = bits / 1e6
	}
	if want("udp") {
		_, _, packets, err := s.iperf("-u", "-l", "200", "-b", "0")
		if err != nil {
			return err
		}
		pps = packets / float64(*seconds) / 1e3
	}
	if want("rtt") {
		ping := s.l.Hosts[0].Command("ping", "-q", "-n", "-i", "0.01", "-c", strconv.Itoa(*seconds*80), s.to)
		out := &strings.Builder{}
		ping.Stdout = out
		if err := ping.Start(); err != nil {
			return err
		}
		if _, _, _, err := s.iperf(); err != nil {
			return err
		}
		_ = ping.Wait()
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		rtt = lines[len(lines)-1]
		if _, after, ok := strings.Cut(rtt, "= "); ok {
			rtt = after
		}
	}
	fmt.Printf("%-10s %8.0f %9.2f %10.2f %8.0f %8.1fk %10s %9.1f %9.1f\n", append(row, tcp4, pps, rtt, rss, peak)...)
	return nil
}

func (s *subject) iperf(args ...string) (bitsPerSecond, bytes, packets float64, err error) {
	args = append([]string{"iperf3", "-J", "-c", s.to, "-t", strconv.Itoa(*seconds)}, args...)
	out, err := s.l.Hosts[0].Exec(args...)
	if err != nil {
		return 0, 0, 0, err
	}
	var result struct {
		End struct {
			Received struct {
				Bytes float64 `json:"bytes"`
				Bits  float64 `json:"bits_per_second"`
			} `json:"sum_received"`
			Sum struct {
				Packets float64 `json:"packets"`
				Lost    float64 `json:"lost_packets"`
			} `json:"sum"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		return 0, 0, 0, err
	}
	return result.End.Received.Bits, result.End.Received.Bytes, result.End.Sum.Packets - result.End.Sum.Lost, nil
}

// cpu is the CPU time of both processes in seconds.
func (s *subject) cpu() (total float64) {
	s.user, s.system = 0, 0
	for _, pid := range s.pids {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, after, ok := strings.Cut(string(stat), ") "); ok {
			fields := strings.Fields(after)
			user, _ := strconv.ParseFloat(fields[11], 64)
			system, _ := strconv.ParseFloat(fields[12], 64)
			total += (user + system) / 100
			s.user, s.system = s.user+user/100, s.system+system/100
		}
	}
	return total
}

// memory is the resident set of both processes in MiB, now and at most.
func (s *subject) memory() (now, peak float64) {
	for _, pid := range s.pids {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		for line := range strings.Lines(string(status)) {
			var n float64
			if _, err := fmt.Sscanf(line, "VmRSS: %f kB", &n); err == nil {
				now += n / 1024
			}
			if _, err := fmt.Sscanf(line, "VmHWM: %f kB", &n); err == nil {
				peak += n / 1024
			}
		}
	}
	return now, peak
}

// startPlain runs wireguard-go on both hosts, as it comes, over the same underlay.
func startPlain(l *lab.Lab) (*subject, func(), error) {
	s := &subject{name: "plain", to: "10.88.0.2", l: l}
	var processes []*exec.Cmd
	stop := func() {
		for _, p := range processes {
			_ = p.Process.Kill()
			_ = p.Wait()
		}
	}
	var keys [2][2]string
	for i := range keys {
		private, public, err := lab.NewKey()
		if err != nil {
			return nil, stop, err
		}
		keys[i] = [2]string{hexKey(private), hexKey(public)}
	}
	for i, h := range l.Hosts {
		name := fmt.Sprintf("svp%d-%d", os.Getpid()%10000, i)
		p := h.Command(*plain, "-f", name)
		p.Stderr = os.Stderr
		p.Env = append(os.Environ(), "LOG_LEVEL=error", "WG_PROCESS_FOREGROUND=1")
		if err := p.Start(); err != nil {
			return nil, stop, err
		}
		processes = append(processes, p)
		s.pids = append(s.pids, p.Process.Pid)
		other := l.Hosts[1-i]
		config := fmt.Sprintf("set=1\nprivate_key=%s\nlisten_port=51900\nreplace_peers=true\npublic_key=%s\nendpoint=%s:51900\nallowed_ip=10.88.0.%d/32\n\n",
			keys[i][0], keys[1-i][1], other.Underlay, 2-i)
		if err := configure("/var/run/wireguard/"+name+".sock", config); err != nil {
			return nil, stop, err
		}
		for _, args := range [][]string{
			{"addr", "add", fmt.Sprintf("10.88.0.%d/24", i+1), "dev", name},
			{"link", "set", name, "mtu", "1420", "up"},
		} {
			if err := lab.IP(append([]string{"-n", h.Namespace}, args...)...); err != nil {
				return nil, stop, err
			}
		}
	}
	time.Sleep(200 * time.Millisecond)
	return s, stop, nil
}
