// Plain is wireguard-go as it comes, the module and version that the tunnel is built with, on a TUN of the kernel's: what bench/overlay
// compares with. It reads its configuration (WireGuard's configuration protocol) from standard input, says "up", and ends with its input.
//
//	plain NAME MTU < configuration
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/tailscale/wireguard-go/conn"
	"github.com/tailscale/wireguard-go/device"
	"github.com/tailscale/wireguard-go/tun"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 2 {
		return fmt.Errorf("usage: plain NAME MTU")
	}
	mtu, err := strconv.Atoi(arguments[1])
	if err != nil {
		return err
	}
	t, err := tun.CreateTUN(arguments[0], mtu)
	if err != nil {
		return err
	}
	d := device.NewDevice(t, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, "plain: "))
	defer d.Close()
	in := bufio.NewScanner(os.Stdin)
	var config strings.Builder
	// An empty line ends the configuration.
	for in.Scan() && in.Text() != "" {
		config.WriteString(in.Text() + "\n")
	}
	if err := d.IpcSet(config.String()); err != nil {
		return err
	}
	if err := d.Up(); err != nil {
		return err
	}
	fmt.Println("up")
	for in.Scan() {
	}
	return in.Err()
}
