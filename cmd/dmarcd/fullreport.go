package main

import (
	"github.com/dmarcd/dmarcd/dmarc"
)

// What --full adds, in the words of the standards. What a report does not say
// is null.

type (
	aggregateJSON struct {
		Version   *string       `json:"version"`
		Namespace string        `json:"namespace"`
		Metadata  metadataJSON  `json:"report_metadata"`
		Policy    policyJSON    `json:"policy_published"`
		Dropped   droppedJSON   `json:"dropped"`
		Hash      string        `json:"hash"`
		Totals    allTotalsJSON `json:"totals"`
		Flags     []string      `json:"flags"`
	}
	metadataJSON struct {
		OrgName          string   `json:"org_name"`
		Email            *string  `json:"email"`
		ExtraContactInfo *string  `json:"extra_contact_info"`
		ReportID         string   `json:"report_id"`
		Begin            *string  `json:"begin"`
		End              *string  `json:"end"`
		Errors           []string `json:"errors"`
		Generator        *string  `json:"generator"`
	}
	policyJSON struct {
		Domain          string  `json:"domain"`
		DiscoveryMethod *string `json:"discovery_method"`
		ADKIM           *string `json:"adkim"`
		ASPF            *string `json:"aspf"`
		P               *string `json:"p"`
		SP              *string `json:"sp"`
		NP              *string `json:"np"`
		Pct             *int    `json:"pct"`
		FO              *string `json:"fo"`
		Testing         *bool   `json:"testing"`
	}
	droppedJSON struct {
		Rows     int64 `json:"rows"`
		Messages int64 `json:"messages"`
	}
	allTotalsJSON struct {
		totals
		Pass     int64 `json:"pass"`     // of none: those whose disposition is "pass"
		Unstated int64 `json:"unstated"` // no disposition that can be read
	}
	rowJSON struct {
		SourceIP    *string         `json:"source_ip"`
		SourceText  *string         `json:"source_text,omitempty"`
		Count       int64           `json:"count"`
		Evaluated   evaluatedJSON   `json:"policy_evaluated"`
		Identifiers identifiersJSON `json:"identifiers"`
		Auth        authJSON        `json:"auth_results"`
		Recomputed  recomputedJSON  `json:"recomputed"`
		Flags       []string        `json:"flags"`
	}
	evaluatedJSON struct {
		Disposition *string      `json:"disposition"`
		DKIM        *string      `json:"dkim"`
		SPF         *string      `json:"spf"`
		Reasons     []reasonJSON `json:"reasons"`
		Word        *string      `json:"disposition_word,omitempty"`
	}
	reasonJSON struct {
		Type    string  `json:"type"`
		Comment *string `json:"comment"`
	}
	identifiersJSON struct {
		HeaderFrom   *string `json:"header_from"`
		EnvelopeFrom *string `json:"envelope_from"`
		NullSender   bool    `json:"null_sender"`
		EnvelopeTo   *string `json:"envelope_to"`
	}
	authJSON struct {
		DKIM []dkimJSON `json:"dkim"`
		SPF  []spfJSON  `json:"spf"`
	}
	dkimJSON struct {
		Domain   *string `json:"domain"`
		Selector *string `json:"selector"`
		Result   *string `json:"result"`
		Human    *string `json:"human_result"`
		Word     *string `json:"result_word,omitempty"`
	}
	spfJSON struct {
		Domain *string `json:"domain"`
		Scope  *string `json:"scope"`
		Result *string `json:"result"`
		Human  *string `json:"human_result"`
		Word   *string `json:"result_word,omitempty"`
	}
	recomputedJSON struct {
		DKIM         bool    `json:"dkim_aligned"`
		SPF          bool    `json:"spf_aligned"`
		HELO         bool    `json:"by_helo"`
		Disagreement *string `json:"disagreement"`
	}
)

