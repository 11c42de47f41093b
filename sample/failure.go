package sample

import (
	"fmt"
	"slices"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// failureReports returns the deliveries of failure reports about the day
// before: pebble.example sends one about a forged message.
func (w *writer) failureReports(d *domain, day time.Time) []delivery {
	arrival := day.Add(-aDay).Add(14*time.Hour + 21*time.Minute)
	if !slices.Contains(d.failures, w.scene.age(arrival)) || arrival.Before(w.scene.first) {
		return nil
	}
	at := arrival.Add(20 * time.Minute)
	if at.Before(day) {
		at = day.Add(7 * time.Minute)
	}
	return []delivery{{at, func() (Mail, bool) { return w.failure(d, arrival, at), true }}}
}

// failure writes a failure report (RFC 9991) with the header of the message.
func (w *writer) failure(d *domain, arrival, at time.Time) Mail {
	w.truth.addFailure(d.name)
	rnd := w.random("failure", d.name, arrival.Format(time.DateOnly))
	source := stranger(rnd, seed(w.opts.Seed, "failure"), 1000)
	id := fmt.Sprintf("%x@bulk-offers.example", rnd.Uint64())
	const when = time.RFC1123Z
	h := heading{
		from: "dmarc-failures@pebble.example", name: "pebble.example", at: at, key: seed(w.opts.Seed, "failure", id),
		subject: "DMARC failure report for " + d.name + " from IP " + source.String(),
	}
	b := h.write(nil)
	b = fmt.Appendf(b, "Content-Type: multipart/report; report-type=feedback-report; boundary=\"=_arf\"\r\n\r\n"+
		"--=_arf\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nA message in the name of %[1]s from %[2]s did not pass DMARC.\r\n\r\n"+
		"--=_arf\r\nContent-Type: message/feedback-report\r\n\r\n"+
		"Feedback-Type: auth-failure\r\nUser-Agent: pebble-mta/2.3\r\nVersion: 1\r\nOriginal-Mail-From: <offers@bulk-offers.example>\r\n"+
		"Arrival-Date: %[3]s\r\nSource-IP: %[2]s\r\nReported-Domain: %[1]s\r\nAuth-Failure: dmarc\r\nIdentity-Alignment: none\r\nDelivery-Result: policy\r\n"+
		"Authentication-Results: mx.pebble.example; dkim=none; spf=none smtp.mailfrom=bulk-offers.example; dmarc=fail header.from=%[1]s\r\n\r\n"+
		"--=_arf\r\nContent-Type: text/rfc822-headers\r\n\r\n"+
		"Received: from [%[2]s] by mx.pebble.example with ESMTP; %[3]s\r\nFrom: \"Accounts\" <accounts@%[1]s>\r\nTo: <reader@pebble.example>\r\n"+
		"Subject: Your invoice is overdue\r\nDate: %[3]s\r\nMessage-ID: <%[4]s>\r\n\r\n--=_arf--\r\n",
		d.name, source, arrival.Format(when), id)
	return Mail{Raw: b, Expect: dmarc.OutcomeOK}
}
