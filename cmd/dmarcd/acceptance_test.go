package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/dmarcd/dmarcd/ingest/dovecottest"
	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/internal/racetest"
)

// truth is what the generator of reports says of them. Its columns are records,
// messages, DKIM pass, SPF pass, either, and the dispositions none, quarantine,
// reject and pass.
type truth struct {
	Totals     map[string]int64                         `json:"totals"`
	ByDomain   map[string][]int64                       `json:"by_domain"`
	ByReporter map[string][]int64                       `json:"by_reporter"`
	Cells      map[string]map[string]map[string][]int64 `json:"cells_overlap"`
}

// A running dmarcd, as a process of its own.
type running struct {
	t    *testing.T
	cmd  *exec.Cmd
	base string
	log  *lockedBuffer
}

// build returns the program as users have it. What it does in its own process is not watched for races.
func build(t testing.TB) string {
	t.Helper()
	racetest.Calm(t)
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// built is the program, built once for all tests.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "dmarcd-built-")
	if err != nil {
		return "", err
	}
	builtIn = dir
	binary := filepath.Join(dir, "dmarcd")
	if err := buildIn(".", binary); err != nil {
		return "", err
	}
	// Some tests run it as somebody else.
	return binary, errors.Join(os.Chmod(dir, 0o755), os.Chmod(binary, 0o755))
})

// buildIn builds the command whose source is in a folder, with further flags of go build.
func buildIn(dir, binary string, flags ...string) error {
	cmd := exec.Command("go", append(append([]string{"build", "-trimpath", "-buildvcs=false", "-o", binary}, flags...), ".")...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building: %w\n%s", err, out)
	}
	return nil
}

var builtIn string

func removeBuilt() error {
	if builtIn == "" {
		return nil
	}
	return os.RemoveAll(builtIn)
}

func serve(t *testing.T, binary, data string, imap *dovecottest.Server, more ...string) *running {
	t.Helper()
	vars := []string{"DMARCD_IMAP_URL=imap://" + dovecottest.User + "@" + imap.Address + "/INBOX", "DMARCD_IMAP_PASSWORD=" + dovecottest.Password, "DMARCD_IMAP_NAME=reports"}
	return serveWith(t, binary, data, append(vars, more...)...)
}

// serveWith runs dmarcd with further variables.
func serveWith(t *testing.T, binary, data string, vars ...string) *running {
	t.Helper()
	address := porttest.FreeAddress(t)
	return start(t, binary, address, append([]string{"DMARCD_DATA_DIR=" + data}, vars...))
}

// start runs dmarcd serve with further variables.
func start(t *testing.T, binary, address string, vars []string) *running {
	t.Helper()
	r := &running{t: t, cmd: exec.Command(binary, "serve"), base: "http://" + address, log: new(lockedBuffer)}
	r.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "DMARCD_LISTEN=" + address, "DMARCD_LOG_FORMAT=text",
		"DMARCD_RECORDS_WATCH=false", // no test asks the system's resolver
	}, vars...)
	r.cmd.Stdout, r.cmd.Stderr = r.log, r.log
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.stop(syscall.SIGKILL) })
	return r
}

// stop ends the process by a signal and returns its exit status, -1 if it was killed.
func (r *running) stop(sig os.Signal) int {
	if r.cmd.ProcessState == nil {
		r.cmd.Process.Signal(sig)
		r.cmd.Wait()
	}
	return r.cmd.ProcessState.ExitCode()
}

// over reports whether the process has ended, where the system tells.
func (r *running) over() bool {
	if r.cmd.ProcessState != nil {
		return true
	}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.cmd.Process.Pid))
	_, state, _ := strings.Cut(string(text), ") ")
	return strings.HasPrefix(state, "Z")
}

// ask reads JSON from the API, and reports whether there was an answer.
func (r *running) ask(path string, into any) bool {
	resp, err := http.Get(r.base + path)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK && json.Unmarshal(body, into) == nil
}

