package dmarc

// An Outcome is the fate of a message, or of one report in it. The set is
// closed; others rely on the words.
type Outcome string

// The outcomes. OK to Conflict, and NotKept, mean that a report was read.
const (
	OutcomeOK             Outcome = "ok"
	OutcomeOKWithFlags    Outcome = "ok_with_flags"
	OutcomeDuplicate      Outcome = "duplicate"
	OutcomeConflict       Outcome = "conflict"
	OutcomeNotKept        Outcome = "not_kept"
	OutcomeNotAReport     Outcome = "not_a_report"
	OutcomeEmptyReport    Outcome = "empty_report"
	OutcomeComplaint      Outcome = "complaint"
	OutcomeUnknownDomain  Outcome = "unknown_domain"
	OutcomeUnsupported    Outcome = "unsupported_container"
	OutcomeCorruptArchive Outcome = "corrupt_archive"
	OutcomeBadXML         Outcome = "bad_xml"
	OutcomeBadJSON        Outcome = "bad_json"
	OutcomeHostileXML     Outcome = "hostile_xml"
	OutcomeMissing        Outcome = "missing_required"
	OutcomeTooLarge       Outcome = "too_large"
	OutcomeBomb           Outcome = "bomb_or_too_large"
	OutcomeTimeout        Outcome = "timeout"
	OutcomeTooOld         Outcome = "too_old"
	OutcomeUnreadable     Outcome = "unreadable"
	OutcomeNotStored      Outcome = "not_stored"

	OutcomeUnauthenticated Outcome = "unauthenticated"
	OutcomeDefect          Outcome = "defect"
)

// OutcomeDocs says what each outcome means, in the order of a table.
var OutcomeDocs = []struct {
	Outcome Outcome
	Text    string
}{
	{OutcomeOK, "everything was read and stored"},
	{OutcomeOKWithFlags, "stored; deviations were tolerated and are named by flags"},
	{OutcomeDuplicate, "stored before; nothing changed"},
	{OutcomeConflict, "a report of the same identity has other content; both are kept, the one with more messages counts"},
	{OutcomeNotKept, "a failure report; storing them is switched off"},
	{OutcomeNotAReport, "mail without a report"},
	{OutcomeEmptyReport, "a container with nothing in it"},
	{OutcomeComplaint, "feedback of another kind than DMARC, such as an abuse complaint"},
	{OutcomeUnknownDomain, "a report for a domain that is not configured; parked"},
	{OutcomeUnauthenticated, "a report in a mail that has not been found authentic; parked, and read as soon as it is"},
	{OutcomeUnsupported, "a container that is not opened: .msg, TNEF, opaque S/MIME, encrypted archives"},
	{OutcomeCorruptArchive, "compressed data that cannot be unpacked"},
	{OutcomeBadXML, "XML that breaks off or cannot be understood"},
	{OutcomeBadJSON, "JSON that breaks off or cannot be understood"},
	{OutcomeHostileXML, "XML that declares entities or nests too deep"},
	{OutcomeMissing, "a report without the fields that identify it"},
	{OutcomeTooLarge, "a message, part or report over a limit"},
	{OutcomeBomb, "unpacks to more than the limits allow"},
	{OutcomeTimeout, "took longer than the limit allows"},
	{OutcomeTooOld, "a report about a time that is no longer kept; retention says which"},
	{OutcomeUnreadable, "the mailbox or the disk would not hand it out"},
	{OutcomeDefect, "dmarcd itself failed while reading it; the log has the details, and the message is kept"},
	{OutcomeNotStored, "read, but the database refused it; the raw message is kept"},
}

// Read tells whether the outcome means that a report was read, now or before.
func (o Outcome) Read() bool {
	switch o {
	case OutcomeOK, OutcomeOKWithFlags, OutcomeDuplicate, OutcomeConflict, OutcomeNotKept:
		return true
	}
	return false
}

// Harmless tells whether nothing is wrong: a report was read, or the message
// never held one.
func (o Outcome) Harmless() bool {
	switch o {
	case OutcomeNotAReport, OutcomeEmptyReport, OutcomeComplaint:
		return true
	}
	return o.Read()
}

// An Error is why a message or a part of it could not be read: an outcome, and
// a reason for people that names what was met and what to do.
type Error struct {
	Outcome Outcome
	Reason  string
}

// Error returns outcome and reason.
func (e *Error) Error() string { return string(e.Outcome) + ": " + e.Reason }

// Is makes errors.Is compare outcomes alone.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Outcome == e.Outcome && (t.Reason == "" || t.Reason == e.Reason)
}
