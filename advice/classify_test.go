package advice

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
)

func TestWhoseASourceIs(t *testing.T) {
	// The domain has a server of its own that signs with k1 and passes SPF.
	const who = "203.0.113.9"
	for _, c := range []struct {
		name  string
		send  func(*world)
		tell  func(*Evidence, *Source)
		class dmarc.Class
		sure  Confidence
	}{
		{"passes DKIM and SPF for the domain",
			func(w *world) { w.send(who, own(), 10, 0, 30, 1) }, nil, dmarc.ClassOwn, Sure},
		{"passes SPF alone",
			func(w *world) { w.send(who, spfOnly(), 10, 0, 30, 1) }, nil, dmarc.ClassOwn, Sure},
		{"passes SPF from the network of a mailbox provider, which holds anybody's servers",
			func(w *world) { w.send(who, own(), 10, 0, 30, 1) },
			func(_ *Evidence, s *Source) {
				s.Identity = dmarc.SourceIdentity{Sender: &dmarc.Sender{Name: "Big Mail", Kind: dmarc.SenderMailbox}, By: "asn"}
			}, dmarc.ClassOwn, Sure},
		{"is a mailbox provider by its proven name, and passes SPF",
			func(w *world) { w.send(who, own(), 10, 0, 30, 1) },
			func(_ *Evidence, s *Source) {
				s.Identity = dmarc.SourceIdentity{Sender: &dmarc.Sender{Name: "Big Mail", Kind: dmarc.SenderMailbox}, By: "ptr"}
			}, dmarc.ClassService, Sure},
		{"is a mailbox provider that passes on the own signature",
			func(w *world) { w.send(who, forwarded(), 10, 0, 30, 1) },
			func(_ *Evidence, s *Source) {
				s.Identity = dmarc.SourceIdentity{Sender: &dmarc.Sender{Name: "Big Mail", Kind: dmarc.SenderMailbox}, By: "ptr"}
			}, dmarc.ClassForwarder, Sure},
		{"was fine and fails now",
			func(w *world) { w.send(who, own(), 10, 0, 15, 1).send(who, ownBroken(), 90, 15, 30, 1) }, nil, dmarc.ClassOwn, Sure},
		{"always fails, but its proven name is of the domain",
			func(w *world) { w.send(who, spoof(), 10, 0, 30, 1) },
			func(_ *Evidence, s *Source) {
				s.Identity = dmarc.SourceIdentity{PTR: dmarc.LookupFound, Names: []string{"mx1.acme.example"}}
			}, dmarc.ClassOwn, Sure},
		{"an unproven name says nothing",
			func(w *world) { w.send(who, spoof(), 10, 0, 30, 1) },
			func(_ *Evidence, s *Source) {
				s.Identity = dmarc.SourceIdentity{PTR: dmarc.LookupFound, Unproven: []string{"mx1.acme.example"}}
			}, dmarc.ClassSuspicious, Likely},
		{"always fails, but the SPF record covers it",
			func(w *world) { w.send(who, unaligned("mailer.example"), 10, 0, 30, 1) },
			func(_ *Evidence, s *Source) { s.SPF = CoverYes }, dmarc.ClassOwn, Likely},
		{"signs with a key of its own and as itself",
			func(w *world) { w.send(who, service("mailer.example"), 10, 0, 30, 1) }, nil, dmarc.ClassService, Sure},
		{"passes both, and signs as itself as well",
			func(w *world) {
				row := service("mailer.example")
				row.SPF, row.AuthSPF = dmarc.ResultPass, []dmarc.SPFResult{{Domain: "bounce.acme.example", Result: dmarc.ResultPass}}
				w.send(who, row, 10, 0, 30, 1)
			}, nil, dmarc.ClassService, Likely},
		{"a service of the catalogue that nobody set up",
			func(w *world) { w.send(who, unaligned("mailer.example"), 10, 0, 30, 1) },
			func(e *Evidence, _ *Source) { e.Senders = known{"mailer.example": mailer} }, dmarc.ClassService, Likely},
		{"one message by a service of the catalogue",
			func(w *world) { w.send(who, unaligned("mailer.example"), 1, 0, 1, 1) },
			func(e *Evidence, _ *Source) { e.Senders = known{"mailer.example": mailer} }, dmarc.ClassUnknown, Guess},
		{"carries signatures of the own key, SPF fails",
			func(w *world) { w.send(who, forwarded(), 1, 0, 30, 5) }, nil, dmarc.ClassForwarder, Sure},
		{"a reporter that names no selectors, but says forwarded",
			func(w *world) {
				row := because("forwarded", forwarded())
				row.AuthDKIM = []dmarc.DKIMResult{{Domain: "acme.example", Result: dmarc.ResultPass}}
				w.send(who, row, 1, 0, 30, 5)
			}, nil, dmarc.ClassForwarder, Sure},
		{"breaks signatures of a key that passes elsewhere",
			func(w *world) { w.send(who, forwardBroken(), 1, 0, 30, 5) }, nil, dmarc.ClassForwarder, Likely},
		{"fails, and reporters say mailing list",
			func(w *world) { w.send(who, because("mailing_list", spoof()), 1, 0, 30, 5) }, nil, dmarc.ClassForwarder, Sure},
		{"fails here, and forwards for other domains",
			func(w *world) { w.send(who, spoof(), 1, 0, 30, 5) },
			func(_ *Evidence, s *Source) { s.Elsewhere[dmarc.ClassForwarder] = 4 }, dmarc.ClassForwarder, Likely},
		{"authenticates as somebody nobody knows",
			func(w *world) { w.send(who, unaligned("stranger.example"), 10, 0, 30, 1) }, nil, dmarc.ClassUnknown, Guess},
		{"nothing passes",
			func(w *world) { w.send(who, spoof(), 10, 0, 30, 9) }, nil, dmarc.ClassSuspicious, Likely},
		{"invents a key of the domain",
			func(w *world) {
				row := spoof()
				row.AuthDKIM = []dmarc.DKIMResult{{Domain: "acme.example", Selector: "made-up", Result: dmarc.ResultFail}}
				w.send(who, row, 10, 0, 30, 1)
			}, nil, dmarc.ClassSuspicious, Likely},
		{"is suspicious for others, too",
			func(w *world) { w.send(who, spoof(), 10, 0, 30, 1) },
			func(_ *Evidence, s *Source) { s.Elsewhere[dmarc.ClassSuspicious] = 4 }, dmarc.ClassSuspicious, Sure},
		{"fails steadily, with a name of its own",
			func(w *world) { w.send(who, spoof(), 10, 0, 30, 1) },
			func(_ *Evidence, s *Source) {
				s.Identity = dmarc.SourceIdentity{PTR: dmarc.LookupFound, Names: []string{"printer.example.net"}}
			}, dmarc.ClassUnknown, Guess},
		{"fails steadily beside own servers",
			func(w *world) { w.send(who, spoof(), 10, 0, 30, 1).send("203.0.113.77", own(), 5, 0, 30, 1) }, nil, dmarc.ClassUnknown, Guess},
		{"the operator says that it is his",
			func(w *world) { w.send(who, spoof(), 10, 0, 30, 1) },
			func(e *Evidence, _ *Source) {
				e.Overrules = []Overrule{{Network: netip.MustParsePrefix("203.0.113.0/24"), Class: dmarc.ClassOwn}}
			}, dmarc.ClassOwn, Sure},
		{"the operator's smaller network counts",
			func(w *world) { w.send(who, own(), 10, 0, 30, 1) },
			func(e *Evidence, _ *Source) {
				e.Overrules = []Overrule{
					{Network: netip.MustParsePrefix("203.0.113.9/32"), Class: dmarc.ClassSuspicious},
					{Network: netip.MustParsePrefix("203.0.113.0/24"), Class: dmarc.ClassOwn},
				}
			}, dmarc.ClassSuspicious, Sure},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(30).send("192.0.2.1", own(), 100, 0, 30, 1)
			c.send(w)
			e := w.evidence()
			if c.tell != nil {
				i := slices.IndexFunc(e.Sources, func(s Source) bool { return s.Source.Addr().String() == who })
				c.tell(e, &e.Sources[i])
			}
			got := source(t, Classify(e), who)
			if got.Class != c.class || got.Confidence != c.sure {
				t.Errorf("%v, %v; want %v, %v (clues %q)", got.Class, got.Confidence, c.class, c.sure, got.Clues)
			}
			if len(got.Clues) == 0 {
				t.Error("no clue says why")
			}
		})
	}
}

