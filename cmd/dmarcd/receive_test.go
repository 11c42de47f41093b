package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/dmarcd/dmarcd/internal/porttest"
)

// aMail is a message with one report.
func aMail(id string) []byte {
	return []byte("From: a@r.example\r\nSubject: report\r\nMessage-ID: <" + id + "@r.example>\r\nContent-Type: text/xml\r\n\r\n" + aReport(id) + "\r\n")
}

func aReport(id string) string {
	return `<feedback><report_metadata><org_name>R</org_name><email>a@r.example</email><report_id>` + id + `</report_id>
<date_range><begin>1767225600</begin><end>1767311999</end></date_range></report_metadata>
<policy_published><domain>example.com</domain><p>none</p></policy_published>
<record><row><source_ip>192.0.2.1</source_ip><count>2</count><policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated></row>
<identifiers><header_from>example.com</header_from></identifiers><auth_results/></record></feedback>`
}

// ledger returns how many messages there are of each mailbox and outcome.
func (r *running) ledger() map[string]int {
	r.t.Helper()
	counts := map[string]int{}
	r.eachLine(func(m ledgerLine) { counts[m.Mailbox+" "+m.Outcome]++ })
	return counts
}

// ready waits until the service answers.
func (r *running) ready() *running {
	r.t.Helper()
	for deadline := time.Now().Add(patience); r.messages() < 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("no answer\n%s", r.log)
		}
	}
	return r
}

// Many clients bring reports by all ways that give an answer while dmarcd is killed
// again and again. What was accepted is never brought again, and what was not is,
// as mail servers do: at the end each message has one fate.
func TestKilledAtAnyTimeNothingAcceptedIsLost(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"smtp", "lmtp"} {
		t.Run(protocol, func(t *testing.T) {
			binary, data, address := build(t), filepath.Join(t.TempDir(), "data"), porttest.FreeAddress(t)
			vars := []string{"DMARCD_SMTP_LISTEN=" + address, "DMARCD_SMTP_RECIPIENTS=dmarc@example.com", "DMARCD_SMTP_PROTOCOL=" + protocol,
				"DMARCD_TLSRPT_PATH=/in/tlsrpt", "DMARCD_TLSRPT_PER_MINUTE=100000", "DMARCD_DOMAINS=example.com"}
			r := serveWith(t, binary, data, vars...).ready()
			var base atomic.Value // where it listens now
			base.Store(r.base)
			post := func(path, body string) error {
				resp, err := http.Post(base.Load().(string)+path, "application/octet-stream", strings.NewReader(body))
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK {
					return fmt.Errorf("status %d", resp.StatusCode)
				}
				return nil
			}
			ways := []func(id string) error{
				func(id string) error { return deliver(protocol, address, aMail(id)) },
				func(id string) error { return post("/api/v1/reports", aReport("upload "+id)) },
				func(id string) error { return post("/in/tlsrpt", aTLSReport(id, "example.com")) },
			}

			const each, senders = 240, 12
			messages := int64(each * len(ways))
			var next, accepted, again atomic.Int64
			var sending sync.WaitGroup
			for range senders {
				sending.Go(func() {
					for n := next.Add(1); n <= messages; n = next.Add(1) {
						for ways[n%int64(len(ways))](fmt.Sprint(n)) != nil {
							again.Add(1)
							time.Sleep(10 * time.Millisecond)
						}
						accepted.Add(1)
					}
				})
			}
			for i := range int64(3) {
				for accepted.Load() < messages*(i+1)/5 {
					time.Sleep(time.Millisecond)
				}
				r.stop(syscall.SIGKILL)
				r = serveWith(t, binary, data, vars...)
				base.Store(r.base)
			}
			sending.Wait()
			if again.Load() == 0 {
				t.Error("no message was interrupted")
			}
			if got, want := r.ready().ledger(), map[string]int{"smtp ok": each, "upload ok": each, "tlsrpt ok": each}; !reflect.DeepEqual(got, want) {
				t.Errorf("ledger %v, want %v", got, want)
			}
			if got := r.messages(); got != 2*2*each {
				t.Errorf("the reports tell of %d messages, want %d", got, 2*2*each)
			}
			verified(t, "DMARCD_DATA_DIR="+data)
			if status := r.stop(syscall.SIGTERM); status != 0 {
				t.Errorf("exit status %d after SIGTERM\n%s", status, r.log)
			}
		})
	}
}

