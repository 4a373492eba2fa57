package state

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Code names a kind of refusal. The codes are rows of the one error table of the product (src/base/errors.ts).
type Code string

const (
	CodeRequestInvalid     Code = "request_invalid"
	CodeVersionUnsupported Code = "version_unsupported"
	CodeFrameTooLarge      Code = "frame_too_large"
	CodeLimitReached       Code = "limit_reached"
	CodeUnauthorized       Code = "unauthorized"
	CodePermissionDenied   Code = "permission_denied"
	CodeArgumentInvalid    Code = "argument_invalid"
	CodeNotFound           Code = "not_found"
	CodePortInUse          Code = "port_in_use"
	CodeStateInUse         Code = "state_in_use"
	CodeUnsupported        Code = "unsupported"
	CodeShuttingDown       Code = "shutting_down"
	CodeTimeout            Code = "timeout"
	CodeInternalError      Code = "internal_error"
	// CodeDeviceForeign: a device has the name that ours should have, and not our mark. It is never touched.
	CodeDeviceForeign Code = "device_foreign"
	// CodeDeviceFailed: the kernel refused to make or change a device.
	CodeDeviceFailed Code = "device_failed"
	// CodeAddressInUse: another interface of the host has the address or its subnet.
	CodeAddressInUse Code = "address_in_use"
	// CodeNamespaceMissing: the network namespace of an attachment is not there.
	CodeNamespaceMissing Code = "namespace_missing"
)

// Remedies say what to do, one for each code that a user can cause.
var remedies = map[Code]string{
	CodeRequestInvalid:     "The daemon and the tunnel are of different versions, or the sender is broken or hostile.",
	CodeVersionUnsupported: "Upgrade the older of daemon and tunnel.",
	CodeFrameTooLarge:      "The sender is broken or hostile.",
	CodeLimitReached:       "Remove networks or members, or spread them over hosts.",
	CodeUnauthorized:       "Connect as root or as the user that runs the tunnel.",
	CodePermissionDenied:   "Run selvedge-tunnel as root, or give it CAP_NET_ADMIN (and CAP_SYS_ADMIN to attach namespaces).",
	CodeArgumentInvalid:    "See --help.",
	CodeNotFound:           "Apply a state that has it first.",
	CodePortInUse:          "Stop what uses the UDP port, or choose another for WireGuard.",
	CodeStateInUse:         "Stop the other selvedge-tunnel, or use another socket.",
	CodeUnsupported:        "Use engine `user`, or load the kernel modules wireguard and vxlan.",
	CodeShuttingDown:       "Start selvedge-tunnel again.",
	CodeTimeout:            "Check that the other host runs and is a member; `selvedge status` tells its path.",
	CodeInternalError:      "Report it with the log line of the same time.",
	CodeDeviceForeign:      "Remove or rename that device if nobody needs it; Selvedge does not touch what it did not make.",
	CodeDeviceFailed:       "See the reason; `ip -d link` shows the device.",
	CodeAddressInUse:       "Give the app network another subnet, or remove the address from the other interface.",
	CodeNamespaceMissing:   "Start the container again, or disconnect it from the app network.",
}

// Failure is one thing that could not be done. It is an error, and what the socket says about it.
type Failure struct {
	Code Code `json:"code"`
	// What is one of `wireguard`, `peer NODE`, `network NAME`, `attachment NETWORK/NAME`.
	What   string `json:"what"`
	Why    string `json:"why"`
	Remedy string `json:"remedy"`
}

// Failed makes a failure; its texts are bounded and free of control characters.
func Failed(code Code, what string, why error) Failure {
	return Failure{Code: code, What: clip(what), Why: clip(why.Error()), Remedy: remedies[code]}
}

// Failedf is Failed with a reason put together here.
func Failedf(code Code, what, format string, args ...any) Failure {
	return Failed(code, what, fmt.Errorf(format, args...))
}

func (f Failure) Error() string { return f.What + ": " + f.Why }

// Log is the failure as one line for people.
func (f Failure) Log() string { return fmt.Sprintf("%s: %s (%s). %s", f.What, f.Why, f.Code, f.Remedy) }

// Clip bounds the text of an error that may quote its input.
func Clip(err error) error {
	if text := clip(err.Error()); text != err.Error() {
		return errors.New(text)
	}
	return err
}

func clip(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, text)
	if len(text) > TextBytesMax {
		return strings.ToValidUTF8(text[:TextBytesMax], "") + "…"
	}
	return text
}

func quote(text string) string {
	return strconv.Quote(clip(text))
}
