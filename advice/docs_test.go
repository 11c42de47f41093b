package advice

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the reasons in docs/advice.md anew")

const (
	reasonsBegin = "<!-- reasons, made of advice/catalogue.go: go test ./advice -run Documentation -update -->\n"
	reasonsEnd   = "<!-- end of reasons -->\n"
)

// reasonsDoc is the part of docs/advice.md about reasons.
func reasonsDoc() string {
	titles := map[Effect]string{
		Blocks: "stops it: not ready", Waits: "wait: not enough evidence", Warns: "warning: read before you publish", Good: "good: speaks for it", Notes: "note: worth knowing",
	}
	var b strings.Builder
	var last Effect
	for _, m := range meanings {
		if m.Effect != last {
			fmt.Fprintf(&b, "\n### %s (`%s`)\n\n| id | means | what to do |\n|---|---|---|\n", titles[m.Effect], m.Effect)
			last = m.Effect
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", m.ID, m.Means, m.Do)
	}
	b.WriteByte('\n')
	return b.String()
}

func TestTheDocumentationOfReasonsIsFresh(t *testing.T) {
	const path = "../docs/advice.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begun := strings.Cut(string(text), reasonsBegin)
	_, after, ended := strings.Cut(rest, reasonsEnd)
	if !begun || !ended {
		t.Fatalf("%s does not say where the reasons stand", path)
	}
	want := before + reasonsBegin + reasonsDoc() + reasonsEnd + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(text) != want {
		t.Errorf("%s is not what the catalogue says; run go test ./advice -run Documentation -update", path)
	}
}

// Every reason that a rule can give is explained, with the effect that it has.
func TestEveryReasonIsExplained(t *testing.T) {
	explained := make(map[string]Effect)
	for _, m := range meanings {
		if _, twice := explained[m.ID]; twice || m.Means == "" {
			t.Errorf("%s is explained twice, or not at all", m.ID)
		}
		explained[m.ID] = m.Effect
	}
	given := make(map[string]bool)
	for _, c := range reasonCases { // TestEveryReasonIsGivenWhereItApplies sees to it that these are all
		given[c.reason] = true
		if explained[c.reason] != c.effect {
			t.Errorf("%s has the effect %q, and is explained as %q", c.reason, c.effect, explained[c.reason])
		}
	}
	for id := range explained {
		if !given[id] {
			t.Errorf("%s is explained, and no rule gives it", id)
		}
	}
}

// What the documentation says about how much is enough is what is judged by.
func TestTheDocumentationTellsTheLimits(t *testing.T) {
	text, err := os.ReadFile("../docs/advice.md")
	if err != nil {
		t.Fatal(err)
	}
	l := limits
	for _, want := range []string{
		fmt.Sprintf("| days over which your mail was seen | %d | %d |", l.daysQuarantine, l.daysReject),
		fmt.Sprintf("| days with mail of yours | %d | %d |", l.activeDays, l.activeDays),
		fmt.Sprintf("| messages of yours | %d | %d |", l.messages, l.messages),
		fmt.Sprintf("| receivers that reported them | %d | %d |", l.reporters, l.reporters),
		fmt.Sprintf("| days since the last change | %d | %d |", l.settle, l.settle),
		fmt.Sprintf("| loss of your own mail, at most | %g %% | %g %% |", 100*l.loss, 100*l.loss),
		fmt.Sprintf("| the same with 95 %% confidence | %g %% | %g %% |", 100*l.upper, 100*l.upper),
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("it does not say %q", want)
		}
	}
}
