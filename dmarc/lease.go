package dmarc

import "errors"

// A Lease is the right of one process to work on something. The zero Lease is
// none.
type Lease struct {
	Name  string
	Epoch int64 // of whom it was given to: no two have the same
}

// ErrLeaseLost is returned when another process has taken over.
var ErrLeaseLost = errors.New("another process has taken over")
