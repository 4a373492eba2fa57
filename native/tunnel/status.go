package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"text/tabwriter"
	"time"

	"selvedge.dev/tunnel/control"
	"selvedge.dev/tunnel/state"
)

const askTimeMax = 10 * time.Second

// asker asks a running tunnel, one question at a time.
type asker struct {
	conn    net.Conn
	scanner *bufio.Scanner
	last    int
}

func ask(socket string) (*asker, error) {
	conn, err := net.DialTimeout("unix", socket, askTimeMax)
	if err != nil {
		return nil, state.Failedf(state.CodeNotFound, socket, "no tunnel answers: %w. Start `selvedge-tunnel run`, or name its socket with --socket", err)
	}
	scanner := bufio.NewScanner(conn)
	scanner.Buffer(nil, state.LineBytesMax)
	return &asker{conn: conn, scanner: scanner}, conn.SetDeadline(time.Now().Add(askTimeMax))
}

// get sends a request and decodes its result; events that come between are none of its business.
func (a *asker) get(method, params string, result any) error {
	a.last++
	if _, err := fmt.Fprintf(a.conn, `{"id":%d,"method":%q,"params":%s}`+"\n", a.last, method, params); err != nil {
		return err
	}
	for a.scanner.Scan() {
		var answer struct {
			ID     int             `json:"id"`
			Result json.RawMessage `json:"result"`
			Error  *struct {
				Code    state.Code `json:"code"`
				Message string     `json:"message"`
			} `json:"error"`
		}
		if err := json.Unmarshal(a.scanner.Bytes(), &answer); err != nil {
			return err
		}
		if answer.Error != nil {
			return state.Failedf(answer.Error.Code, method, "%s", answer.Error.Message)
		}
		if answer.ID == a.last {
			return json.Unmarshal(answer.Result, result)
		}
	}
	if err := a.scanner.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}

// status prints what a running tunnel has.
func status(out io.Writer, socket string, raw bool) error {
	a, err := ask(socket)
	if err != nil {
		return err
	}
	defer a.conn.Close()
	var hello control.Hello
	var actual, stats json.RawMessage
	for _, question := range []struct {
		method, params string
		result         any
	}{{"hello", fmt.Sprintf(`{"version":%d}`, control.ProtocolVersion), &hello}, {"actual", "{}", &actual}, {"stats", "{}", &stats}} {
		if err := a.get(question.method, question.params, question.result); err != nil {
			return err
		}
	}
	if raw {
		return json.NewEncoder(out).Encode(map[string]any{"hello": hello, "actual": actual, "stats": stats})
	}
	var there state.Actual
	var counted state.Stats
	if err := json.Unmarshal(actual, &there); err != nil {
		return err
	}
	if err := json.Unmarshal(stats, &counted); err != nil {
		return err
	}
	return table(out, &hello, &there, &counted)
}

func table(out io.Writer, hello *control.Hello, actual *state.Actual, stats *state.Stats) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(cells ...any) { _, _ = fmt.Fprintln(w, strings.Join(texts(cells), "\t")) }
	line("program", hello.Program, "pid "+fmt.Sprint(hello.PID))
	line("engine", or(actual.WireGuard.Engine, "none"), actual.WireGuard.Why)
	for _, device := range actual.WireGuard.Devices {
		line("wireguard", device.Name, device.PublicKey, fmt.Sprintf("port %d", device.ListenPort))
	}
	for _, n := range actual.Networks {
		line("network", n.Name, fmt.Sprintf("VNI %d", n.VNI), fmt.Sprintf("MTU %d", n.MTU), n.Bridge, n.Port, fmt.Sprintf("%d remote", n.Remotes), n.Addresses)
		for _, a := range n.Attachments {
			line("attachment", n.Name+"/"+a.Name, a.Interface, a.Namespace, a.Host, a.Addresses)
		}
	}
	for _, p := range stats.Peers {
		line("peer", p.Node, p.Path, or(endpoint(p.Endpoint), "no endpoint"), "handshake "+age(p.LatestHandshakeMS), fmt.Sprintf("rx %d B", p.RxBytes), fmt.Sprintf("tx %d B", p.TxBytes), p.Why)
	}
	for _, failure := range actual.Failures {
		line("failure", failure.Log())
	}
	return w.Flush()
}

func texts(cells []any) []string {
	all := make([]string, len(cells))
	for i, cell := range cells {
		all[i] = fmt.Sprint(cell)
	}
	return all
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func endpoint(e *state.Endpoint) string {
	if e == nil {
		return ""
	}
	return e.AddrPort().String()
}

func age(ms *int64) string {
	if ms == nil {
		return "never"
	}
	return (time.Duration(*ms) * time.Millisecond).Round(time.Second).String() + " ago"
}
