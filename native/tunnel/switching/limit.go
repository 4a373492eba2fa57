package switching

import "sync"

// bucket is a token bucket: rate tokens a second, at most burst of them at once. The zero bucket lets nothing through.
type bucket struct {
	mu     sync.Mutex
	tokens float64
	last   int64
}

// take tells whether one more packet may pass at this time.
func (b *bucket) take(now int64, rate, burst float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last == 0 {
		b.tokens = burst
	} else if now > b.last {
		b.tokens = min(burst, b.tokens+rate*float64(now-b.last)/float64(second))
	}
	b.last = max(now, 1)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
