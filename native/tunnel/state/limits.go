package state

// Every bound of the desired state, its unit last in the name. A line is bounded before it is buffered (LineBytesMax), and counted
// before it is decoded (ObjectsMax, ValuesMax), so that a short hostile line cannot become a large value in memory.
const (
	// LineBytesMax is the longest line of the control socket, without its newline.
	LineBytesMax = 16 << 20
	// ObjectsMax and ValuesMax bound what a line may hold: far above 200 networks of 50 peers, which are 10,000 objects.
	ObjectsMax = 128 << 10
	ValuesMax  = 1 << 20

	PeersMax                 = 4096
	NetworksMax              = 1024
	RemotesPerNetworkMax     = 16384
	LocalsPerNetworkMax      = 1024
	AttachmentsPerNetworkMax = 256
	AddressesPerEndpointMax  = 8
	// OwnKeysMax and PeerKeysMax: the newest, and while rotating the one before.
	OwnKeysMax  = 2
	PeerKeysMax = 2

	NetworkNameBytesMax    = 32
	AttachmentNameBytesMax = 64
	// NodeNameBytesMax and OwnerBytesMax keep a device's mark, `selvedge OWNER NETWORK`, below the 255 bytes of an ifalias.
	NodeNameBytesMax = 128
	OwnerBytesMax    = 128
	// InterfaceNameBytesMax is the kernel's IFNAMSIZ without the closing zero.
	InterfaceNameBytesMax = 15
	NamespacePathBytesMax = 1024

	VNIMax        = 1<<24 - 1
	MTUBytesMin   = 576
	MTUBytesMax   = 65000
	KeepaliveSMax = 120
	// BroadcastPPSMax bounds what a network may be allowed to flood, in packets a second.
	BroadcastPPSMax = 100000
	PIDMax          = 1 << 22
	PrefixBits4Min  = 8
	PrefixBits6Min  = 16

	// TextBytesMax is the longest text of a failure or an event: what comes from outside must not flood a log.
	TextBytesMax = 300
)
