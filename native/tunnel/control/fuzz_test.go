package control

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"selvedge.dev/tunnel/state"
)

// FuzzRequest: whatever comes in, decoding ends with a request or with a code, and what is said about it is short and printable.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		`{"id":1,"method":"hello","params":{"version":1}}`, `{"id":1}`, `{"id":-1,"method":"x"}`, `[]`, `null`, ``, `{"id":1,"method":"apply","params":{"generation":8,"owner":"edge/1"}}`,
		`{"id":18446744073709551615,"method":"stats"}`, `{"ID":1,"Method":"stats","params":null}`, "\xff\xfe", `{"id":1,"method":"\u0000"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		request, err := decodeRequest(line)
		if (request == nil) && err == nil {
			t.Fatal("neither a request nor an error")
		}
		if err == nil {
			_, err = state.Decode(request.Params)
			if err != nil {
				err = state.Failed(state.CodeRequestInvalid, "apply", err)
			}
		}
		if err != nil {
			checkAnswer(t, err)
		}
	})
}

func FuzzCarry(f *testing.F) {
	f.Add([]byte(`{"version":1,"node":"a"}`))
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		node, err := decodeCarry(line)
		if err != nil {
			checkAnswer(t, err)
		} else if node == "" || len(node) > state.NodeNameBytesMax {
			t.Errorf("%q", node)
		}
	})
}

func checkAnswer(t *testing.T, err error) {
	t.Helper()
	var failure state.Failure
	if !errors.As(err, &failure) || failure.Code == "" || failure.Remedy == "" {
		t.Fatalf("no code or remedy: %v", err)
	}
	line, encodeErr := encode(response{Error: answerError(err)})
	if encodeErr != nil || bytes.Count(line, []byte("\n")) != 1 || len(line) > 8*state.TextBytesMax {
		t.Fatalf("%v: %q", encodeErr, line)
	}
	if strings.ContainsFunc(failure.Why, func(r rune) bool { return r < ' ' }) {
		t.Fatalf("%q", failure.Why)
	}
}
