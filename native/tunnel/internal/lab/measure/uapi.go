package main

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"time"
)

func hexKey(text string) string {
	raw, _ := base64.StdEncoding.DecodeString(text)
	return hex.EncodeToString(raw)
}

// configure speaks WireGuard's configuration protocol to a wireguard-go, once it listens.
func configure(socket, config string) error {
	var c net.Conn
	var err error
	for range 100 {
		if c, err = net.Dial("unix", socket); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte(config)); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && line != "errno=0\n" {
		err = fmt.Errorf("%s: %s", socket, line)
	}
	return err
}