// fullAggregate is a report without its rows.
func fullAggregate(r *dmarc.AggregateReport) aggregateJSON {
	p, t := r.Policy, r.Tally
	return aggregateJSON{
		Version: word(r.Version), Namespace: r.Namespace,
		Metadata: metadataJSON{
			OrgName: r.Reporter.OrgName, Email: word(r.Reporter.Email), ExtraContactInfo: word(r.Reporter.ExtraContact), ReportID: r.ID,
			Begin: moment(r.Period.Begin), End: moment(r.Period.End), Errors: list(r.Errors), Generator: word(r.Generator),
		},
		Policy: policyJSON{
			Domain: p.Domain, DiscoveryMethod: word(p.DiscoveryMethod), ADKIM: word(p.ADKIM.String()), ASPF: word(p.ASPF.String()),
			P: word(p.P.String()), SP: word(p.SP.String()), NP: word(p.NP.String()), Pct: p.Pct, FO: word(p.FO), Testing: p.Testing,
		},
		Dropped: droppedJSON(r.Dropped),
		Hash:    r.Hash.String(),
		Totals: allTotalsJSON{
			totals{t.Messages, t.DMARCPass, t.DKIMAligned, t.SPFAligned, t.None, t.Quarantine, t.Reject}, t.Pass, t.Unstated,
		},
		Flags: r.Flags.Names(),
	}
}

func fullRow(r *dmarc.Row) rowJSON {
	row := rowJSON{
		SourceIP: address(r.Source), SourceText: word(r.SourceText), Count: r.Count,
		Evaluated: evaluatedJSON{
			Disposition: word(r.Disposition.String()), DKIM: word(r.DKIM.String()), SPF: word(r.SPF.String()),
			Reasons: make([]reasonJSON, len(r.Reasons)), Word: word(r.DispositionWord),
		},
		Identifiers: identifiersJSON{word(r.HeaderFrom), word(r.EnvelopeFrom), r.NullSender, word(r.EnvelopeTo)},
		Auth:        authJSON{make([]dkimJSON, len(r.AuthDKIM)), make([]spfJSON, len(r.AuthSPF))},
		Recomputed:  recomputedJSON{r.Ours.DKIM, r.Ours.SPF, r.Ours.HELO, word(r.Ours.Disagreement.String())},
		Flags:       r.Flags.Names(),
	}
	for i, reason := range r.Reasons {
		row.Evaluated.Reasons[i] = reasonJSON{reason.Type, word(reason.Comment)}
	}
	for i, d := range r.AuthDKIM {
		row.Auth.DKIM[i] = dkimJSON{word(d.Domain), word(d.Selector), word(d.Result.String()), word(d.Human), word(d.Word)}
	}
	for i, s := range r.AuthSPF {
		row.Auth.SPF[i] = spfJSON{word(s.Domain), word(s.Scope), word(s.Result.String()), word(s.Human), word(s.Word)}
	}
	return row
}

type (
	failureJSON struct {
		ReporterDomain *string      `json:"reporter_domain"`
		FeedbackType   string       `json:"feedback_type"`
		AuthFailure    []string     `json:"auth_failure"`
		UserAgent      *string      `json:"user_agent"`
		Version        *string      `json:"version"`
		Delivery       *string      `json:"delivery_result"`
		DeliveryWord   *string      `json:"delivery_result_word"`
		IdentityAlign  *string      `json:"identity_alignment"`
		Arrival        *string      `json:"arrival"`
		ArrivalSource  *string      `json:"arrival_source"`
		SourceIP       *string      `json:"source_ip"`
		SourcePort     int          `json:"source_port,omitempty"`
		ReportedDomain string       `json:"reported_domain"`
		ReportedURIs   []string     `json:"reported_uris"`
		EnvelopeID     *string      `json:"original_envelope_id"`
		MailFrom       *string      `json:"original_mail_from"`
		NullSender     bool         `json:"null_sender"`
		RcptTo         []string     `json:"original_rcpt_to"`
		ReportingMTA   *string      `json:"reporting_mta"`
		Incidents      int64        `json:"incidents"`
		AuthResults    []string     `json:"authentication_results"`
		DKIMDomain     *string      `json:"dkim_domain"`
		DKIMIdentity   *string      `json:"dkim_identity"`
		DKIMSelector   *string      `json:"dkim_selector"`
		SPFRecords     []string     `json:"spf_dns"`
		Headers        []fieldJSON  `json:"headers"`
		Body           []sampleJSON `json:"body"`
		Other          []fieldJSON  `json:"other_fields"`
		Hash           string       `json:"hash"`
		Flags          []string     `json:"flags"`
	}
	fieldJSON struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	sampleJSON struct {
		MediaType string `json:"media_type"`
		Size      int64  `json:"size"`
		Hash      string `json:"hash"`
	}
)

