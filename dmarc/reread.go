package dmarc

import "time"

// A Reread is a message of the archive as it is read now. The delivery holds
// its parts, and when it was received.
type Reread struct {
	MessageID int64 // in the ledger
	Delivery
}

// A RereadQuery asks for messages of the ledger, oldest first.
type RereadQuery struct {
	After   int64 // number of a message
	Since   time.Time
	Outcome Outcome // "" for all
	Limit   int
}

// RereadOptions say how messages that were read again are stored.
type RereadOptions struct {
	DryRun bool // change nothing, and tell what would change
	// Pass names a run that may be interrupted, and Reached is the message up
	// to which it has come. Both are committed with what changes.
	Pass    string
	Reached int64
}

// A ChangeKind is what became of a part of a message that was read again.
type ChangeKind string

// What became of a part: it is as it was; it holds a report that was not there
// before, or that could not be read; its report says something else now; it could
// be read when it came, cannot now, and is left as it was; it ought to change,
// but cannot.
const (
	ChangeNone     ChangeKind = "unchanged"
	ChangeAdded    ChangeKind = "added"
	ChangeReadable ChangeKind = "now_readable"
	ChangeContent  ChangeKind = "changed"
	ChangeRefused  ChangeKind = "now_refused"
	ChangeLeft     ChangeKind = "left"
)

// A Change is what became of one part of a message that was read again.
type Change struct {
	Message       int64
	Part          string
	Kind          ChangeKind
	Report        string // ID of the stored report, or ""
	Name          string // report_id
	Before, After Tally  // of an aggregate report
	Reason        string
	// Needs is the report that has to count in the place of this one before it
	// can change; "" for none.
	Needs string
}
