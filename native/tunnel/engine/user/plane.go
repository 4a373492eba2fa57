package user

import (
	"selvedge.dev/tunnel/switching"
)

// plane is what the data path looks things up in. It is replaced as a whole.
type plane struct {
	vtep  switching.IPv4
	byVNI map[uint32]*lane
	// byMember is some network that a VTEP is a member of, to count what can be counted nowhere better.
	byMember map[switching.IPv4]*lane
	// ports are those of this host's own WireGuard.
	ports []uint16
}

// refuse counts a packet that names no network of ours. WireGuard has made sure of the source.
func (p *plane) refuse(source switching.IPv4, raw []byte, r switching.Reason) {
	if source == (switching.IPv4{}) && len(raw) >= 20 {
		source = switching.IPv4(raw[12:16])
	}
	if l := p.byMember[source]; l != nil {
		l.network.Load().Refuse(r)
	}
}

// routes says which identity's port reaches a VTEP.
type routes struct {
	byVTEP map[switching.IPv4]*port // while keys rotate
}

// via returns the port for a VTEP; the one that reads, if nothing else is known.
func (r *routes) via(to switching.IPv4, reader *port) *port {
	if r.byVTEP == nil {
		return reader
	}
	if p := r.byVTEP[to]; p != nil {
		return p
	}
	return reader
}
