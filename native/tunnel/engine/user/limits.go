package user

import "time"

const (
	// batchFrames is how many packets one Read returns at most, and what the buffers of one Write are made for.
	batchFrames = 128
	// queuePackets bounds the packets handed from the identity that reads the TAPs to another one, while keys rotate.
	queuePackets = 256
	// wireguardQueue bounds the batches that wait for encryption and decryption, for the device and for each peer. A batch pins at most
	// one buffer of 128 KiB; more of them would be delay, not speed.
	wireguardQueue = 64
	// stagedBatches bounds what waits for a handshake, per peer.
	stagedBatches = 32
	// eventsMax is how many events wait for the daemon.
	eventsMax = 256
	// epollEventsMax is how many TAPs one look finds ready.
	epollEventsMax = 64

	// probeEvery is how often a carried peer with a known address is tried directly.
	probeEvery = 2 * time.Second
	// rotateEvery is how often the identities are looked at while keys rotate.
	rotateEvery = 100 * time.Millisecond
	// standingMax is how old a handshake may be for its session to be chosen: WireGuard rejects what is older than 180 s.
	standingMax = 170 * time.Second
	// clashPatience is how long two handshakes begun at once have to come to something; more than the 20 ms in which WireGuard refuses
	// a second initiation.
	clashPatience = 150 * time.Millisecond
	// greetMax is how many new peers one Apply greets with a handshake; more of them wait for traffic, as WireGuard does.
	greetMax = 256
	// heardAgain is the silence after which being heard is news.
	heardAgain = 15 * time.Second

	// wireguardMTU is what WireGuard pads to when there is no network yet.
	wireguardMTU = 1420
	// gcPercent and memoryLimitBytes: nothing is allocated per packet, so collections are rare and the heap may stay small.
	gcPercent        = 50
	memoryLimitBytes = 64 << 20
)

const (
	// headMax is the longest headers for which a super-frame is scattered: Ethernet, IPv6, TCP with all options.
	headMax = 14 + 40 + 60
	// scatterSegmentsMax is how many segments a scattered frame may have in the batch; scatterSizeMin the smallest segment worth it.
	scatterSegmentsMax = 64
	scatterSizeMin     = 512
	// shapeMissesMax is how many frames of another kind a lane may hand over before no super-frame is expected any more.
	shapeMissesMax = 8
)
