package dmarc

import "net/netip"

// A Choice is yes, no, or either of them.
type Choice uint8

// The zero Choice holds nothing back.
const (
	Either Choice = iota
	Yes
	No
)

// A Filter holds a question to a part of what there is. What it does not name it
// does not restrict.
type Filter struct {
	Subdomains bool         // of the domain that is asked about, too
	Reporter   string       // org_name as reporters write it; "" for all
	Source     netip.Prefix // sending addresses; invalid for all
	// Disposition asks for mail that met it, None for RFC 9990's pass, too;
	// unknown for all.
	Disposition Disposition
	Aligned     Choice // mail that passed DMARC, or that failed
	// Classed asks for sources of one class, as verdicts found it last.
	Classed bool
	Class   Class
}

// A Sort names how a list is sorted: by a field, from the least, or after "-" from
// the greatest; "" as it is usual for the list.
type Sort string

// ErrBadSort is returned for an order that a list is not kept in.
var ErrBadSort = Refusal("the list is not sorted like that")
