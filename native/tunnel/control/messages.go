package control

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"

	"selvedge.dev/tunnel/state"
)

// Tunnel is what the sockets speak for. All methods may be called at once.
type Tunnel interface {
	Hello() Hello
	Apply(d *state.Desired) Applied
	Actual() (state.Actual, error)
	Stats() state.Stats
	SetPath(node, path string) error
	// Ping sends one echo request out of a network's bridge and waits for the answer.
	Ping(ctx context.Context, network string, address netip.Addr, bytes int) (rttMS float64, err error)
	// HasPeer says whether Carry will know the node; Carry then takes the connection over.
	HasPeer(node string) bool
	Carry(node string, conn *net.UnixConn) error
	// Shutdown removes everything that the tunnel made, and lets the program end once the answer is out.
	Shutdown() []state.Failure
}

// Hello is the answer to hello. Engine and Generation are nil before the first apply.
type Hello struct {
	Version    int      `json:"version"`
	Program    string   `json:"program"`
	PID        int      `json:"pid"`
	Engine     *string  `json:"engine"`
	Features   []string `json:"features"`
	Generation *uint64  `json:"generation"`
}

// Applied is the answer to apply: what was changed, in words, and what could not be.
type Applied struct {
	Generation uint64          `json:"generation"`
	Changed    []string        `json:"changed"`
	Failures   []state.Failure `json:"failures"`
}

type request struct {
	ID     *uint64         `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

type response struct {
	ID     *uint64      `json:"id"`
	Result any          `json:"result,omitempty"`
	Error  *errorAnswer `json:"error,omitempty"`
}

type errorAnswer struct {
	Code    state.Code     `json:"code"`
	Message string         `json:"message"`
	Details map[string]any `json:"details"`
}

type helloParams struct {
	Version int `json:"version"`
}

type pathParams struct {
	Node string `json:"node"`
	Path string `json:"path"`
}

type pingParams struct {
	Network   string     `json:"network"`
	Address   netip.Addr `json:"address"`
	Count     int        `json:"count"`
	TimeoutMS int        `json:"timeout_ms"`
	Size      int        `json:"size"`
}

type pingResult struct {
	Address netip.Addr `json:"address"`
	RTTMS   float64    `json:"rtt_ms"`
}

// decodeRequest reads the outer shape of a line. It is what everything hostile meets first.
func decodeRequest(line []byte) (*request, error) {
	var r request
	if err := state.Strict(line, &r); err != nil {
		return nil, state.Failed(state.CodeRequestInvalid, "request", err)
	}
	if r.ID == nil {
		return nil, state.Failedf(state.CodeRequestInvalid, "request", "id: missing")
	}
	if r.Method == "" || len(r.Method) > methodBytesMax {
		return &r, state.Failedf(state.CodeRequestInvalid, "request", "method: missing or too long")
	}
	return &r, nil
}

// decodeParams reads a method's parameters; none given are none.
func decodeParams(method string, params json.RawMessage, target any) error {
	if len(params) == 0 {
		params = json.RawMessage("{}")
	}
	if err := state.Strict(params, target); err != nil {
		return state.Failed(state.CodeRequestInvalid, method, err)
	}
	return nil
}

func answerError(err error) *errorAnswer {
	var failure state.Failure
	if !errors.As(err, &failure) {
		failure = state.Failed(state.CodeInternalError, "request", err)
	}
	return &errorAnswer{Code: failure.Code, Message: failure.Error(), Details: map[string]any{"what": failure.What, "why": failure.Why, "remedy": failure.Remedy}}
}
