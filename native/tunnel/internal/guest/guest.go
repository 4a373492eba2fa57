// Package guest boots a Debian kernel in qemu, without KVM, with selvedge-tunnel in it, so that the kernel engine can be shown on a machine
// whose own kernel has no WireGuard. For tests; see guest_test.go in the module's root (build tag guest).
package guest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The guest's link: the host has HostAddress on the TAP.
const (
	HostAddress    = "192.0.2.1"
	Address        = "192.0.2.2"
	ControlAddress = Address + ":7000"
	CommandAddress = Address + ":7001"
	CarryAddress   = Address + ":7002"
	ControlSocket  = "/run/tunnel.sock"
	CarrySocket    = "/run/carry.sock"
)

const bootTimeMax = 180 * time.Second

// Result is what became of a command in the guest.
type Result struct {
	Output string `json:"output"`
	Error  string `json:"error"`
	PID    int    `json:"pid"`
}

// Guest is a running virtual machine.
type Guest struct {
	process *exec.Cmd
	console string
}

// modules that the guest gets, with what they depend on. crc32c is one that nf_tables asks for by another way.
var modules = []string{"virtio_pci", "virtio_net", "crc32c_generic", "wireguard", "vxlan", "bridge", "tun", "veth", "nf_tables", "nft_limit", "nft_objref"}

// programs that the guest gets, with their libraries.
var programs = []string{"/bin/busybox", "/usr/bin/wg", "/bin/ip", "/sbin/bridge"}

// Boot builds what the guest needs under folder, and boots it with a TAP of that name. The caller has given the TAP its address.
func Boot(module, folder, tap string) (*Guest, error) {
	kernel, err := fetchKernel(folder)
	if err != nil {
		return nil, err
	}
	image := filepath.Join(folder, "initramfs")
	if err := buildImage(module, folder, kernel, image); err != nil {
		return nil, err
	}
	console := filepath.Join(folder, "console")
	log, err := os.Create(console)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	g := &Guest{console: console}
	g.process = exec.Command("qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "512", "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio",
		"-kernel", kernel.image, "-initrd", image, "-append", "console=ttyS0 quiet panic=-1 net.ifnames=0",
		"-netdev", "tap,id=n0,ifname="+tap+",script=no,downscript=no", "-device", "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:02,romfile=")
	g.process.Stdout, g.process.Stderr = log, log
	if err := g.process.Start(); err != nil {
		return nil, fmt.Errorf("qemu cannot be started (apt-get install qemu-system-x86): %w", err)
	}
	if err := g.awaitBoot(); err != nil {
		text, _ := os.ReadFile(console)
		g.Close()
		return nil, fmt.Errorf("%w; its console:\n%s", err, text)
	}
	return g, nil
}

func (g *Guest) awaitBoot() error {
	for deadline := time.Now().Add(bootTimeMax); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		conn, err := net.DialTimeout("tcp", CommandAddress, time.Second)
		if err == nil {
			return conn.Close()
		}
		if text, _ := os.ReadFile(g.console); strings.Contains(string(text), "guest: ended") {
			return errors.New("the guest ended")
		}
	}
	return errors.New("the guest did not come up")
}

// Close ends the machine.
func (g *Guest) Close() {
	_ = g.process.Process.Kill()
	_ = g.process.Wait()
}

// Console is what the guest has written.
func (g *Guest) Console() string {
	text, _ := os.ReadFile(g.console)
	return string(text)
}

// Run runs a command in the guest to its end; with `&` before it, it stays running.
func (g *Guest) Run(words ...string) (Result, error) {
	var result Result
	conn, err := net.Dial("tcp", CommandAddress)
	if err != nil {
		return result, err
	}
	defer conn.Close()
	if err := json.NewEncoder(conn).Encode(words); err != nil {
		return result, err
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return result, err
	}
	if err := json.Unmarshal(line, &result); err != nil {
		return result, err
	}
	if result.Error != "" {
		return result, fmt.Errorf("%s: %s\n%s", strings.Join(words, " "), result.Error, result.Output)
	}
	return result, nil
}
