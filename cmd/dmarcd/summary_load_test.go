package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// loadClients is how many connections ask at once, each as soon as it has its
// answer.
const loadClients = 16

// BenchmarkSummaryOfTheDemo has clients ask dmarcd demo for summaries of its
// domains, with its PostgreSQL and the clients on the same machine. It tells how many
// answers came in a second, how long they took, and what an answer cost of the
// processor. `make load` runs it long enough.
func BenchmarkSummaryOfTheDemo(b *testing.B) {
	cmd := exec.Command(build(b), "demo", "--listen", "127.0.0.1:0")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.TempDir(), "DMARCD_CONFIG=" + os.DevNull}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	address := strings.TrimSuffix(strings.TrimPrefix(line, "http://"), "/\n")
	resp, err := http.Get("http://" + address + "/api/v1/domains")
	if err != nil {
		b.Fatal(err)
	}
	var list struct{ Items []struct{ Domain string } }
	err = json.NewDecoder(resp.Body).Decode(&list)
	resp.Body.Close()
	if err != nil || len(list.Items) < 4 {
		b.Fatalf("%v: %+v", err, list)
	}
	for _, c := range []struct{ name, query, header string }{
		{"30 days", "", ""},
		{"30 days gzipped", "", "Accept-Encoding: gzip\r\n"},
		{"90 days by week", "?interval=week&from=" + time.Now().AddDate(0, 0, -90).Format(time.DateOnly), ""},
	} {
		var requests [][]byte
		for _, d := range list.Items {
			requests = append(requests, fmt.Appendf(nil, "GET /api/v1/domains/%s/summary%s HTTP/1.1\r\nHost: %s\r\n%s\r\n", d.Domain, c.query, address, c.header))
		}
		b.Run(c.name, func(b *testing.B) {
			before, ours := spentBelow(cmd.Process.Pid), spentBy(os.Getpid())
			b.ResetTimer()
			took := askMuch(b, address, requests)
			b.StopTimer()
			after := spentBelow(cmd.Process.Pid)
			slices.Sort(took)
			n := float64(b.N)
			b.ReportMetric(n/b.Elapsed().Seconds(), "answers/s")
			b.ReportMetric(took[len(took)/2].Seconds()*1000, "p50-ms")
			b.ReportMetric(took[len(took)*99/100].Seconds()*1000, "p99-ms")
			b.ReportMetric((after.dmarcd-before.dmarcd).Seconds()*1e6/n, "dmarcd-µs/answer")
			b.ReportMetric((after.postgres-before.postgres).Seconds()*1e6/n, "postgres-µs/answer")
			b.ReportMetric((spentBy(os.Getpid())-ours).Seconds()*1e6/n, "clients-µs/answer")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// askMuch makes b.N requests over connections that are kept, and returns how long each
// took. Any other answer than a whole 200 is an error.
func askMuch(b *testing.B, address string, requests [][]byte) []time.Duration {
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	var clients sync.WaitGroup
	for range min(loadClients, b.N) {
		clients.Go(func() {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			answers := bufio.NewReaderSize(conn, 64<<10)
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				began := time.Now()
				if _, err := conn.Write(requests[i%int64(len(requests))]); err != nil {
					b.Error(err)
					return
				}
				if err := readAnswer(answers); err != nil {
					b.Error(err)
					return
				}
				took[i] = time.Since(began)
			}
		})
	}
	clients.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return took
}

// readAnswer reads an answer of HTTP/1.1 and throws it away. net/http would cost as
// much as what is measured.
func readAnswer(r *bufio.Reader) error {
	length := -1
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
			return fmt.Errorf("the answer is %s", line)
		}
		if len(line) == 0 {
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(": ")); bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return err
			}
		}
	}
	if length >= 0 {
		_, err := r.Discard(length)
		return err
	}
	for { // in chunks
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 32)
		if err != nil {
			return err
		}
		if _, err := r.Discard(int(n) + len("\r\n")); err != nil || n == 0 {
			return err
		}
	}
}

// spent is the processor time of a dmarcd and of its private PostgreSQL.
type spent struct{ dmarcd, postgres time.Duration }

// spentBelow adds up the processor time of a process and of all below it, zero where
// there is no /proc.
func spentBelow(pid int) (sum spent) {
	sum.dmarcd = spentBy(pid)
	children := map[int][]int{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		parent := int(procStat(child)[1])
		children[parent] = append(children[parent], child)
	}
	for todo := children[pid]; len(todo) > 0; todo = append(todo[1:], children[todo[0]]...) {
		sum.postgres += spentBy(todo[0])
	}
	return sum
}

// spentBy returns the processor time that a process has used.
func spentBy(pid int) time.Duration {
	stat := procStat(pid)
	return time.Duration(stat[11]+stat[12]) * 10 * time.Millisecond
}
