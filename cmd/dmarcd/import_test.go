package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An import that is stopped, gently or not, goes on where it was when it is run
// again; and once more finds everything done.
func TestAnInterruptedImportGoesOn(t *testing.T) {
	t.Parallel()
	const files = 3000
	binary, dir, data := build(t), t.TempDir(), filepath.Join(t.TempDir(), "data")
	for i := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%05d.xml", i)), []byte(aReport(fmt.Sprint(i))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	started := func() (cmd *exec.Cmd, out, log *bytes.Buffer) {
		cmd, out, log = exec.Command(binary, "import", "--format", "json", dir), new(bytes.Buffer), new(bytes.Buffer)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "DMARCD_DATA_DIR=" + data, "DMARCD_INGEST_BATCH_ROWS=50"}
		cmd.Stdout, cmd.Stderr = out, log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, out, log
	}
	// A dmarcd beside it keeps the database, and tells how far the import is.
	r := serveWith(t, binary, data).ready()
	until := func(n int64) {
		for deadline := time.Now().Add(patience); r.messages() < n && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
	}
	cmd, _, log := started()
	until(1)
	cmd.Process.Signal(syscall.SIGINT)
	if cmd.Wait(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(log.String(), " messages are done; run the same again to go on from there.") {
		t.Errorf("stopped with status %d\n%s", cmd.ProcessState.ExitCode(), log)
	}
	gently := r.messages()
	cmd, _, _ = started()
	until(gently + 2)
	cmd.Process.Kill()
	cmd.Wait()
	killed := r.messages()
	if gently < 2 || killed <= gently || killed >= 2*files {
		t.Errorf("stopped at %d and %d messages of %d: not in the middle", gently, killed, 2*files)
	}
	for _, last := range []bool{false, true} {
		cmd, out, log := started()
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		var got importResult
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		want := files - int(killed/2)
		if last {
			want = 0
		}
		// A commit may have been on its way when the process was killed.
		if got.Messages != files || got.Outcomes["ok"] != files || got.Reports.Added > want || !last && got.Reports.Added < want-100 || got.Reports.Duplicate != 0 {
			t.Errorf("%+v; want about %d added", got, want)
		}
	}
	if got := r.messages(); got != 2*files {
		t.Errorf("the reports tell of %d messages, want %d", got, 2*files)
	}
}
