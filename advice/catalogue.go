package advice

// A Meaning explains a reason that advice gives.
type Meaning struct {
	ID     string
	Effect Effect
	Means  string // when it is given
	Do     string // what to do about it; "" for nothing
}

// meanings explain every reason there is: those that stop a move first, then
// those that wait, warn, speak for it, and note.
var meanings = []Meaning{
	{"loss", Blocks, "Your own senders or services fail, and more than 0.1 % of your mail would be lost.", "Mend what stands under Fix first, from the top."},
	{"new_failure", Blocks, "A sender that was fine has mostly failed for some days of the last four weeks. An average over months would hide it.", "Find out what changed on that day: a key, a server, a record."},
	{"step_back", Blocks, "In the last week receivers stopped more than 1 % of your own mail, because of the policy that you publish.", "Publish the weaker policy now, mend what fails, and come back."},

	{"few_days", Waits, "Your mail has not been seen for long enough: over 35 days before quarantine, over 60 before reject, and on at least 8 of them.", "Wait. A sender that mails once a month has to have the time to appear."},
	{"few_messages", Waits, "Fewer than 100 messages of yours were reported.", "Wait, or look at more days."},
	{"few_reporters", Waits, "Fewer than 3 receivers reported your mail; what one of them sees need not be what others see.", "Wait. Most mail goes to few receivers, and those report."},
	{"uncertain", Waits, "Little was lost, but on so few days that it could be luck: with 95 % confidence, the loss may still be more than 0.5 %.", "Wait; more days tell more."},
	{"rhythm", Waits, "A sender of yours mails by the week or by the month, and has not been seen often enough to know that it is fine.", "Wait for its next mailing."},
	{"recent_change", Waits, "The policy became stricter less than 14 days ago.", "Wait for the reports about it."},
	{"old_evidence", Waits, "No report has come for a week or longer.", "Look whether rua is still in the record, and whether its mailbox takes mail."},
	{"lookup_failed", Waits, "The DMARC record could not be looked up. Nothing is called missing on that ground.", "Nothing; it is looked up again. If it stays, look at the page about DNS."},
	{"no_record", Waits, "There is no DMARC record, so that nobody reports.", "Publish p=none with rua."},
	{"no_reports", Waits, "No report about the domain has come in this period.", "Wait a day or two after rua is published."},
	{"parked_wait", Waits, "No mail of yours was seen, but reports came over fewer than 30 days.", "Wait, or go to reject now if you know that the domain sends nothing."},
	{"steady_failing", Waits, "The domain looks as if it sent nothing, but one address sends day after day, and fails. It may be yours, and never set up.", "Say whose it is."},

	{"reporter_silent", Warns, "Somebody who sent reports for nearly every day has stopped in the last month, while others go on.", "Look whether their mail still arrives, and whether it is refused or filtered."},
	{"strict_alignment", Warns, "Some of what would be lost passes under relaxed alignment.", "Remove adkim=s and aspf=s, unless you need them."},
	{"ask", Warns, "Nobody but you can tell whose some senders are. Their mail would be lost. They never change the verdict: else a forger could hold you back.", "Look at the names that are asked about, the busiest first."},
	{"no_dkim", Warns, "A sender of yours passes by SPF alone, and some of your mail is forwarded. SPF does not survive that (RFC 9989, section 7.4).", "Sign its mail with DKIM before you publish."},
	{"rua_missing", Warns, "The record has no rua, so that nobody reports, and you will not see what a change does.", "Add rua before you publish."},

	{"nothing_lost", Good, "Nothing from your own senders and services would be lost.", ""},
	{"little_lost", Good, "No more than 0.1 % of your own mail would be lost.", ""},
	{"certain", Good, "With 95 % confidence, the loss stays small, counted by days and not only by messages.", ""},
	{"enough_days", Good, "Your mail has been seen for long enough.", ""},
	{"enough_messages", Good, "Enough messages of yours were reported.", ""},
	{"enough_reporters", Good, "Enough receivers reported your mail.", ""},
	{"repaired", Good, "A sender failed, was mended, and has passed for more than 14 days. It is judged from then on.", ""},
	{"change_was_right", Good, "The last change to a stricter policy has stopped no more than 1 % of your mail.", ""},
	{"parked", Good, "No mail of yours was seen in 30 days of reports or more.", "Go to reject at once, and say in SPF that nobody sends as the domain: v=spf1 -all."},
	{"done", Good, "The domain is at reject, with its subdomains.", "Go on watching."},
	{"split_subdomain", Good, "Only the mail of one subdomain would be lost.", "Give that subdomain a record of its own with p=none, and move on with the rest."},
	{"domain_first", Good, "Mail as the domain itself is safe, and that of several subdomains is not.", "Move the domain on, and keep sp as it is until they are mended."},
	{"subdomains_first", Good, "No mail as a subdomain would be lost, and some as the domain itself would.", "Move sp on first: forgers like subdomains."},

	{"forwarded", Notes, "Forwarders and mailing lists would lose some mail. You cannot mend that, and it does not count against you.", ""},
	{"stopped", Notes, "Forged mail that would be stopped. It does not count against you, however much it is.", ""},
	{"test_first", Notes, "More than one in a hundred of your messages is forwarded and would be lost.", "Publish with t=y first; receivers that follow RFC 9989 apply the next weaker policy, and mailing lists can adapt."},
	{"inherited", Notes, "The domain has no record of its own; that of the domain above is in force.", ""},
	{"pct_removed", Notes, "The record has pct, which is no longer part of DMARC (RFC 9989, appendix A.6).", ""},
	{"subdomains_fail", Notes, "What would be lost is sent as subdomains; mail as the domain itself passes.", ""},
}
