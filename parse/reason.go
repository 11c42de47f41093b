package parse

import (
	"strings"

	"github.com/dmarcd/dmarcd/dmarc"
)

// verdict tells what a message is in which there was nothing of interest: by
// its header, else by what was noted about its parts.
func verdict(h header, note string) (dmarc.Outcome, string) {
	typ, params := h.contentType()
	report := strings.ToLower(params["report-type"])
	from := strings.ToLower(h["from"])
	subject := strings.ToLower(decodeText(h["subject"]))
	auto := strings.ToLower(h["autosubmitted"])
	begins := func(words ...string) bool {
		for _, w := range words {
			if strings.HasPrefix(subject, w) {
				return true
			}
		}
		return false
	}
	switch {
	case begins("complaint about message from"):
		return dmarc.OutcomeComplaint, "a complaint about a message, not a DMARC failure report"
	case report == "disposition-notification", begins("read:", "read receipt", "return receipt", "disposition notification"):
		return dmarc.OutcomeNotAReport, "a receipt"
	case report == "delivery-status", h["xfailedrecipients"] != "", strings.Contains(from, "mailer-daemon@"), typ == "message/delivery-status",
		begins("undeliver", "delivery status notification", "mail delivery failed", "returned mail", "failure notice", "delivery failure", "mail delivery failure", "undelivered mail"):
		return dmarc.OutcomeNotAReport, "a delivery status notification"
	case begins("unsubscribe"), h["xappleunsubscribe"] != "":
		return dmarc.OutcomeNotAReport, "a request to unsubscribe"
	case strings.HasPrefix(auto, "auto-replied"), h["xautoreply"] != "", h["xautorespond"] != "",
		strings.EqualFold(h["precedence"], "auto_reply"),
		begins("automatic reply", "auto reply", "autoreply", "auto:", "auto-reply", "out of office", "out-of-office"):
		return dmarc.OutcomeNotAReport, "an automatic reply"
	case note != "":
		return dmarc.OutcomeNotAReport, note
	}
	return dmarc.OutcomeNotAReport, "no report in it"
}
