// Package dovecottest runs a real Dovecot for tests.
package dovecottest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// The user that every server knows.
const (
	User     = "reports"
	Password = "secret"
)

// A Server is a Dovecot with one user. It ends with the test.
type Server struct {
	Address string // of IMAP without TLS, on loopback
	dir     string
	uid     int
}

// Start runs Dovecot. Without it the test is skipped, or fails if
// DMARCD_TEST_REQUIRE is set.
func Start(t testing.TB) *Server {
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
	} else if me, err := user.Current(); err == nil {
		owner = me.Username
		internal = fmt.Sprintf(`
default_internal_user = %[1]s
default_internal_group = %[2]d
default_login_user = %[1]s
service anvil {
  chroot =
}
service imap-login {
  chroot =
}
`, owner, gid)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Address = listener.Addr().String()
	_, port, _ := net.SplitHostPort(s.Address)
	listener.Close()

	config := fmt.Sprintf(`
protocols = imap
listen = 127.0.0.1
base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = %[1]s/log
ssl = no
disable_plaintext_auth = no
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:%[1]s/mail
passdb {
  driver = static
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
    port = 0
  }
}
%[6]s`, dir, Password, s.uid, gid, port, internal)
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
	cmd := exec.Command(path, "-F", "-c", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", s.Address)
		if err == nil {
			conn.Close()
			return s
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("Dovecot does not answer: %v\n%s", err, log)
		}
	}
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
