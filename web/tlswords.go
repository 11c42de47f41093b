package web

// A tlsAdvice says what a result of a TLS report means, and what to do.
type tlsAdvice struct {
	Label, Means, Do string
	Kind             string // of the findings about DNS that tell more: mtasts, dane; "" for none
}

// tlsWords are the result types of RFC 8460, section 4.3.
var tlsWords = map[string]tlsAdvice{
	"starttls-not-supported": {"no STARTTLS", "Your mail server did not offer STARTTLS, or an attacker on the way took the offer out.",
		"Look whether every server in MX offers STARTTLS on port 25 to everybody: openssl s_client -starttls smtp -connect HOST:25. Firewalls that look into SMTP are known to remove it.", ""},
	"certificate-host-mismatch": {"certificate for another name", "The certificate of your server does not hold the name that stands in MX.",
		"Get a certificate that holds the name of the server as MX names it, not only that of the domain.", "mtasts"},
	"certificate-expired": {"certificate expired", "The certificate of your server had run out.",
		"Renew it, let the mail server load it (a renewed file alone is not enough), and watch that the renewal runs on every server in MX.", "mtasts"},
	"certificate-not-trusted": {"certificate not trusted", "The sender trusts no authority that vouches for your certificate.",
		"Use a certificate of a public authority, and send all intermediate certificates with it. Most often one of these is missing.", "mtasts"},
	"validation-failure": {"not validated", "The session was not secured, for a reason that has no word of its own.",
		"Read what the reporter says beside it, and look into the log of the mail server for sessions of the sending address at that time.", ""},
	"tlsa-invalid": {"TLSA does not match", "None of the TLSA records at your server’s name matches its certificate.",
		"Publish the TLSA record of a new certificate before the server uses it, and keep the old one until caches have forgotten it. With 3 1 1, keep the key when the certificate is renewed.", "dane"},
	"dnssec-invalid": {"DNSSEC broken", "The answers of DNS about your servers could not be validated: the sender could not look for TLSA records and may have held the mail back.",
		"Mend the signatures or the DS record of the zone. While this lasts, senders with DANE deliver nothing.", "dane"},
	"dane-required": {"DANE required, none found", "The sender insists on DANE, and found no TLSA record that can be used.",
		"Publish TLSA records in a signed zone for every server in MX, or ask the sender to take it back.", "dane"},
	"sts-policy-fetch-error": {"MTA-STS policy not fetched", "The policy file of MTA-STS could not be had over HTTPS.",
		"See that https://mta-sts.DOMAIN/.well-known/mta-sts.txt answers with 200, without a redirection, with a certificate that is valid for that name.", "mtasts"},
	"sts-policy-invalid": {"MTA-STS policy not valid", "The policy file of MTA-STS was read, and makes no sense.",
		"Write it anew: version: STSv1, mode, mx lines and max_age, a line each, and change the id in the TXT record.", "mtasts"},
	"sts-webpki-invalid": {"MTA-STS certificate not valid", "A certificate did not satisfy MTA-STS: it has run out, is not trusted, or holds another name.",
		"See that every server in MX stands in an mx line of the policy, and has a certificate of a public authority with that very name.", "mtasts"},
	"": {"other words", "A reporter used a word that RFC 8460 does not know.",
		"Read what it says beside it.", ""},
}

// tlsWord explains a result type; words of no standard are explained as such.
func tlsWord(result string) tlsAdvice {
	if a, ok := tlsWords[result]; ok {
		return a
	}
	return tlsWords[""]
}

// tlsPolicyWords name the kinds of policies (RFC 8460, section 4.4).
var tlsPolicyWords = map[string]string{
	"tlsa": "DANE (TLSA)", "sts": "MTA-STS", "no-policy-found": "no policy found",
}
