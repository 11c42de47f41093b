package dmarc

// A Tally counts messages by the reporter's verdict. All fields count
// messages, except Rows.
type Tally struct {
	Rows        int64
	Messages    int64
	DMARCPass   int64 // DKIM or SPF aligned
	DKIMAligned int64
	SPFAligned  int64
	None        int64 // dispositions; RFC 9990's "pass" counts here
	Quarantine  int64
	Reject      int64
	Pass        int64 // of None: those whose disposition is "pass"
	Unstated    int64 // no disposition, or an unknown word
}

// Add counts a row.
func (t *Tally) Add(r *Row) { t.AddVerdict(r.Verdict(), 1, r.Count) }

// AddVerdict counts rows that share a verdict.
func (t *Tally) AddVerdict(v Verdict, rows, messages int64) {
	t.Rows += rows
	t.Messages += messages
	if v&(VerdictDKIM|VerdictSPF) != 0 {
		t.DMARCPass += messages
	}
	if v&VerdictDKIM != 0 {
		t.DKIMAligned += messages
	}
	if v&VerdictSPF != 0 {
		t.SPFAligned += messages
	}
	switch v.Disposition() {
	case DispositionNone:
		t.None += messages
	case DispositionPass:
		t.None += messages
		t.Pass += messages
	case DispositionQuarantine:
		t.Quarantine += messages
	case DispositionReject:
		t.Reject += messages
	default:
		t.Unstated += messages
	}
}

// Merge adds another tally.
func (t *Tally) Merge(o Tally) {
	t.Rows += o.Rows
	t.Messages += o.Messages
	t.DMARCPass += o.DMARCPass
	t.DKIMAligned += o.DKIMAligned
	t.SPFAligned += o.SPFAligned
	t.None += o.None
	t.Quarantine += o.Quarantine
	t.Reject += o.Reject
	t.Pass += o.Pass
	t.Unstated += o.Unstated
}

// PassRate returns the share of messages that passed DMARC, from 0 to 1, and
// false when there are no messages.
func (t Tally) PassRate() (float64, bool) {
	if t.Messages == 0 {
		return 0, false
	}
	return float64(t.DMARCPass) / float64(t.Messages), true
}

// A Verdict is what a reporter decided about a row, in a few bits: rollups are
// kept by it.
type Verdict uint8

// The low bits tell which mechanisms were aligned, and which of them the
// report says nothing readable about; the disposition lies above.
const (
	VerdictDKIM        Verdict = 1 << 0
	VerdictSPF         Verdict = 1 << 1
	VerdictDKIMUnknown Verdict = 1 << 2
	VerdictSPFUnknown  Verdict = 1 << 3

	dispositionShift = 4
)

// Verdict returns the reporter's verdict about the row.
func (r *Row) Verdict() Verdict {
	v := Verdict(r.Disposition) << dispositionShift
	switch r.DKIM {
	case ResultPass:
		v |= VerdictDKIM
	case ResultUnknown:
		v |= VerdictDKIMUnknown
	}
	switch r.SPF {
	case ResultPass:
		v |= VerdictSPF
	case ResultUnknown:
		v |= VerdictSPFUnknown
	}
	return v
}

// Disposition returns what the reporter did.
func (v Verdict) Disposition() Disposition { return Disposition(v >> dispositionShift & 7) }
