package switching

const (
	// learnedMax bounds the MAC addresses learned in one network; the oldest makes room.
	learnedMax = 1024
	// second, in the unit of the times that callers pass.
	second = int64(1e9)
)
