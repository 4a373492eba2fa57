// Command init is the first and only process of the guest: it loads the modules that it was given, brings the network up, runs
// selvedge-tunnel, and does over TCP what the test asks. It is a test's; it listens on the guest's own link and trusts it.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"selvedge.dev/tunnel/internal/guest"
)

func main() {
	err := boot()
	fmt.Println("guest: ended:", err)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func boot() error {
	for _, m := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run"}} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	if err := os.Setenv("PATH", "/bin"); err != nil {
		return err
	}
	// The applets; it complains of those that are there as programs of their own.
	_ = exec.Command("/bin/busybox", "--install", "-s", "/bin").Run()
	if err := loadModules(); err != nil {
		return err
	}
	if err := network(); err != nil {
		return err
	}
	control, err := net.Listen("tcp", guest.ControlAddress)
	if err != nil {
		return err
	}
	commands, err := net.Listen("tcp", guest.CommandAddress)
	if err != nil {
		return err
	}
	carry, err := net.Listen("tcp", guest.CarryAddress)
	if err != nil {
		return err
	}
	fmt.Println("guest: ready")
	go serve(commands, command)
	go serve(carry, func(conn net.Conn) { relay(conn, guest.CarrySocket) })
	return serve(control, func(conn net.Conn) { relay(conn, guest.ControlSocket) })
}

func loadModules() error {
	files, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	sort.Strings(files)
	for _, path := range files {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(file.Fd()), "", 0)
		_ = file.Close()
		if err != nil && err != unix.EEXIST {
			return fmt.Errorf("module %s: %w", path, err)
		}
	}
	return nil
}

func network() error {
	for _, name := range []string{"lo", "eth0"} {
		var link netlink.Link
		var err error
		// The device appears some time after its driver.
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if link, err = netlink.LinkByName(name); err == nil || time.Now().After(deadline) {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		if name == "lo" {
			continue
		}
		address, err := netlink.ParseAddr(guest.Address + "/24")
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, address); err != nil {
			return err
		}
	}
	return nil
}

func serve(listener net.Listener, handle func(net.Conn)) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			handle(conn)
		}()
	}
}

// relay joins a connection with one of the tunnel's sockets.
func relay(conn net.Conn, socket string) {
	tunnel, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer tunnel.Close()
	go func() {
		_, _ = io.Copy(tunnel, conn)
		_ = tunnel.Close()
	}()
	_, _ = io.Copy(conn, tunnel)
}

// command runs what a line of JSON asks for. `&` as the first word leaves it running.
func command(conn net.Conn) {
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	var words []string
	if err != nil || json.Unmarshal(line, &words) != nil || len(words) == 0 {
		return
	}
	var result guest.Result
	if words[0] == "&" {
		background := exec.Command(words[1], words[2:]...)
		background.Stdout, background.Stderr = os.Stdout, os.Stdout
		err = background.Start()
		if err == nil {
			go background.Wait()
			result.PID = background.Process.Pid
		}
	} else {
		var out []byte
		out, err = exec.Command(words[0], words[1:]...).CombinedOutput()
		result.Output = string(out)
	}
	if err != nil {
		result.Error = err.Error()
	}
	_ = json.NewEncoder(conn).Encode(result)
}
