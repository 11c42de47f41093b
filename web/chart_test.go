package web

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"html/template"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a picture with the one that somebody looked at.
func golden(t *testing.T, name string, got template.HTML) {
	t.Helper()
	wellFormed(t, string(got))
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal([]byte(got), want) {
		t.Errorf("%s differs; look at it and use -update:\n%s", file, got)
	}
}

func wellFormed(t *testing.T, svg string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("not well-formed: %v\n%s", err, svg)
		}
		if e, ok := tok.(xml.StartElement); ok {
			for _, a := range e.Attr {
				if a.Name.Local == "style" || strings.HasPrefix(a.Name.Local, "on") || strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
					t.Fatalf("attribute %s=%q of <%s>", a.Name.Local, a.Value, e.Name.Local)
				}
			}
		}
	}
}

// aWeek is a Monday to a Sunday with all that a chart can show: every class, an
// estimated day, a gap, a day without mail.
func aWeek() ([]dmarc.DayTraffic, dmarc.Period) {
	p := dmarc.Period{Begin: today().AddDate(0, 0, -7), End: today()}
	at := func(i int) dmarc.DayTraffic { return dmarc.DayTraffic{Day: p.Begin.AddDate(0, 0, i)} }
	days := []dmarc.DayTraffic{at(0), at(1), at(2), at(5), at(6)}
	days[0].Tally = dmarc.Tally{Messages: 1000, DMARCPass: 950, DKIMAligned: 900, SPFAligned: 750, None: 970, Reject: 30}
	days[1].Tally = dmarc.Tally{Messages: 1200, DMARCPass: 1200, DKIMAligned: 1200, SPFAligned: 1000, None: 1200}
	days[2].Tally = dmarc.Tally{Messages: 800, DMARCPass: 400, DKIMAligned: 400, SPFAligned: 400, None: 400, Quarantine: 100, Reject: 300}
	days[2].Estimated = true
	days[4].Tally = dmarc.Tally{Messages: 300, DMARCPass: 299, DKIMAligned: 299, SPFAligned: 200, None: 300}
	return days, p
}

func TestVolumeIsDrawnAsStackedAreasWithGaps(t *testing.T) {
	days, p := aWeek()
	golden(t, "volume.svg", volumeChart(binned(days, p, byDay), byDay, today(), 200))
}

func TestVolumeOfAYearIsDrawnByWeek(t *testing.T) {
	f := realistic()
	p := lastDays(365, now).Period
	days, _ := within(f.all[0].days, p)
	golden(t, "volume-year.svg", volumeChart(binned(days, p, byWeek), byWeek, today(), 200))
}

// passRate draws the share of all messages.
func passRate(bins []bin, u unit) (template.HTML, int) {
	return rateChart(bins, u, 100, "Share of messages that passed DMARC.", func(i int) (int64, int64) { return bins[i].Tally.DMARCPass, bins[i].Tally.Messages })
}

func TestThePassRateIsALineOnAScaleThatFits(t *testing.T) {
	days, p := aWeek()
	chart, floor := passRate(binned(days, p, byDay), byDay)
	if floor != 50 {
		t.Errorf("the scale begins at %d, want 50", floor)
	}
	golden(t, "rate.svg", chart)
}

func TestASparklineHasNoAxis(t *testing.T) {
	days, p := aWeek()
	golden(t, "spark.svg", sparkline(days, p))
}

func TestABarShowsWhatIsLittleAndWhatIsNotAll(t *testing.T) {
	golden(t, "bar.svg", passBar(dmarc.Tally{Messages: 100_000, DMARCPass: 99_998, DKIMAligned: 99_998, None: 99_999, Reject: 1})+"\n"+
		shareBar(99_999, 100_000, "own")+"\n"+shareBar(1, 100_000, "own")+"\n"+shareBar(10, 10, "own")+"\n"+shareBar(0, 0, "own"))
}

func TestWithoutReportsThereIsNoChart(t *testing.T) {
	p := lastDays(30, now).Period
	bins := binned(nil, p, byDay)
	rate, _ := passRate(bins, byDay)
	if got := volumeChart(bins, byDay, today(), 100) + rate + sparkline(nil, p); got != "" {
		t.Errorf("drawn: %s", got)
	}
}

func TestReportsWithoutMailAreDrawnAsZero(t *testing.T) {
	p := lastDays(3, now).Period
	days := []dmarc.DayTraffic{{Day: p.Begin}}
	volume := volumeChart(binned(days, p, byDay), byDay, today(), 100)
	wellFormed(t, string(volume))
	if !strings.Contains(string(volume), "0"+nbsp+"messages") {
		t.Errorf("the day does not say that it has no messages: %s", volume)
	}
	wellFormed(t, string(sparkline(days, p)))
}

func TestNoTallyBreaksAChart(t *testing.T) {
	p := lastDays(40, now).Period
	for _, n := range []int64{1, 2, 3, 999, 1 << 40, math.MaxInt64} {
		days := []dmarc.DayTraffic{
			{Day: p.Begin.AddDate(0, 0, 3), Tally: dmarc.Tally{Messages: n, DMARCPass: n / 2, DKIMAligned: n / 2, SPFAligned: n / 3, None: n}},
			{Day: p.Begin.AddDate(0, 0, 39), Tally: dmarc.Tally{Messages: 1, Reject: n}},
		}
		for _, u := range []unit{byDay, byWeek, byMonth} {
			bins := binned(days, p, u)
			wellFormed(t, string(volumeChart(bins, u, today(), 200)))
			rate, _ := passRate(bins, u)
			wellFormed(t, string(rate))
		}
		wellFormed(t, string(sparkline(days, p)))
	}
}

func TestTicksAreRound(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0 1", 0.3: "0 0.1 0.2 0.3", 1: "0 1", 2: "0 1 2", 3: "0 1 2 3", 7: "0 2 4 6 8", 20: "0 5 10 15 20", 99: "0 20 40 60 80 100",
		1_200: "0 500 1,000 1,500", 41_203: "0 10 k 20 k 30 k 40 k 50 k", 1_600_000: "0 500 k 1 M 1.5 M 2 M",
	} {
		var got []string
		for _, tk := range ticksTo(v) {
			got = append(got, spaced(tick(tk)))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("up to %v: %s, want %s", v, s, want)
		}
	}
}

func TestNamesOfClassesDoNotCoverEachOther(t *testing.T) {
	p := lastDays(1, now).Period
	days := []dmarc.DayTraffic{{Day: p.Begin, Tally: dmarc.Tally{Messages: 1000, DMARCPass: 4, DKIMAligned: 3, SPFAligned: 3, None: 999, Reject: 1}}}
	svg := string(volumeChart(binned(days, p, byDay), byDay, today(), 200))
	var tops []float64
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		tok, err := d.Token()
		if err != nil {
			break
		}
		if e, ok := tok.(xml.StartElement); ok && attribute(e, "class") == "name" {
			var y float64
			if err := xml.Unmarshal([]byte("<y>"+attribute(e, "y")+"</y>"), &y); err != nil {
				t.Fatal(err)
			}
			tops = append(tops, y)
		}
	}
	if len(tops) != 5 {
		t.Fatalf("%d names, want 5: %s", len(tops), svg)
	}
	for i, y := range tops {
		if y < 0 || i > 0 && tops[i-1]-y < 18 {
			t.Errorf("the names stand at %v", tops)
		}
	}
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}
