// Package racetest tells tests whether races are watched for, which makes them ten times as slow.
package racetest

import "testing"

// Calm skips a test while races are watched for: one that works in other processes, where nobody
// watches, or does one thing after the other. It is run without the watch as well.
func Calm(t testing.TB) {
	t.Helper()
	if watched {
		t.Skip("it has no races to watch for")
	}
}
