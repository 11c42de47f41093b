// Package dovecottest runs a real Dovecot for tests.
package dovecottest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/internal/porttest"
)

// The user that every server knows.
const (
	User     = "reports"
	Password = "secret"
)

// A Server is a Dovecot with one user. It ends with the test.
type Server struct {
	Address    string      // of IMAP, plain or with STARTTLS, on loopback
	TLSAddress string      // of IMAP over TLS
	TLS        *tls.Config // that trusts the server
	dir        string
	uid        int
	path, file string    // of the program and its configuration
	cmd        *exec.Cmd // the master
}

// StartOAuth runs a Dovecot that takes access tokens as well, by XOAUTH2 and
// OAUTHBEARER. It asks at a URL whether a token is good (RFC 7662).
func StartOAuth(t testing.TB, introspection string, more ...string) *Server {
	t.Helper()
	dir := t.TempDir() // only the master of Dovecot reads it
	file := filepath.Join(dir, "oauth2.conf")
	text := "introspection_url = " + introspection + `
introspection_mode = post
active_attribute = active
active_value = true
username_attribute = username
`
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return Start(t, append(more, `auth_mechanisms = plain login xoauth2 oauthbearer
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = `+file+`
}`)...)
}

// Start runs Dovecot with further lines of configuration. Without it the test
// is skipped, or fails if DMARCD_TEST_REQUIRE is set.
func Start(t testing.TB, more ...string) *Server {
	t.Helper()
	path, err := exec.LookPath("dovecot")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/dovecot"); err != nil {
			if os.Getenv("DMARCD_TEST_REQUIRE") != "" {
				t.Fatal("Dovecot is not installed: apt-get install dovecot-imapd")
			}
			t.Skip("SKIPPED: Dovecot is not installed (apt-get install dovecot-imapd)")
		}
	}
	// Sockets want a short path, and the mail user has to get in.
	dir, err := os.MkdirTemp("/tmp", "dovecot")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &Server{dir: dir, uid: os.Getuid()}
	owner, gid, internal := "", os.Getgid(), ""
	if s.uid == 0 {
		nobody, err := user.Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		s.uid, _ = strconv.Atoi(nobody.Uid)
		gid, _ = strconv.Atoi(nobody.Gid)
	} else {
		me, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		group, err := user.LookupGroupId(me.Gid)
		if err != nil {
			t.Fatal(err)
		}
		owner = me.Username
		internal = fmt.Sprintf(`
default_internal_user = %[1]s
default_internal_group = %[2]s
default_login_user = %[1]s
service anvil {
  chroot =
}
service imap-login {
  chroot =
}
`, owner, group.Name)
	}
	port, tlsPort := porttest.Free(t), porttest.Free(t)
	s.Address, s.TLSAddress = net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("127.0.0.1", tlsPort)
	s.TLS = certificate(t, dir)

	config := fmt.Sprintf(`
protocols = imap
listen = 127.0.0.1
base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = %[1]s/log
ssl = yes
ssl_cert = <%[1]s/cert.pem
ssl_key = <%[1]s/key.pem
disable_plaintext_auth = no
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:%[1]s/mail
passdb {
  driver = static
  mechanisms = plain login
  args = password=%[2]s
}
userdb {
  driver = static
  args = uid=%[3]d gid=%[4]d home=%[1]s/mail
}
service imap-login {
  inet_listener imap {
    port = %[5]s
  }
  inet_listener imaps {
    port = %[6]s
    ssl = yes
  }
}
%[7]s
%[8]s
`, dir, Password, s.uid, gid, port, tlsPort, internal, strings.Join(more, "\n"))
	for _, sub := range []string{"", "run", "state", "mail", "mail/new", "mail/cur", "mail/tmp"} {
		p := filepath.Join(dir, sub)
		if err := os.MkdirAll(p, 0o755); err != nil {
			t.Fatal(err)
		}
		os.Chmod(p, 0o755)
		if owner == "" && len(sub) >= 4 && sub[:4] == "mail" {
			os.Chown(p, s.uid, gid)
		}
	}
	file := filepath.Join(dir, "dovecot.conf")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	s.path, s.file = path, file
	s.run(t)
	t.Cleanup(func() {
		s.cmd.Process.Signal(os.Interrupt)
		s.cmd.Wait()
	})
	return s
}

// run starts the master and waits until it answers.
func (s *Server) run(t testing.TB) {
	t.Helper()
	s.cmd = exec.Command(s.path, "-F", "-c", s.file)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", s.Address)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			t.Fatalf("Dovecot does not answer: %v\n%s", err, log)
		}
	}
}

// Kill ends Dovecot as a crash would, with the sessions of all users, and
// starts it again on the same mail.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.stop(t)
	s.run(t)
}

// stop kills the master and all sessions.
func (s *Server) stop(t testing.TB) {
	t.Helper()
	// Its children are found before it is gone, and have other parents.
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", s.cmd.Process.Pid))
	s.cmd.Process.Kill()
	s.cmd.Wait()
	for _, word := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(word); err == nil {
			// It holds sockets until it is gone.
			for deadline := time.Now().Add(10 * time.Minute); syscall.Kill(pid, syscall.SIGKILL) == nil && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
		}
	}
	if err := os.RemoveAll(filepath.Join(s.dir, "run")); err != nil {
		t.Fatal(err)
	}
}

// certificate writes a certificate for 127.0.0.1 and its key, and returns a
// configuration that trusts it.
func certificate(t testing.TB, dir string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, b := range map[string][]byte{"cert.pem": public, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(public)
	return &tls.Config{RootCAs: pool}
}

// Deliver puts a message into the mailbox, as a mail server does.
func (s *Server) Deliver(t testing.TB, name string, message []byte) {
	t.Helper()
	tmp := filepath.Join(s.dir, "mail", "tmp", name)
	if err := os.WriteFile(tmp, message, 0o644); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		os.Chown(tmp, s.uid, -1)
	}
	if err := os.Rename(tmp, filepath.Join(s.dir, "mail", "new", name)); err != nil {
		t.Fatal(err)
	}
}

// CAFile is a file with the certificate that vouches for the server.
func (s *Server) CAFile() string { return filepath.Join(s.dir, "cert.pem") }

// Renumber ends Dovecot as a crash would, and starts it again with another
// UIDVALIDITY, as when a mailbox is restored from a backup.
func (s *Server) Renumber(t testing.TB) {
	t.Helper()
	s.stop(t)
	for _, pattern := range []string{"dovecot-uidvalidity*", "dovecot-uidlist*", "dovecot.index*"} {
		files, _ := filepath.Glob(filepath.Join(s.dir, "mail", pattern))
		for _, file := range files {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
	}
	time.Sleep(time.Second) // it numbers by the clock, in seconds
	s.run(t)
}
