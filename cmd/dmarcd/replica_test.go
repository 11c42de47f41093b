package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

func TestServeReadsFromTheReplicaAndSaysHowItIs(t *testing.T) {
	t.Parallel()
	servers := pgtest.Replicate(t)
	r := start(t, build(t), porttest.FreeAddress(t), []string{
		"DMARCD_CONFIG=/dev/null", "DMARCD_DATABASE_URL=" + servers.Primary.URL, "DMARCD_DATABASE_READ_URL=" + servers.Replica.URL, "DMARCD_DATA_DIR=" + t.TempDir(),
	})
	read := func(path string) string {
		resp, err := http.Get(r.base + path)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return string(body)
	}
	await := func(path, want string) {
		t.Helper()
		for deadline := time.Now().Add(patience); !strings.Contains(read(path), want); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %q, want %q\n%s", path, read(path), want, r.log)
			}
		}
	}
	await("/readyz", "ready\nreplica: used, ")
	await("/metrics", "\ndmarcd_replica_used 1\n")
	if text := read("/metrics"); !strings.Contains(text, "\ndmarcd_replica_lag_seconds ") {
		t.Errorf("no lag in\n%s", text)
	}
	servers.Replica.Stop()
	await("/readyz", "ready\nreplica: not used")
	await("/metrics", "\ndmarcd_replica_used 0\n")
	if n := r.messages(); n != 0 {
		t.Errorf("%d messages", n)
	}
}
