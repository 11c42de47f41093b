package records

var _ = register(
	Rule{
		ID: "mtasts.missing", Record: "TXT", Severity: Info, Reference: "RFC 8461, section 3.1",
		Condition: "no record for MTA-STS",
		What:      "{subject} does not use MTA-STS.",
		Why:       "Somebody between a sender and your mail hosts can make them talk in plain text, or to another host.",
		Fix:       "Publish the record and serve the policy at {host}, or use DANE. Begin in the mode testing.",
	},
	Rule{
		ID: "mtasts.several", Record: "TXT", Severity: Error, Reference: "RFC 8461, section 3.1",
		Condition: "more than one record",
		What:      "There are {n} MTA-STS records at {subject}.",
		Why:       "Senders use none of them.",
		Fix:       "Keep one.",
	},
	Rule{
		ID: "mtasts.syntax", Record: "TXT", Severity: Error, Reference: "RFC 8461, section 3.1",
		Condition: "the record is not valid",
		What:      "The MTA-STS record at {subject} is not valid: {why}.",
		Why:       "Senders do not use it.",
		Fix:       "Write the version and an id, for example the time of the last change.",
	},
	Rule{
		ID: "mtasts.host", Record: "A/AAAA", Severity: Error, Reference: "RFC 8461, section 3.3",
		Condition: "the host of the policy has no address",
		What:      "There is an MTA-STS record, but {host}, which must serve the policy, has no address.",
		Why:       "Senders cannot get the policy and go on as without MTA-STS.",
		Fix:       "Publish an address or a CNAME for {host}, or remove the record.",
	},
	Rule{
		ID: "mtasts.fetch", Record: "HTTPS", Severity: Error, Reference: "RFC 8461, section 3.3",
		Condition: "the policy cannot be fetched",
		What:      "The policy at https://{host}/.well-known/mta-sts.txt could not be fetched: {why}.",
		Why:       "Senders that do not know it yet go on as without MTA-STS; others keep an old one.",
		Fix:       "Serve it there as text/plain, without redirect, with a valid certificate for {host}.",
	},
	Rule{
		ID: "mtasts.policy", Record: "HTTPS", Severity: Error, Reference: "RFC 8461, section 3.2",
		Condition: "the policy is not valid",
		What:      "The policy of {host} is not valid{where}: {why}.",
		Why:       "Senders may throw away the whole policy.",
		Fix:       "Correct the file, then change the id of the record.",
	},
	Rule{
		ID: "mtasts.mx_uncovered", Record: "MX", Severity: Error, Reference: "RFC 8461, section 4.1",
		Condition: "a mail host is not in the policy",
		What:      "The mail host {mx} is not in the MTA-STS policy (mode {mode}).",
		Why:       "Senders that enforce the policy do not deliver to it.",
		Fix:       "Add the line \"mx: {mx}\" to the policy, then change the id of the record; or remove the MX.",
	},
	Rule{
		ID: "mtasts.mx_certificate", Record: "MX", Severity: Error, Reference: "RFC 8461, section 4.2",
		Condition: "a mail host that was connected to has no certificate that senders trust; a warning unless the mode is enforce",
		What:      "The mail host {mx} does not show a valid certificate at {ip}: {why}. The MTA-STS policy has the mode {mode}.",
		Why:       "Senders that enforce a policy deliver only to a host whose certificate names it and is signed by an authority that they trust.",
		Fix:       "Give {mx} a certificate for its name by a public authority, with all intermediate certificates, and offer STARTTLS.",
	},
	Rule{
		ID: "mtasts.mode", Record: "HTTPS", Severity: Info, Reference: "RFC 8461, section 3.2",
		Condition: "the policy is not enforced, or kept for less than a day",
		What:      "The MTA-STS policy has the mode {mode} and is kept for {n} seconds.",
		Why:       "Only the mode enforce protects, and only senders that still remember the policy when somebody interferes.",
		Fix:       "When TLS reports show no failures, set the mode enforce and a max_age of weeks.",
	},
)
