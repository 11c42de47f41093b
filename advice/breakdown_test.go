package advice

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
)

// What is not named is told as others, so that the lines add up.
func TestABreakdownSaysWhatIsLeftOut(t *testing.T) {
	b := &Breakdown{Domain: "acme.example", Tags: "p=reject", Period: PeriodJSON{"2026-01-01", "2026-02-01"},
		Total: SimulationLine{Name: "acme.example", Messages: 1500, Affected: 130, Quarantined: 30, Rejected: 100, Spared: 7}}
	for i := range 2 {
		b.BySource = append(b.BySource, SimulationLine{Name: fmt.Sprintf("192.0.2.%d", i), Class: dmarc.ClassOwn.String(), Messages: 600, Affected: 50, Quarantined: 10, Rejected: 40, Spared: 3})
	}
	b.ByDay = []SimulationLine{{Name: "2026-01-05\u202e", Messages: 1500, Affected: 130, Quarantined: 30, Rejected: 100, Spared: 7}}
	for part, want := range map[string]string{
		"source": `acme.example under p=reject, 2026-01-01 to 2026-02-01, messages by source

                      messages  quarantined     rejected       spared
  192.0.2.0 (own)          600           10           40            3
  192.0.2.1 (own)          600           10           40            3
  others                   300           10           20            1
  all                    1,500           30          100            7
`,
		"day": `acme.example under p=reject, 2026-01-01 to 2026-02-01, messages by day

                  messages  quarantined     rejected       spared
  2026-01-05` + "\ufffd" + `        1,500           30          100            7
  all                1,500           30          100            7
`,
	} {
		var got strings.Builder
		if err := b.Text(&got, part); err != nil || got.String() != want {
			t.Errorf("by %s: %v\n%s\nwant\n%s", part, err, got.String(), want)
		}
	}
}