func TestAnUnreadableAddressIsUnknown(t *testing.T) {
	w := newWorld(30)
	row := spoof()
	row.Count = 5
	w.facts.Add(&row, &w.policy, dmarc.Attribution{Days: days(0), Main: start, Dated: true}, 1)
	got := Classify(w.evidence())
	if len(got) != 1 || got[0].Class != dmarc.ClassUnknown {
		t.Errorf("%+v", got)
	}
	if ask := AskFirst(got, 5); len(ask) != 0 {
		t.Errorf("the owner is asked about %q", ask[0].Name)
	}
}

func TestAddressesOfAServiceAreOneGroup(t *testing.T) {
	w := newWorld(30).send("192.0.2.1", own(), 100, 0, 30, 1)
	w.send("203.0.113.1", service("mailer.example"), 10, 0, 30, 1).send("203.0.113.2", service("mailer.example"), 10, 0, 30, 1)
	all := Classify(w.evidence())
	a, b := source(t, all, "203.0.113.1"), source(t, all, "203.0.113.2")
	if a.Group != b.Group || a.Name != "mailer.example" || source(t, all, "192.0.2.1").Group == a.Group {
		t.Errorf("groups %q and %q, name %q", a.Group, b.Group, a.Name)
	}
}

func TestTheBusiestOpenQuestionIsAskedFirst(t *testing.T) {
	w := newWorld(30).send("192.0.2.1", own(), 100, 0, 30, 1).send("198.51.100.1", spoof(), 500, 0, 2, 1)
	w.send("203.0.113.1", unaligned("a.example"), 2, 0, 30, 1).send("203.0.113.2", unaligned("b.example"), 9, 0, 30, 1)
	var got []string
	for _, c := range AskFirst(Classify(w.evidence()), 5) {
		got = append(got, c.Name)
	}
	if want := []string{"203.0.113.2", "203.0.113.1"}; !slices.Equal(got, want) {
		t.Errorf("asked about %v, want %v", got, want)
	}
}
