package records

import (
	"context"
	"slices"
	"strings"
)

// bulkMessages a day make a sender a large one (guidelines of Gmail and
// Outlook.com; Yahoo gives no number).
const bulkMessages = 5000

// Traffic is what reports tell of the mail of a domain.
type Traffic struct {
	MessagesADay int
	// Whether nearly all messages pass SPF, pass DKIM, and are aligned by one
	// of the two.
	SPF, DKIM, Aligned bool
}

// BulkFound is how much mail of a domain was reported, and how: the big receivers ask more of those who
// send much.
type BulkFound struct {
	Traffic Traffic
}

func gatherBulk(ctx context.Context, g *gatherer) { g.p.Bulk.Traffic = g.o.Traffic }

// checkBulk judges a domain with much mail by what the big receivers ask for.
func checkBulk(p *Published) []Finding {
	t := p.Bulk.Traffic
	if t.MessagesADay <= bulkMessages {
		return nil
	}
	var missing []string
	lack := func(is bool, what string) {
		if !is {
			missing = append(missing, what)
		}
	}
	lack(t.SPF, "SPF")
	lack(t.DKIM, "DKIM")
	lack(t.Aligned, "alignment of SPF or DKIM with From")
	if view := viewPolicy(p); view.known {
		lack(view.applies, "a DMARC record")
	}
	provider := "Gmail, Yahoo and Outlook.com"
	if len(missing) == 0 {
		provider = "Gmail and Yahoo" // Outlook.com asks for no reverse names
	}
	lack(!slices.ContainsFunc(p.Hosts.Addresses, func(h HostAddress) bool {
		confirmed, known := h.confirmed()
		return h.Sender && known && !confirmed
	}), "a confirmed reverse name for every sending address")
	if len(missing) == 0 {
		return nil
	}
	var v verdicts
	v.add("bulk.sender", p.Domain, "provider", provider, "missing", strings.Join(missing, ", "))
	return v.all
}

var _ = register(Rule{
	ID: "bulk.sender", Record: "all", Severity: Warning, Reference: "sender guidelines of Gmail and Yahoo (2024) and Outlook.com (2025; 550 5.7.515)",
	Condition: "more than 5000 messages a day without all that big receivers ask for",
	What:      "{subject} sends more than 5000 messages a day, and lacks what {provider} require of such senders: {missing}.",
	Why:       "Their mail is refused or put into spam.",
	Fix:       "Add what is missing for every service that sends as {subject}.",
})
