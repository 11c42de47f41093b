package dmarc

import (
	"io"
	"time"
)

// A Blob is bytes that can be read again and again, wherever they are kept.
type Blob interface {
	io.ReaderAt
	Size() int64
}

// A Place is a position in an IMAP mailbox (RFC 9051, section 2.3.1.1). The
// zero Place is before every message.
type Place struct {
	UIDValidity uint32
	UID         uint32
}

// A Delivery is one message or file as it was taken in, and what was found in
// it: what the store adds in one transaction.
type Delivery struct {
	Mailbox string // name of the mailbox; MailboxImport and so on for what is no IMAP
	Place   Place  // of this message; zero if it does not come from IMAP
	// Reached is the place up to which everything has been handed over, this
	// message included. The store commits it with the message.
	Reached Place
	// Lease is what the mailbox is read under; the store commits only while it
	// holds. Zero: nobody else reads there.
	Lease Lease

	Digest     Digest // of the bytes as they came
	Raw        Blob   // nil if there are none to keep
	Size       int64
	MessageID  string
	From       string
	Subject    string
	Date       time.Time // of the mail, as it says; may be zero
	ReceivedAt time.Time // by dmarcd, UTC
	Source     string    // file path, or "" for a mailbox

	Parts []Part

	// Authentic is set once the mail has been found to be so.
	Authentic bool

	// Outcome and Reason are for a message in which no part was of
	// interest: without parts they are its fate.
	Outcome Outcome
	Reason  string
}

// Names of the mailboxes that stand for other ways in than IMAP. What comes by
// them is known by its digest.
const (
	MailboxImport    = "import"
	MailboxUpload    = "upload"
	MailboxSMTP      = "smtp"
	MailboxTLSRPT    = "tlsrpt"
	MailboxDirectory = "directory"
)

// A Part is a report found in a message, or what was found instead of one:
// exactly one of Aggregate, Failure, TLS and Outcome is set.
type Part struct {
	Path      string // where in the message: "2", "1.2/report.xml"
	Aggregate *AggregateReport
	Failure   *FailureReport
	TLS       *TLSReport

	Outcome Outcome // why there is no report
	Reason  string

	// Text opens the text of an aggregate or TLS report, unpacked, as it stands in
	// the message. Like the rows, it can be read as long as the message can.
	Text func() (io.ReadCloser, error)
}

// A Fate is what became of a delivery, as committed.
type Fate struct {
	MessageID int64 // in the ledger
	Known     bool  // the ledger had it already: nothing was changed
	Outcome   Outcome
	Reason    string

	Added, Duplicate, Conflict, Refused int   // reports
	Rows                                int64 // rows added
}

// TransportAuth tells whether the mail that carried reports is authentic.
type TransportAuth uint8

// Unknown is also what has not been checked yet, and what came otherwise than
// by mail.
const (
	TransportUnknown TransportAuth = iota
	TransportPass
	TransportFail
)

// String returns the word for what is known of the mail.
func (t TransportAuth) String() string { return name(transportWords[:], int(t)) }

var transportWords = [...]string{"unknown", "pass", "fail"}

// A TransportVerdict is what was found out about the mail that carried reports.
type TransportVerdict struct {
	Auth   TransportAuth
	Domain string // that signed it, or that a trusted server found authentic; "" unless Auth is TransportPass
	Reason string
}
