package probe

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"selvedge.dev/tunnel/internal/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// pair makes a veth pair, one end here and one in a namespace of its own, each with addresses of both families.
func pair(t *testing.T) {
	t.Helper()
	here, err := netns.Get()
	must(t, err)
	there, err := netns.NewNamed("probe")
	must(t, err)
	must(t, netns.Set(here))
	t.Cleanup(func() { here.Close(); there.Close(); _ = netns.DeleteNamed("probe") })
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "probe0"
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "probe1", PeerNamespace: netlink.NsFd(there)}))
	handle, err := netlink.NewHandleAt(there)
	must(t, err)
	defer handle.Close()
	near, err := netlink.LinkByName("probe0")
	must(t, err)
	far, err := handle.LinkByName("probe1")
	must(t, err)
	for i, address := range []string{"10.99.0.1/24", "fd99::1/64"} {
		parsed, err := netlink.ParseAddr(address)
		must(t, err)
		parsed.Flags = []int{0, 2}[i] // IFA_F_NODAD
		must(t, netlink.AddrAdd(near, parsed))
	}
	for i, address := range []string{"10.99.0.2/24", "fd99::2/64"} {
		parsed, err := netlink.ParseAddr(address)
		must(t, err)
		parsed.Flags = []int{0, 2}[i]
		must(t, handle.AddrAdd(far, parsed))
	}
	must(t, netlink.LinkSetUp(near))
	must(t, handle.LinkSetUp(far))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestEcho(t *testing.T) {
	pair(t)
	for _, address := range []string{"10.99.0.2", "fd99::2", "::ffff:10.99.0.2"} {
		for _, size := range []int{0, 56, 1400, 9000} {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			took, err := Echo(ctx, "probe0", netip.MustParseAddr(address), size)
			cancel()
			if err != nil || took <= 0 || took > 5*time.Second {
				t.Errorf("%s with %d octets: %v, %v", address, size, took, err)
			}
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Echo(short, "probe0", netip.MustParseAddr("10.99.0.77"), 56); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an address that nobody has: %v", err)
	}
	if _, err := Echo(t.Context(), "nothing0", netip.MustParseAddr("10.99.0.2"), 56); err == nil {
		t.Error("a device that is not there took an echo")
	}
	if _, err := Echo(t.Context(), "probe0", netip.MustParseAddr("10.99.0.2"), SizeBytesMax+1); err == nil {
		t.Error("an echo that fits no packet was sent")
	}
}