type wireTotals struct {
	Rows       int64 `json:"rows"`
	Messages   int64 `json:"messages"`
	DKIM       int64 `json:"dkim_aligned"`
	SPF        int64 `json:"spf_aligned"`
	Pass       int64 `json:"dmarc_pass"`
	None       int64 `json:"none"`
	Quarantine int64 `json:"quarantine"`
	Reject     int64 `json:"reject"`
	DispPass   int64 `json:"disposition_pass"`
	Unstated   int64 `json:"disposition_unstated"`
}

func (w wireTotals) columns() []int64 {
	return []int64{w.Rows, w.Messages, w.DKIM, w.SPF, w.Pass, w.None - w.DispPass, w.Quarantine, w.Reject, w.DispPass + w.Unstated}
}

type wireList struct {
	Items []struct {
		Domain  string     `json:"domain"`
		OrgName string     `json:"org_name"`
		Reports int64      `json:"reports"`
		Totals  wireTotals `json:"totals"`
	} `json:"items"`
	Next *string `json:"next"`
}

const wholeYear = "limit=1000&from=2025-12-01&to=2027-01-01"

// messages is how many messages reports tell of so far.
func (r *running) messages() (n int64) {
	var list wireList
	if !r.ask("/api/v1/domains?"+wholeYear, &list) {
		return -1
	}
	for _, d := range list.Items {
		n += d.Totals.Messages
	}
	return n
}

// until waits for a number of messages.
func (r *running) until(n int64) {
	r.t.Helper()
	r.await(fmt.Sprintf("%d messages are there", n), func() bool { return r.messages() >= n })
}

func (r *running) compare(want truth) {
	t := r.t
	t.Helper()
	var list wireList
	if !r.ask("/api/v1/domains?"+wholeYear, &list) {
		t.Fatalf("no answer\n%s", r.log)
	}
	reporters := map[string][]int64{}
	var reports int64
	domains := map[string][]int64{}
	for _, d := range list.Items {
		domains[d.Domain] = append([]int64{d.Reports}, d.Totals.columns()...)
		reports += d.Reports
		var sum struct {
			Series []struct {
				Day    string     `json:"day"`
				Totals wireTotals `json:"totals"`
			} `json:"series"`
		}
		if !r.ask("/api/v1/domains/"+d.Domain+"/summary?"+strings.TrimPrefix(wholeYear, "limit=1000&"), &sum) {
			t.Fatal("no summary of", d.Domain)
		}
		got, cells := map[string][]int64{}, map[string][]int64{}
		for _, p := range sum.Series {
			got[p.Day] = p.Totals.columns()
		}
		for day, classes := range want.Cells[d.Domain] {
			cells[day] = make([]int64, 9)
			for _, c := range classes {
				for i, n := range c {
					cells[day][i] += n
				}
			}
		}
		if !reflect.DeepEqual(got, cells) {
			t.Errorf("%s: days\n%v, want\n%v", d.Domain, got, cells)
		}
		var by wireList
		if !r.ask("/api/v1/domains/"+d.Domain+"/reporters?"+wholeYear, &by) {
			t.Fatal("no reporters of", d.Domain)
		}
		for _, o := range by.Items {
			if reporters[o.OrgName] == nil {
				reporters[o.OrgName] = make([]int64, 10)
			}
			for i, n := range append([]int64{o.Reports}, o.Totals.columns()...) {
				reporters[o.OrgName][i] += n
			}
		}
	}
	if !reflect.DeepEqual(domains, want.ByDomain) {
		t.Errorf("by domain\n%v, want\n%v", domains, want.ByDomain)
	}
	if !reflect.DeepEqual(reporters, want.ByReporter) {
		t.Errorf("by reporter\n%v, want\n%v", reporters, want.ByReporter)
	}
	if reports != want.Totals["reports"] {
		t.Errorf("%d reports, want %d", reports, want.Totals["reports"])
	}
}

