package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"selvedge.dev/tunnel/state"
)

// conn is one daemon, or one `status`. Lines are read and answered one at a time by serve; a second goroutine writes.
type conn struct {
	net      *net.UnixConn
	tunnel   Tunnel
	greeted  atomic.Bool
	refused  bool
	outgoing chan []byte
	pings    chan struct{}
	running  sync.WaitGroup
	context  context.Context
	cancel   context.CancelFunc
}

var (
	errLineTooLong = state.Failedf(state.CodeFrameTooLarge, "request", "a line of more than %d bytes", state.LineBytesMax)
	errSlowReader  = errors.New("the other end does not read")
)

func newConn(ctx context.Context, socket *net.UnixConn, tunnel Tunnel) *conn {
	c := &conn{net: socket, tunnel: tunnel, outgoing: make(chan []byte, outgoingLinesMax), pings: make(chan struct{}, pingsMax)}
	c.context, c.cancel = context.WithCancel(ctx)
	return c
}

// serve answers until the other end closes, breaks the rules or the server ends. What is to be said is said before it closes. Nobody
// tells it events any more once it has called forget.
func (c *conn) serve(forget func()) {
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.write()
	}()
	reader := bufio.NewReaderSize(c.net, 64<<10)
	// The server's end must wake a read that waits for as long as it takes.
	stop := context.AfterFunc(c.context, func() { _ = c.net.SetReadDeadline(time.Now()) })
	for c.context.Err() == nil {
		line, err := c.readLine(reader)
		if errors.Is(err, errLineTooLong) {
			c.answer(nil, nil, err)
		}
		if err != nil || !c.handle(line) {
			break
		}
	}
	stop()
	c.cancel()
	c.running.Wait()
	forget()
	close(c.outgoing)
	<-written
	_ = c.net.Close()
}

