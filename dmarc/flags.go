package dmarc

import "math/bits"

// Flags are the deviations met while reading a report. They are a closed set:
// each has a word, which others may rely on, and a sentence for people.
type Flags uint64

// The flags of a report.
const (
	FlagOrgNameDerived      Flags = 1 << iota // org_name was missing
	FlagReportIDDerived                       // report_id was missing
	FlagPeriodDerived                         // date_range was missing
	FlagDomainDerived                         // policy_published/domain was missing
	FlagNoPolicy                              // no policy_published
	FlagPolicyRepeated                        // more than one policy_published; the first counts
	FlagNoRows                                // a report without rows
	FlagRowsDropped                           // rows that could not be read were left out
	FlagRowFlags                              // some rows have flags of their own
	FlagEmptyPeriod                           // the end is not after the begin
	FlagEstimatedDays                         // a period of several days; daily counts are shares
	FlagOverlongPeriod                        // more than 31 days; in totals only
	FlagImplausibleDates                      // before 2012, or in the future; in totals only
	FlagPeriodDiffers                         // the file name tells another period
	FlagForeignAuthor                         // a header_from outside the policy domain
	FlagUnknownWords                          // words of no standard
	FlagTruncated                             // lists longer than the limit were cut
	FlagCut                                   // values longer than the limit were cut
	FlagBadEncoding                           // bytes that are no text in the declared encoding were replaced
	FlagIllegalCharacters                     // characters that XML forbids were removed
	FlagStrayMarkup                           // markup inside values, or nesting that does not close, was repaired
	FlagTextOutsideRoot                       // text or elements around the report were skipped
	FlagLegacyEncoding                        // not UTF-8
	FlagTrailingData                          // bytes after the end of the compressed data
	FlagAlias                                 // an element or field under another name
	FlagMetadataAfterRows                     // the metadata or the policy stand after the rows
	FlagNestedCompression                     // compressed more than once
	FlagMislabelled                           // media type or file name tell another format than the content
	FlagMissingFields                         // required fields are absent and have no substitute
	FlagCountsDiffer                          // TLS: the details and the summary differ
	FlagPossibleDoubleCount                   // another report of the same reporter and period has the same rows
	FlagOverlaps                              // the period overlaps another report of the same reporter
	FlagRowsNotKept                           // came after the rows of its month were given up; in totals only
	FlagReduced                               // read from what parsedmarc kept of it
)

// RowFlags are the deviations of a row.
type RowFlags uint16

// The flags of a row.
const (
	RowNoSource       RowFlags = 1 << iota // no source address that can be read
	RowCountDerived                        // the count was missing; read as 1
	RowZeroCount                           // a count of 0: a sign of life, no traffic
	RowNoResult                            // policy_evaluated lacks dkim or spf
	RowForeignAuthor                       // header_from lies outside the policy domain
	RowUnknownWords                        // words of no standard
	RowTruncated                           // lists were cut
	RowCut                                 // values were cut
	RowSPFDomainOther                      // the SPF domain differs from envelope_from
	RowBadName                             // a name that is no domain was kept as written
)

// A FlagDoc describes a flag.
type FlagDoc struct {
	Name string // the word in outputs
	Text string // what it means
}

// ReportFlagDocs describes the flags of a report, by bit.
var ReportFlagDocs = [...]FlagDoc{
	{"org_name_derived", "org_name is missing; taken from the address, the file name or the mail"},
	{"report_id_derived", "report_id is missing; taken from the subject or made from the content"},
	{"period_derived", "date_range is missing; taken from the file name"},
	{"domain_derived", "the policy domain is missing; taken from the file name, the subject or the rows"},
	{"no_policy", "the report has no policy_published"},
	{"policy_repeated", "more than one policy_published; the first counts"},
	{"no_rows", "the report has no rows"},
	{"rows_dropped", "rows that could not be read were left out and counted"},
	{"row_flags", "some rows have flags of their own"},
	{"empty_period", "the period does not end after it begins"},
	{"estimated_days", "the period is longer than a day; counts by day are shares of it"},
	{"overlong_period", "the period is longer than 31 days; counted in totals only"},
	{"implausible_dates", "the period lies before 2012 or in the future; counted in totals only"},
	{"period_differs", "the file name tells another period than the report; the report counts"},
	{"foreign_author", "rows whose header_from lies outside the policy domain"},
	{"unknown_words", "results, dispositions or policies that no standard knows"},
	{"truncated", "lists longer than the limit were cut"},
	{"cut", "values longer than the limit were cut"},
	{"bad_encoding", "bytes that are no text in the declared encoding were replaced"},
	{"illegal_characters", "characters that XML forbids were removed"},
	{"stray_markup", "markup inside values, or elements that do not close, were repaired"},
	{"text_outside_root", "text or elements around the report were skipped"},
	{"legacy_encoding", "the text is in another encoding than UTF-8"},
	{"trailing_data", "bytes after the end of the compressed data were ignored"},
	{"alias", "an element or field stands under another name"},
	{"metadata_after_rows", "metadata or policy stand after the rows"},
	{"nested_compression", "the report was compressed more than once"},
	{"mislabelled", "media type or file name tell another format than the content"},
	{"missing_fields", "required fields are absent"},
	{"counts_differ", "the failure details and the summary of a TLS report differ"},
	{"possible_double_count", "another report of this reporter and period has the same rows"},
	{"overlaps", "the period overlaps another report of this reporter"},
	{"rows_not_kept", "the report came when the rows of its month were no longer kept; it counts in totals, its rows are not stored"},
	{"reduced", "read from what parsedmarc kept of the report, which is not all of it; the report itself counts in its place where it is known"},
}

// RowFlagDocs describes the flags of a row, by bit.
var RowFlagDocs = [...]FlagDoc{
	{"no_source", "no source address that can be read"},
	{"count_derived", "the count is missing; read as 1"},
	{"zero_count", "a count of 0: a sign of life, no traffic"},
	{"no_result", "policy_evaluated lacks dkim or spf"},
	{"foreign_author", "header_from lies outside the policy domain"},
	{"unknown_words", "results or dispositions that no standard knows"},
	{"truncated", "lists longer than the limit were cut"},
	{"cut", "values longer than the limit were cut"},
	{"spf_domain_other", "the domain of the SPF check differs from envelope_from"},
	{"bad_name", "a name that is no domain was kept as written"},
}

// Names returns the words of the flags that are set, by bit; never nil.
func (f Flags) Names() []string { return flagNames(uint64(f), ReportFlagDocs[:]) }

// Names returns the words of the flags that are set, by bit; never nil.
func (f RowFlags) Names() []string { return flagNames(uint64(f), RowFlagDocs[:]) }

func flagNames(f uint64, docs []FlagDoc) []string {
	names := make([]string, 0, bits.OnesCount64(f))
	for ; f != 0; f &= f - 1 {
		names = append(names, docs[bits.TrailingZeros64(f)].Name)
	}
	return names
}
