package sample

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A tlsStory is how the TLS of a domain's mail servers fares.
type tlsStory struct {
	sessions  int   // a day, at one reporter; 0: nobody reports
	expired   []int // ages of the days on which a certificate had expired
	badPolicy []int // ages of the days on which a certificate did not fit the policy of MTA-STS
}

// The JSON of RFC 8460, section 4.4.
type tlsReport struct {
	Organization string      `json:"organization-name"`
	DateRange    tlsRange    `json:"date-range"`
	Contact      string      `json:"contact-info"`
	ID           string      `json:"report-id"`
	Policies     []tlsPolicy `json:"policies"`
}

type tlsRange struct {
	Start string `json:"start-datetime"`
	End   string `json:"end-datetime"`
}

type tlsPolicy struct {
	Policy struct {
		Type   string   `json:"policy-type"`
		String []string `json:"policy-string"`
		Domain string   `json:"policy-domain"`
		MXHost []string `json:"mx-host,omitempty"`
	} `json:"policy"`
	Summary struct {
		Successful int64 `json:"total-successful-session-count"`
		Failed     int64 `json:"total-failure-session-count"`
	} `json:"summary"`
	Details []tlsFailure `json:"failure-details,omitempty"`
}

type tlsFailure struct {
	Result       string `json:"result-type"`
	SendingMTA   string `json:"sending-mta-ip,omitempty"`
	ReceivingMX  string `json:"receiving-mx-hostname,omitempty"`
	ReceivingIP  string `json:"receiving-ip,omitempty"`
	Failed       int64  `json:"failed-session-count"`
	FailureCause string `json:"failure-reason-code,omitempty"`
}

// A tlsReporter reports on TLS.
type tlsReporter struct {
	name, address, submitter string
	everyDays                int  // how often it reports when nothing fails
	terse                    bool // no hosts, and the next midnight for the end
}

var tlsReporters = []tlsReporter{
	{"Google Inc.", "smtp-tls-reporting@google.com", "google.com", 5, false},
	{"Microsoft Corporation", "tlsrpt-noreply@microsoft.com", "microsoft.com", 9, true},
}

// stsPolicy is the policy of MTA-STS that a domain serves, and that senders find, by lines.
func stsPolicy(domain string) []string {
	return []string{"version: STSv1", "mode: enforce", "mx: *." + domain, "max_age: 604800"}
}

// Policies has the policies of MTA-STS that the domains of a mailbox serve, by the hosts
// that serve them.
type Policies map[string]string

// PoliciesOf returns the policies that go with what ServeDNS answers.
func PoliciesOf(opts Options) Policies {
	p := Policies{}
	for _, d := range newScene(opts.withDefaults()).domains {
		if d.tls.sessions > 0 {
			p["mta-sts."+d.name] = strings.Join(stsPolicy(d.name), "\r\n") + "\r\n"
		}
	}
	return p
}

// FetchPolicy stands for HTTPS: it returns what a host serves.
func (p Policies) FetchPolicy(_ context.Context, host string) (body []byte, status int, err error) {
	policy, ok := p[host]
	if !ok {
		return nil, http.StatusNotFound, nil
	}
	return []byte(policy), http.StatusOK, nil
}

// tlsReports returns the deliveries of reports about the day before.
func (w *writer) tlsReports(d *domain, day time.Time) []delivery {
	age := w.scene.age(day) + 1
	begin := day.Add(-aDay)
	if d.tls.sessions == 0 || begin.Before(w.scene.first) {
		return nil
	}
	var ds []delivery
	for i, by := range tlsReporters {
		result := ""
		switch {
		case slices.Contains(d.tls.expired, age):
			result = "certificate-expired"
		case slices.Contains(d.tls.badPolicy, age):
			result = "sts-webpki-invalid"
		case age%by.everyDays != 0:
			continue
		}
		at := day.Add(time.Duration(10+3*i)*time.Hour + time.Duration(len(d.name))*time.Minute)
		ds = append(ds, delivery{at, func() (Mail, bool) { return w.tls(by, d, begin, at, result), true }})
	}
	return ds
}

// tls writes a TLS report; result is what went wrong, or "".
func (w *writer) tls(by tlsReporter, d *domain, begin, at time.Time, result string) Mail {
	rnd := w.random("tls", by.name, d.name, begin.Format(time.DateOnly))
	day, mx := begin.Format(time.DateOnly), "mx1."+d.name
	rep := tlsReport{
		Organization: by.name, Contact: by.address, ID: day + "T00:00:00Z_" + d.name,
		DateRange: tlsRange{day + "T00:00:00Z", day + "T23:59:59Z"},
	}
	sts := tlsPolicy{}
	sts.Policy.Type, sts.Policy.Domain = "sts", d.name
	sts.Policy.String = stsPolicy(d.name)
	sts.Summary.Successful = some(rnd, float64(d.tls.sessions))
	if by.terse {
		rep.ID = fmt.Sprintf("%d+%s", seed(w.opts.Seed, rep.ID)>>1, d.name)
		rep.DateRange.End = begin.Add(aDay).Format(time.DateOnly) + "T00:00:00Z"
	} else {
		sts.Policy.MXHost = []string{"*." + d.name}
	}
	if result != "" {
		failure := tlsFailure{Result: result, Failed: 1 + some(rnd, float64(d.tls.sessions)/8), FailureCause: "certificate of " + mx + ": " + result}
		if !by.terse {
			failure.SendingMTA, failure.ReceivingMX, failure.ReceivingIP = "203.0.113.90", mx, mailHost(slices.Index(w.scene.domains, d), 0)
		}
		sts.Summary.Failed, sts.Details = failure.Failed, []tlsFailure{failure}
	}
	rep.Policies = []tlsPolicy{sts}
	w.truth.addTLS(d.name, sts.Summary.Successful, sts.Summary.Failed)

	text, err := json.MarshalIndent(&rep, "", "  ")
	if err != nil {
		panic(err) // strings and numbers always can be written
	}
	h := heading{
		from: by.address, name: by.name, at: at, key: seed(w.opts.Seed, "tls", by.name, rep.ID),
		subject: "Report Domain: " + d.name + "\r\n Submitter: " + by.submitter + "\r\n Report-ID: <" + rep.ID + ">",
		more:    "TLS-Report-Domain: " + d.name + "\r\nTLS-Report-Submitter: " + by.submitter + "\r\n",
	}
	b := h.write(nil)
	file := fmt.Sprintf("%s!%s!%d!%d!001.json.gz", by.submitter, d.name, begin.Unix(), begin.Add(aDay-time.Second).Unix())
	b = fmt.Appendf(b, "Content-Type: multipart/report; report-type=tlsrpt; boundary=\"=_tls\"\r\n\r\n"+
		"--=_tls\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nThis is an SMTP TLS report. Sender: %s\r\n\r\n"+
		"--=_tls\r\nContent-Type: application/tlsrpt+gzip; name=\"%s\"\r\nContent-Disposition: attachment; filename=\"%s\"\r\nContent-Transfer-Encoding: base64\r\n\r\n",
		by.name, file, file)
	b = appendBase64(b, w.gzip(text), 0)
	b = append(b, "\r\n--=_tls--\r\n"...)
	return Mail{Raw: b, Expect: dmarc.OutcomeOK}
}
