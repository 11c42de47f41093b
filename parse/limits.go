package parse

import (
	"math"
	"strconv"
	"time"
)

// Limits bound what a stranger's message may cost. Each is checked while
// reading; a refusal names the limit, the value met and the setting.
type Limits struct {
	Message       int64         // bytes of a raw message or file
	Part          int64         // bytes of one decoded part
	Unpacked      int64         // bytes that one payload may unpack to
	Ratio         int64         // of unpacked to packed bytes, once more than RatioAfter are out
	RatioAfter    int64         // bytes
	TotalUnpacked int64         // bytes that all payloads of a message may unpack to
	Layers        int           // of compression
	Members       int           // of an archive
	MIMEDepth     int           // of nested multiparts
	MIMEParts     int           // of a message
	NestedMails   int           // of messages within messages
	Depth         int           // of XML elements or JSON values
	Text          int64         // bytes of the text of an XML element
	Rows          int64         // of an aggregate report
	AuthDKIM      int           // DKIM results of a row
	AuthSPF       int           // SPF results of a row
	Reasons       int           // of a row
	Errors        int           // of a report
	TLSPolicies   int           // of a TLS report
	TLSDetails    int           // failure details of a TLS report, over all policies
	Count         int64         // messages of a row
	SampleHeaders int64         // bytes of headers of a failure sample
	Time          time.Duration // for one message
	// Zone is no limit: the time zone, by its name, of dates without one in what
	// parsedmarc wrote; "" for UTC.
	Zone string
}

// size writes a number of bytes for people: a round one as settings are written, such as
// 64 MiB, any other with a digit, such as 1.2 GB.
func size(n int64) string {
	for i, unit := range []string{"GiB", "MiB", "KiB"} {
		if one := int64(1) << (30 - 10*i); n >= one && n%one == 0 {
			return strconv.FormatInt(n/one, 10) + " " + unit
		}
	}
	for i, unit := range []string{"GB", "MB", "kB"} {
		if one := math.Pow10(9 - 3*i); float64(n) >= one {
			return strconv.FormatFloat(float64(n)/one, 'f', 1, 64) + " " + unit
		}
	}
	return strconv.FormatInt(n, 10) + " bytes"
}

// Lengths of text, in bytes; longer text is cut at a rune boundary.
const (
	maxName    = 255  // domains, selectors
	maxID      = 512  // names of people, identifiers
	maxComment = 2000 // comments, human_result, errors
)

// DefaultLimits are what fits real reports with room to spare.
var DefaultLimits = Limits{
	Message:       64 << 20,
	Part:          48 << 20,
	Unpacked:      1 << 30,
	Ratio:         300,
	RatioAfter:    4 << 20,
	TotalUnpacked: 2 << 30,
	Layers:        3,
	Members:       20,
	MIMEDepth:     10,
	MIMEParts:     200,
	NestedMails:   5,
	Depth:         32,
	Text:          8 << 20,
	Rows:          1_000_000,
	AuthDKIM:      100,
	AuthSPF:       10,
	Reasons:       20,
	Errors:        50,
	TLSPolicies:   1_000,
	TLSDetails:    20_000,
	Count:         1 << 40,
	SampleHeaders: 64 << 10,
	Time:          60 * time.Second,
	Zone:          "UTC",
}