// readLine waits for a line for as long as it takes to begin, but not for as long as it takes to end.
func (c *conn) readLine(reader *bufio.Reader) ([]byte, error) {
	first := time.Time{}
	if !c.greeted.Load() && !c.refused {
		first = time.Now().Add(helloTimeMax)
	}
	if err := c.deadline(first); err != nil {
		return nil, err
	}
	if _, err := reader.Peek(1); err != nil {
		return nil, err
	}
	if err := c.deadline(time.Now().Add(lineTimeMax)); err != nil {
		return nil, err
	}
	var line []byte
	for {
		part, err := reader.ReadSlice('\n')
		if len(line)+len(part) > state.LineBytesMax+1 {
			return nil, errLineTooLong
		}
		line = append(line, part...)
		if err == nil {
			return line[:len(line)-1], nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}

// deadline sets when reading gives up, unless the server has ended: then it has given up.
func (c *conn) deadline(at time.Time) error {
	if err := c.net.SetReadDeadline(at); err != nil {
		return err
	}
	return c.context.Err()
}

func (c *conn) write() {
	for line := range c.outgoing {
		if err := c.net.SetWriteDeadline(time.Now().Add(writeTimeMax)); err == nil {
			if _, err = c.net.Write(line); err == nil {
				continue
			}
		}
		// Whatever else is to be said, nobody hears it.
		c.cancel()
		for range c.outgoing {
		}
	}
}

// handle answers one line; false ends the connection.
func (c *conn) handle(line []byte) bool {
	request, err := decodeRequest(line)
	if request == nil {
		// Not even a request: what follows is anybody's guess.
		c.answer(nil, nil, err)
		return false
	}
	if err != nil {
		c.answer(request.ID, nil, err)
		return true
	}
	if request.Method == "ping" && c.greeted.Load() {
		return c.ping(request)
	}
	result, err := c.call(request)
	c.answer(request.ID, result, err)
	return request.Method != "close" || err != nil
}

func (c *conn) call(r *request) (any, error) {
	// A daemon that cannot speak with this tunnel may still end it, to start its own.
	if r.Method != "hello" && !c.greeted.Load() && !(r.Method == "close" && c.refused) {
		return nil, state.Failedf(state.CodeVersionUnsupported, r.Method, "the first request is hello with the version, which is %d", ProtocolVersion)
	}
	switch r.Method {
	case "hello":
		return c.hello(r)
	case "apply":
		d, err := state.Decode(r.Params)
		if err != nil {
			return nil, state.Failed(state.CodeRequestInvalid, "apply", err)
		}
		return c.tunnel.Apply(d), nil
	case "path":
		var params pathParams
		if err := decodeParams(r.Method, r.Params, &params); err != nil {
			return nil, err
		}
		return struct{}{}, c.tunnel.SetPath(params.Node, params.Path)
	}
	var none struct{}
	if err := decodeParams(r.Method, r.Params, &none); err != nil {
		return nil, err
	}
	switch r.Method {
	case "actual":
		return c.tunnel.Actual()
	case "stats":
		return c.tunnel.Stats(), nil
	case "close":
		return struct {
			Failures []state.Failure `json:"failures"`
		}{c.tunnel.Shutdown()}, nil
	}
	return nil, state.Failedf(state.CodeRequestInvalid, "request", "method: there is no %q", r.Method)
}

func (c *conn) hello(r *request) (any, error) {
	var params helloParams
	if err := decodeParams(r.Method, r.Params, &params); err != nil {
		return nil, err
	}
	if params.Version != ProtocolVersion {
		c.refused = true
		return nil, state.Failedf(state.CodeVersionUnsupported, "hello", "version %d, this tunnel speaks %d", params.Version, ProtocolVersion)
	}
	c.greeted.Store(true)
	return c.tunnel.Hello(), nil
}

// ping waits for the network, so it runs beside the requests that follow it.
func (c *conn) ping(r *request) bool {
	params := pingParams{Count: 1, TimeoutMS: 1000, Size: 56}
	if err := decodeParams(r.Method, r.Params, &params); err != nil {
		c.answer(r.ID, nil, err)
		return true
	}
	if params.Count != 1 || params.TimeoutMS < 1 || params.TimeoutMS > pingTimeMSMax || params.Size < 0 || params.Size > pingBytesMax || !params.Address.IsValid() || params.Address.Zone() != "" {
		c.answer(r.ID, nil, state.Failedf(state.CodeRequestInvalid, "ping", "count 1, timeout_ms 1 to %d, size 0 to %d and an address allowed", pingTimeMSMax, pingBytesMax))
		return true
	}
	select {
	case c.pings <- struct{}{}:
	default:
		c.answer(r.ID, nil, state.Failedf(state.CodeLimitReached, "ping", "at most %d at once", pingsMax))
		return true
	}
	c.running.Go(func() {
		defer func() { <-c.pings }()
		ctx, cancel := context.WithTimeout(c.context, time.Duration(params.TimeoutMS)*time.Millisecond)
		defer cancel()
		rtt, err := c.tunnel.Ping(ctx, params.Network, params.Address, params.Size)
		if errors.Is(err, context.DeadlineExceeded) {
			err = state.Failedf(state.CodeTimeout, "ping", "%v did not answer within %d ms", params.Address, params.TimeoutMS)
		}
		c.answer(r.ID, pingResult{Address: params.Address, RTTMS: rtt}, err)
	})
	return true
}

func (c *conn) answer(id *uint64, result any, err error) {
	r := response{ID: id, Result: result}
	if err != nil {
		r.Result, r.Error = nil, answerError(err)
	}
	line, err := encode(r)
	if err != nil {
		line, _ = encode(response{ID: id, Error: answerError(err)})
	}
	// The writer takes lines until the connection is closed, so this waits at most for its deadline.
	c.outgoing <- line
}

// tell sends an event if there is room; a reader that has fallen so far behind is disconnected, and learns from `actual`.
func (c *conn) tell(line []byte) error {
	if !c.greeted.Load() {
		return nil
	}
	select {
	case c.outgoing <- line:
		return nil
	default:
		c.cancel()
		return errSlowReader
	}
}

func encode(value any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}