// deliver sends a message by SMTP or LMTP, and returns nil for an answer of 250.
func deliver(protocol, address string, message []byte) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	open := gosmtp.NewClient
	if protocol == "lmtp" {
		open = gosmtp.NewClientLMTP
	}
	c := open(conn)
	defer c.Close()
	return c.SendMail("a@r.example", []string{"dmarc@example.com"}, bytes.NewReader(message))
}

func TestASocketThatWasLeftBehindIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if l, err := listen("smtp.listen", "unix:"+path); err == nil {
		l.Close()
		t.Error("a socket that is in use was taken away")
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	l, err := listen("smtp.listen", "unix:"+path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := os.WriteFile(path, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen("smtp.listen", "unix:"+path); err == nil {
		t.Error("a file was taken away")
	}
}

func TestARenewedCertificateIsUsedWithoutARestart(t *testing.T) {
	dir := t.TempDir()
	c := &certificate{certFile: filepath.Join(dir, "cert.pem"), keyFile: filepath.Join(dir, "key.pem")}
	if _, err := c.get(nil); err == nil {
		t.Error("a certificate out of nothing")
	}
	write := func(when time.Time) {
		t.Helper()
		writeCertificate(t, c.certFile, c.keyFile)
		for _, name := range []string{c.certFile, c.keyFile} {
			if err := os.Chtimes(name, when, when); err != nil {
				t.Fatal(err)
			}
		}
	}
	get := func() *tls.Certificate {
		t.Helper()
		got, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	write(time.Unix(1e9, 0))
	first := get()
	if get() != first {
		t.Error("read twice")
	}
	write(time.Unix(2e9, 0))
	second := get()
	if reflect.DeepEqual(first.Certificate, second.Certificate) {
		t.Error("the old certificate is used")
	}
	if err := os.WriteFile(c.keyFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if get() != second {
		t.Error("broken files take the certificate away")
	}
}

// writeCertificate makes a certificate for 127.0.0.1 and its key.
func writeCertificate(t *testing.T, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "dmarcd"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Files appear in a folder while dmarcd is killed again and again: each has one
// fate, and is moved after it.
func TestKilledAtAnyTimeNoFileIsLost(t *testing.T) {
	t.Parallel()
	const files = 600
	binary, data, dir := build(t), filepath.Join(t.TempDir(), "data"), t.TempDir()
	vars := []string{"DMARCD_DIRECTORY_PATH=" + dir, "DMARCD_DIRECTORY_AFTER=move", "DMARCD_DIRECTORY_SETTLE=0s", "DMARCD_DIRECTORY_POLL=1s", "DMARCD_INGEST_BATCH_ROWS=5"}
	r := serveWith(t, binary, data, vars...).ready()
	for i := range files {
		hidden := filepath.Join(dir, ".new")
		if err := os.WriteFile(hidden, []byte(aReport(fmt.Sprint(i))), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(hidden, filepath.Join(dir, fmt.Sprintf("%d.xml", i))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range int64(3) {
		r.until(2 * files * (i + 1) / 5)
		r.stop(syscall.SIGKILL)
		r = serveWith(t, binary, data, vars...)
	}
	r.until(2 * files)
	moved := func() int {
		names, _ := filepath.Glob(filepath.Join(dir, "done", "*.xml"))
		return len(names)
	}
	for deadline := time.Now().Add(patience); moved() < files && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*.xml"))
	if moved() != files || len(left) != 0 {
		t.Errorf("%d files are moved and %d are left", moved(), len(left))
	}
	if got, want := r.ledger(), map[string]int{"directory ok": files}; !reflect.DeepEqual(got, want) {
		t.Errorf("ledger %v, want %v", got, want)
	}
	if got := r.messages(); got != 2*files {
		t.Errorf("the reports tell of %d messages, want %d", got, 2*files)
	}
	r.stop(syscall.SIGTERM) // and with it PostgreSQL, whose files go away
}
