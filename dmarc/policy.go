package dmarc

// A Policy is the value of p, sp or np.
type Policy uint8

// The policies of RFC 9989, section 4.7, by strictness.
const (
	PolicyUnknown Policy = iota
	PolicyNone
	PolicyQuarantine
	PolicyReject
)

// String returns the value as in a record.
func (p Policy) String() string { return name(policyWords[:], int(p)) }

var policyWords = [...]string{"", "none", "quarantine", "reject"}

// ParsePolicy returns the policy that a lower-case word stands for, or
// PolicyUnknown.
func ParsePolicy(word string) Policy { return Policy(index(policyWords[:], word)) }

// A Disposition is what a reporter did with messages.
type Disposition uint8

// The dispositions of RFC 9990. Pass means that the messages passed and the
// policy is an enforcing one; in totals it counts under none.
const (
	DispositionUnknown Disposition = iota
	DispositionNone
	DispositionQuarantine
	DispositionReject
	DispositionPass
)

// String returns the value as in a report.
func (d Disposition) String() string { return name(dispositionWords[:], int(d)) }

var dispositionWords = [...]string{"", "none", "quarantine", "reject", "pass"}

// ParseDisposition returns the disposition that a lower-case word stands for,
// or DispositionUnknown. Softfail, which one reporter wrote, is quarantine.
func ParseDisposition(word string) Disposition {
	if word == "softfail" {
		return DispositionQuarantine
	}
	return Disposition(index(dispositionWords[:], word))
}

// An AlignmentMode is the value of adkim or aspf.
type AlignmentMode uint8

// The modes of RFC 9989, section 4.4. An unknown mode is computed as relaxed.
const (
	AlignmentUnknown AlignmentMode = iota
	AlignmentRelaxed
	AlignmentStrict
)

// String returns the value as in a record: r or s; "" for none.
func (m AlignmentMode) String() string { return name(alignmentWords[:], int(m)) }

var alignmentWords = [...]string{"", "r", "s"}

// ParseAlignmentMode returns the mode that "r" or "s" stands for, or
// AlignmentUnknown.
func ParseAlignmentMode(word string) AlignmentMode {
	return AlignmentMode(index(alignmentWords[:], word))
}

// A Result is a result of DKIM (RFC 8601, section 2.7.1) or SPF (RFC 7208,
// section 2.6).
type Result uint8

// The results of either mechanism. Unknown is absent, or a word of no standard.
const (
	ResultUnknown Result = iota
	ResultPass
	ResultFail
	ResultNone
	ResultNeutral
	ResultPolicy
	ResultSoftFail
	ResultTempError
	ResultPermError
)

// String returns the value as in a report.
func (r Result) String() string { return name(resultWords[:], int(r)) }

var resultWords = [...]string{"", "pass", "fail", "none", "neutral", "policy", "softfail", "temperror", "permerror"}

// ParseResult returns the result that a lower-case word of the standards
// stands for, or ResultUnknown.
func ParseResult(word string) Result { return Result(index(resultWords[:], word)) }

func name(words []string, i int) string {
	if i < len(words) {
		return words[i]
	}
	return ""
}

func index(words []string, word string) int {
	for i, w := range words {
		if w == word {
			return i
		}
	}
	return 0
}
