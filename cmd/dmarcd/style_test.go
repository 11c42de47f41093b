package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudo-terminal of some columns.
func terminal(t *testing.T, columns uint16) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("SKIPPED: no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("SKIPPED: no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { slave.Close() })
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	return slave
}

func TestColoursAreForTerminalsThatWantThem(t *testing.T) {
	tty := terminal(t, 80)
	for _, c := range []struct {
		vars []string
		file bool
		want style
	}{
		{nil, false, style{colours: true, width: 80}},
		{[]string{"NO_COLOR=1"}, false, style{width: 80}},
		{[]string{"TERM=dumb"}, false, style{width: 80}},
		{[]string{"COLUMNS=110"}, false, style{colours: true, width: 110}},
		{[]string{"COLUMNS=10"}, false, style{colours: true, width: leastWidth}},
		{[]string{"COLUMNS=400"}, true, style{width: mostWidth}},
		{nil, true, style{width: usualWidth}},
	} {
		env := newEnviron(nil, nil, nil, c.vars)
		var got style
		if c.file {
			got = env.style(&bytes.Buffer{})
		} else {
			got = env.style(tty)
		}
		if got != c.want {
			t.Errorf("%q: %+v, want %+v", c.vars, got, c.want)
		}
	}
}

func TestABarIsNeverFullOrEmptyWhereThatIsNotTrue(t *testing.T) {
	for _, c := range []struct {
		n, total int64
		want     string
	}{{0, 10, "░░░░"}, {10, 10, "████"}, {1, 1000, "█░░░"}, {999, 1000, "███░"}, {1, 2, "██░░"}, {0, 0, "░░░░"}} {
		if got := (style{}).bar(c.n, c.total, 4); got != c.want {
			t.Errorf("%d of %d: %s, want %s", c.n, c.total, got, c.want)
		}
	}
}

func TestATableKeepsToTheWidth(t *testing.T) {
	var out bytes.Buffer
	style{width: 60}.table(&out, "  ", []column{{"Name", false}, {"Messages", true}, {"What", false}}, [][]string{
		{strings.Repeat("long.", 20) + "example.com", "12,345", "none"}, {"é", "1", "reject"},
	})
	const want = "  Name                                      Messages  What\n" +
		"  long.long.long.long…ong.long.example.com    12,345  none\n" +
		"  é                                                1  reject\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What parse and the helps print keeps to the terminal, and is the same text with
// and without colours.
func TestOutputKeepsToTheWidthOfTheTerminal(t *testing.T) {
	reports, err := filepath.Glob("testdata/*.xml")
	if err != nil || len(reports) == 0 {
		t.Fatal(reports, err)
	}
	all := [][]string{append([]string{"parse"}, reports...), {"config", "--help"}, {"help"}}
	for _, c := range commands() {
		all = append(all, []string{c.name, "--help"})
	}
	for _, args := range all {
		for _, columns := range []int{80, 120} {
			got := world{vars: []string{fmt.Sprintf("COLUMNS=%d", columns)}}.run(t, args...)
			for line := range strings.Lines(got.stdout) {
				if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > columns && !strings.HasPrefix(line, "  dmarcd ") {
					t.Errorf("dmarcd %s at %d columns has %d: %q", args[0], columns, n, line)
				}
			}
		}
	}
}

func TestParseTellsTheStoryOfAReport(t *testing.T) {
	const report = `<feedback>
<report_metadata><org_name>Mailhost</org_name><email>dmarc@mailhost.example</email><report_id>r1</report_id><date_range><begin>1767225600</begin><end>1767311999</end></date_range></report_metadata>
<policy_published><domain>example.com</domain><p>quarantine</p><sp>reject</sp><pct>50</pct></policy_published>
<record><row><source_ip>192.0.2.1</source_ip><count>2</count><policy_evaluated><disposition>quarantine</disposition><dkim>fail</dkim><spf>fail</spf></policy_evaluated></row><identifiers><header_from>example.com</header_from></identifiers><auth_results/></record>
<record><row><source_ip>192.0.2.9</source_ip><count>98</count><policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated></row><identifiers><header_from>example.com</header_from></identifiers><auth_results/></record>
</feedback>`
	got := world{stdin: report, vars: []string{"COLUMNS=80"}}.run(t, "parse", "-")
	const want = `-
  Aggregate report for example.com by Mailhost
  Period      Thursday, 1 January 2026, the whole day in UTC
  Report ID   r1
  Policy      p=quarantine; sp=reject; pct=50
              mail that fails is to be treated as suspicious, that of subdomains
              is to be refused, 50 % of it
  Messages    100 in 2 rows

  Passed      █████████████████████████████░    98.0 %  98
    by DKIM   █████████████████████████████░    98.0 %  98
    by SPF    ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░       0 %  0
  Handled     none 98, quarantine 2, reject 0

  Source, busiest first  Messages  Passed   DKIM  SPF  Handled
  192.0.2.9                    98   100 %  100 %  0 %  none
  192.0.2.1                     2     0 %    0 %  0 %  quarantine

`
	if got.stdout != want {
		t.Errorf("got\n%s\nwant\n%s", got.stdout, want)
	}
}
