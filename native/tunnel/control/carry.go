package control

import (
	"fmt"
	"net"
	"time"

	"selvedge.dev/tunnel/state"
)

type carryHello struct {
	Version int    `json:"version"`
	Node    string `json:"node"`
}

// carry reads the one line that says whose packets a stream carries, answers it, and hands the stream to the engine.
func carry(conn *net.UnixConn, tunnel Tunnel) {
	node, err := readCarryHello(conn)
	if err == nil && !tunnel.HasPeer(node) {
		err = state.Failedf(state.CodeNotFound, "peer "+node, "no such peer is in the applied state")
	}
	answer := any(struct {
		OK bool `json:"ok"`
	}{true})
	if err != nil {
		answer = struct {
			Error *errorAnswer `json:"error"`
		}{answerError(err)}
	}
	line, encodeErr := encode(answer)
	if encodeErr == nil {
		encodeErr = conn.SetWriteDeadline(time.Now().Add(writeTimeMax))
	}
	if encodeErr == nil {
		_, encodeErr = conn.Write(line)
	}
	if err != nil || encodeErr != nil || conn.SetDeadline(time.Time{}) != nil {
		_ = conn.Close()
		return
	}
	if err := tunnel.Carry(node, conn); err != nil {
		// The peer went between question and answer; the daemon sees the end of the stream.
		_ = conn.Close()
	}
}

// readCarryHello reads byte by byte, since what follows the line is the engine's.
func readCarryHello(conn *net.UnixConn) (string, error) {
	if err := conn.SetReadDeadline(time.Now().Add(helloTimeMax)); err != nil {
		return "", err
	}
	var line []byte
	for one := make([]byte, 1); ; {
		if _, err := conn.Read(one); err != nil {
			return "", state.Failedf(state.CodeRequestInvalid, "carry", "no line within %v", helloTimeMax)
		}
		if one[0] == '\n' {
			break
		}
		if len(line) == carryLineMax {
			return "", state.Failedf(state.CodeFrameTooLarge, "carry", "a line of more than %d bytes", carryLineMax)
		}
		line = append(line, one[0])
	}
	return decodeCarry(line)
}

func decodeCarry(line []byte) (string, error) {
	var hello carryHello
	if err := state.Strict(line, &hello); err != nil {
		return "", state.Failed(state.CodeRequestInvalid, "carry", err)
	}
	if hello.Version != ProtocolVersion {
		return "", state.Failed(state.CodeVersionUnsupported, "carry", fmt.Errorf("version %d, this tunnel speaks %d", hello.Version, ProtocolVersion))
	}
	if hello.Node == "" || len(hello.Node) > state.NodeNameBytesMax {
		return "", state.Failedf(state.CodeRequestInvalid, "carry", "node: missing or too long")
	}
	return hello.Node, nil
}