func fullFailure(r *dmarc.FailureReport) failureJSON {
	body := make([]sampleJSON, len(r.Body))
	for i, s := range r.Body {
		body[i] = sampleJSON{s.MediaType, s.Size, s.Hash.String()}
	}
	return failureJSON{
		ReporterDomain: word(r.ReporterDomain), FeedbackType: r.FeedbackType, AuthFailure: list(r.AuthFailure), UserAgent: word(r.UserAgent),
		Version: word(r.Version), Delivery: word(r.Delivery), DeliveryWord: word(r.DeliveryWord), IdentityAlign: word(r.IdentityAlign),
		Arrival: moment(r.Arrival), ArrivalSource: word(r.ArrivalSource), SourceIP: address(r.SourceIP), SourcePort: r.SourcePort,
		ReportedDomain: r.ReportedDomain, ReportedURIs: list(r.ReportedURIs), EnvelopeID: word(r.EnvelopeID), MailFrom: word(r.MailFrom),
		NullSender: r.NullSender, RcptTo: list(r.RcptTo), ReportingMTA: word(r.ReportingMTA), Incidents: r.Incidents,
		AuthResults: list(r.AuthResults), DKIMDomain: word(r.DKIMDomain), DKIMIdentity: word(r.DKIMIdentity), DKIMSelector: word(r.DKIMSelector),
		SPFRecords: list(r.SPFRecords), Headers: fields(r.Headers), Body: body, Other: fields(r.Other), Hash: r.Hash.String(), Flags: r.Flags.Names(),
	}
}

func fields(header []dmarc.HeaderField) []fieldJSON {
	list := make([]fieldJSON, len(header))
	for i, f := range header {
		list[i] = fieldJSON(f)
	}
	return list
}

type (
	tlsJSON struct {
		OrgName  string          `json:"organization_name"`
		Contact  *string         `json:"contact_info"`
		ReportID string          `json:"report_id"`
		Begin    *string         `json:"begin"`
		End      *string         `json:"end"`
		Domain   *string         `json:"domain"`
		Policies []tlsPolicyJSON `json:"policies"`
		Hash     string          `json:"hash"`
		Flags    []string        `json:"flags"`
	}
	tlsPolicyJSON struct {
		Type     string           `json:"policy_type"`
		Strings  []string         `json:"policy_string"`
		Domain   *string          `json:"policy_domain"`
		MXHosts  []string         `json:"mx_host"`
		Sessions sessions         `json:"summary"`
		Details  []tlsFailureJSON `json:"failure_details"`
	}
	tlsFailureJSON struct {
		ResultType        string  `json:"result_type"`
		SendingMTAIP      *string `json:"sending_mta_ip"`
		ReceivingIP       *string `json:"receiving_ip"`
		ReceivingMXHost   *string `json:"receiving_mx_hostname"`
		ReceivingMXHELO   *string `json:"receiving_mx_helo"`
		FailedSessions    int64   `json:"failed_session_count"`
		AdditionalInfo    *string `json:"additional_information"`
		FailureReasonCode *string `json:"failure_reason_code"`
	}
)

func fullTLS(r *dmarc.TLSReport) tlsJSON {
	policies := make([]tlsPolicyJSON, len(r.Policies))
	for i, p := range r.Policies {
		details := make([]tlsFailureJSON, len(p.Details))
		for i, d := range p.Details {
			details[i] = tlsFailureJSON{
				d.ResultType, word(d.SendingMTAIP), word(d.ReceivingIP), word(d.ReceivingMXHost), word(d.ReceivingMXHELO),
				d.FailedSessions, word(d.AdditionalInfo), word(d.FailureReasonCode),
			}
		}
		policies[i] = tlsPolicyJSON{p.Type, list(p.Strings), word(p.Domain), list(p.MXHosts), sessions{p.Successful, p.Failed}, details}
	}
	return tlsJSON{
		OrgName: r.OrgName, Contact: word(r.Contact), ReportID: r.ID, Begin: moment(r.Period.Begin), End: moment(r.Period.End),
		Domain: word(r.Domain), Policies: policies, Hash: r.Hash.String(), Flags: r.Flags.Names(),
	}
}
