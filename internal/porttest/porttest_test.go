package porttest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// What one process of tests has been given, no other is.
func TestNoTwoProcessesAreGivenAPort(t *testing.T) {
	if os.Getenv("DMARCD_TEST_PORTS") != "" {
		for n := 10000; n < 10400; n++ {
			if take(n) {
				os.Stdout.WriteString("x")
			}
		}
		os.Exit(0)
	}
	taken := 0
	for n := 10000; n < 10200; n++ {
		if take(n) {
			taken++
		}
	}
	if taken == 0 {
		t.Skip("all of them are in use")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestNoTwoProcessesAreGivenAPort$")
	cmd.Env = append(os.Environ(), "DMARCD_TEST_PORTS=1", "TMPDIR="+t.TempDir())
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(out), "x"); n == 0 || n > 400-taken {
		t.Errorf("another process was given %d of the 400 ports of which this one has %d", n, taken)
	}
}
