package advice

import (
	"net/netip"
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A sender that is taken for mended blocks no longer, and whoever else fails
// goes on blocking.
func TestMendingIsTriedBeforeItIsDone(t *testing.T) {
	e := healthy(61).send("192.0.2.2", own(), 20, 0, 61, 1).send("192.0.2.2", ownBroken(), 20, 0, 61, 1).
		send("192.0.2.3", own(), 20, 0, 61, 1).send("192.0.2.3", ownBroken(), 10, 0, 61, 1).evidence()
	all := For(e, Options{})
	if all.Verdict != NotReady || len(all.Blockers) != 2 {
		t.Fatalf("%s, %+v", all.Verdict, all.Blockers)
	}
	mend := func(blockers ...Blocker) *Advice {
		repaired := make(map[netip.Prefix]bool)
		for _, b := range blockers {
			for _, c := range all.Sources {
				if c.Group == b.Group {
					repaired[c.Source.Source] = true
				}
			}
		}
		return For(e, Options{Repaired: repaired})
	}
	first := mend(all.Blockers[0])
	if first.Verdict != NotReady || len(first.Blockers) != 1 || first.Blockers[0].Name != "192.0.2.3" || first.LossADay != 10 {
		t.Errorf("with the first mended: %s, %+v, %v a day", first.Verdict, first.Blockers, first.LossADay)
	}
	both := mend(all.Blockers...)
	if both.Verdict != Ready || len(both.Blockers) != 0 || both.LossADay != 0 || both.Simulation.Total.Affected() != 0 {
		t.Errorf("with both mended: %s, %+v, %v a day", both.Verdict, both.Blockers, both.LossADay)
	}
}

func TestAPolicyIsJudgedWithAllItsTags(t *testing.T) {
	e := healthy(61).send("192.0.2.1", from("news.acme.example", own()), 50, 0, 61, 1).evidence()
	e.Published.SP = dmarc.PolicyReject
	p := Policy{P: dmarc.PolicyQuarantine, SP: dmarc.PolicyNone, Testing: true, ADKIM: dmarc.AlignmentStrict, ASPF: dmarc.AlignmentStrict}
	if a := For(e, Options{Policy: &p}); a.Target != p || a.Verdict != Ready || a.Simulation.Policy != p {
		t.Errorf("%s for %s", a.Verdict, a.Target)
	}
	p = Policy{P: dmarc.PolicyQuarantine, ADKIM: dmarc.AlignmentStrict, ASPF: dmarc.AlignmentStrict}
	if a := For(e, Options{Policy: &p}); a.Verdict != NotReady || a.LossADay != 50 {
		t.Errorf("%s for %s, %v a day", a.Verdict, a.Target, a.LossADay)
	}
	if a := For(e, Options{Target: dmarc.PolicyReject}); a.Target.SP != dmarc.PolicyReject || a.Target.P != dmarc.PolicyReject {
		t.Errorf("judged %s; the tags that are published stay", a.Target)
	}
}
