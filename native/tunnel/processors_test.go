package main

import "testing"

func TestHalfOfTheProcessorsAreForApplications(t *testing.T) {
	for available, want := range map[int]int{1: 1, 2: 1, 3: 1, 4: 2, 16: 8} {
		if got := share(available); got != want {
			t.Errorf("of %d processors %d, want %d", available, got, want)
		}
	}
}