// generated makes reports, and returns where they are and what is true of
// them. DMARCD_ACCEPTANCE_REPORTS sets how many there are, DMARCD_ACCEPTANCE_SEED
// which.
func generated(t *testing.T, n string) (dir string, want truth) {
	t.Helper()
	generator, _ := filepath.Abs("../../../shared/bin/gencorpus")
	if _, err := os.Stat(generator); err != nil {
		if os.Getenv("DMARCD_CHAOS_TIME") != "" {
			t.Fatal("the generator of reports is not there: ../shared/bin/gencorpus beside the repository")
		}
		t.Skip("SKIPPED: the generator of reports is not there: ../shared/bin/gencorpus beside the repository")
	}
	if v := os.Getenv("DMARCD_ACCEPTANCE_REPORTS"); v != "" {
		n = v
	}
	seed := "11"
	if v := os.Getenv("DMARCD_ACCEPTANCE_SEED"); v != "" {
		seed = v
	}
	dir = t.TempDir()
	cmd := exec.Command(generator, "--seed", seed, "--reports", n, "--records-per-report", "15", "--domains", "6", "--days", "40",
		"--reporters", "12", "--format", "eml", "--out", dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("generating: %v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "truth.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	return dir, want
}

// eachMail hands over the generated mails.
func eachMail(t *testing.T, dir string, take func(message []byte)) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "reports"), func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		message, err := os.ReadFile(name)
		if err == nil {
			take(message)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A ledgerLine is what became of a message.
type ledgerLine struct {
	Mailbox string `json:"mailbox"`
	UID     int64  `json:"uid"`
	Subject string `json:"subject"`
	Outcome string `json:"outcome"`
	Reason  string `json:"reason"`
}

// lines hands over the fate of each message, and reports whether there was an answer.
func (r *running) lines(take func(ledgerLine)) bool {
	var list struct {
		Items []ledgerLine `json:"items"`
		Next  *string      `json:"next"`
	}
	for after := ""; ; after = "&after=" + *list.Next {
		list.Next, list.Items = nil, nil
		if !r.ask("/api/v1/messages?limit=1000"+after, &list) {
			return false
		}
		for _, m := range list.Items {
			take(m)
		}
		if list.Next == nil {
			return true
		}
	}
}

func (r *running) eachLine(take func(ledgerLine)) {
	r.t.Helper()
	if !r.lines(take) {
		r.t.Fatalf("no ledger\n%s", r.log)
	}
}

// eachHasOneFate holds the ledger against the number of messages in the mailbox.
func (r *running) eachHasOneFate(messages int) {
	t := r.t
	t.Helper()
	uids := map[int64]int{}
	r.eachLine(func(m ledgerLine) { uids[m.UID]++ })
	if len(uids) != messages {
		t.Errorf("%d messages have a fate, want %d", len(uids), messages)
	}
	for uid, times := range uids {
		if times != 1 {
			t.Errorf("message %d has %d fates", uid, times)
		}
	}
}

// Generated reports are polled from Dovecot while dmarcd is killed again and
// again, and PostgreSQL once. DMARCD_ACCEPTANCE_REPORTS sets how many there are.
func TestKilledAtAnyTimeServeEndsWithTheTruth(t *testing.T) {
	t.Parallel()
	dir, want := generated(t, "1500")
	imap := dovecottest.Start(t)
	files := 0
	eachMail(t, dir, func(message []byte) {
		imap.Deliver(t, fmt.Sprintf("%07d.M1P1.host", files), message)
		files++
	})

	binary, data, all := build(t), filepath.Join(t.TempDir(), "data"), want.Totals["messages"]
	for i := range int64(10) {
		r := serve(t, binary, data, imap)
		r.until(all * i / 12)
		if i == 5 {
			text, err := os.ReadFile(filepath.Join(data, "postgres", "postmaster.pid"))
			if err != nil {
				t.Fatal(err)
			}
			pid, _ := strconv.Atoi(strings.SplitN(string(text), "\n", 2)[0])
			syscall.Kill(pid, syscall.SIGKILL)
			r.until(all * (i + 1) / 12)
		}
		r.stop(syscall.SIGKILL)
	}
	r := serve(t, binary, data, imap)
	r.until(all)
	r.compare(want)
	r.eachHasOneFate(files)
	if status := r.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d after SIGTERM\n%s", status, r.log)
	}

	// Once more changes nothing.
	r = serve(t, binary, data, imap)
	r.until(all)
	r.compare(want)
	r.stop(syscall.SIGTERM)
}
