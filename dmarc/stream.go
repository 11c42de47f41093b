package dmarc

import (
	"errors"
	"time"
)

// A ReportChange says that an aggregate report counts otherwise than before: it
// came, was replaced, or does not count any more.
type ReportChange struct {
	Report   string // id of the stored report
	Revision int64  // grows with each change of the report, from 1
	Removed  bool   // the report itself is gone
	Day      time.Time
	Next     Cursor // the place in the stream behind it
}

// ErrNotYet is returned for a change that was made, but cannot be seen yet on the
// machine that the report lies on.
var ErrNotYet = errors.New("the change cannot be seen yet")

// A CurrentReport is what counts of an aggregate report after a change.
type CurrentReport struct {
	ReportSummary // without rows if it does not count; Report.Policy.Domain alone is set if it is gone
	Revision      int64
	Removed       bool // it does not count
	RowsKept      bool // false: it has rows, and they are no longer kept
}

// A StreamState is how far a stream has come.
type StreamState struct {
	Name    string
	Moved   time.Time // last
	Begun   bool      // what was stored before the stream is behind it
	Waiting int64     // changes that it has not come to
	Since   time.Time // when the oldest of those was made; zero for none
}
