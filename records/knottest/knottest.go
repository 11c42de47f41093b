// Package knottest runs real servers of DNS for tests: Knot, which serves and
// signs zones, and Unbound, which resolves and validates them.
package knottest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/internal/porttest"
)

// Apex is what stands at the top of a zone that is healthy in every way. The
// serial is raised where the zone is signed.
const Apex = `
@ 3600 SOA ns1 hostmaster 2026010100 7200 3600 1209600 3600
@ 3600 NS ns1
@ 3600 NS ns2
ns1 3600 A 192.0.2.53
ns1 3600 AAAA 2001:db8:1::53
ns2 3600 A 198.51.100.53
ns2 3600 AAAA 2001:db8:2::53
`

// Servers are those of a test: Knot serves and signs zones, with a chain of
// trust from "test.", and Unbound resolves and validates.
type Servers struct {
	Knot    netip.AddrPort
	Unbound string // host:port
	dir     string
	cancel  context.CancelFunc
	procs   []*exec.Cmd
	zones   map[string]*Zone
}

// A Zone is a zone to serve.
type Zone struct {
	Text     string // with names relative to it
	Unsigned bool
	NoDS     bool   // it is signed, and its parent has no DS
	BadDS    bool   // the parent has a DS of another key
	Signing  string // how it is signed, in lines of a policy of Knot; "": with ECDSA

	serial int
}

// Require returns the paths of knotd, knotc and unbound. Without them the test
// is skipped, or fails if DMARCD_TEST_REQUIRE is set.
func Require(t testing.TB) map[string]string {
	t.Helper()
	paths := map[string]string{}
	for _, program := range []string{"knotd", "knotc", "unbound"} {
		path, err := exec.LookPath(program)
		if err != nil {
			path, err = exec.LookPath("/usr/sbin/" + program)
		}
		if err != nil {
			if os.Getenv("DMARCD_TEST_REQUIRE") != "" {
				t.Fatalf("%s is not installed: apt-get install knot unbound", program)
			}
			t.Skipf("SKIPPED: %s is not installed (apt-get install knot unbound)", program)
		}
		paths[program] = path
	}
	return paths
}

// Start serves zones, by their names, until the test ends. The root and
// "test", from which the chain of trust begins, are added. For names in fails,
// with all below them, there is only SERVFAIL.
func Start(t testing.TB, zones map[string]*Zone, fails []string) *Servers {
	t.Helper()
	paths := Require(t)
	dir, err := os.MkdirTemp("", "records") // sockets want a short path
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Servers{dir: dir, cancel: cancel, zones: zones}
	t.Cleanup(func() {
		s.cancel()
		for _, p := range s.procs {
			p.Wait()
		}
		os.RemoveAll(dir)
	})
	s.Knot = netip.MustParseAddrPort(porttest.FreeAddress(t))
	s.startKnot(t, ctx, paths)
	s.startUnbound(t, ctx, paths["unbound"], fails)
	return s
}

// parent returns the closest zone above one, or "".
func (s *Servers) parent(zone string) string {
	for {
		_, above, ok := strings.Cut(zone, ".")
		if !ok {
			return ""
		}
		if _, ok := s.zones[above]; ok {
			return above
		}
		zone = above
	}
}

func (s *Servers) startKnot(t testing.TB, ctx context.Context, paths map[string]string) {
	t.Helper()
	for _, top := range []string{"", "test"} {
		if s.zones[top] == nil {
			s.zones[top] = &Zone{Text: Apex, Unsigned: top == ""}
		}
	}
	var conf strings.Builder
	fmt.Fprintf(&conf, "server:\n    rundir: %[1]s\n    listen: 127.0.0.1@%[2]d\n    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 2\n"+
		"log:\n  - target: stderr\n    any: warning\n"+
		"database:\n    storage: %[1]s\n    journal-db-mode: asynchronous\n    journal-db-max-size: 64M\n    kasp-db-max-size: 256M\n    timer-db-max-size: 16M\npolicy:\n  - id: default-test\n    algorithm: ecdsap256sha256\n", s.dir, s.Knot.Port())
	names := slices.Sorted(maps.Keys(s.zones))
	for i, name := range names {
		if lines := s.zones[name].Signing; lines != "" {
			fmt.Fprintf(&conf, "  - id: policy%d\n", i)
			for line := range strings.Lines(lines) {
				if line = strings.TrimSpace(line); line != "" {
					fmt.Fprintf(&conf, "    %s\n", line)
				}
			}
		}
	}
	fmt.Fprintf(&conf, "template:\n  - id: default\n    storage: %s\n    zonefile-sync: -1\n    zonefile-load: whole\n    journal-content: none\n    semantic-checks: off\nzone:\n", s.dir)
	for i, name := range names {
		fmt.Fprintf(&conf, "  - domain: %q\n    file: zone%d\n", dns.Fqdn(name), i)
		if z := s.zones[name]; !z.Unsigned {
			policy := "default-test"
			if z.Signing != "" {
				policy = fmt.Sprintf("policy%d", i)
			}
			fmt.Fprintf(&conf, "    dnssec-signing: on\n    dnssec-policy: %s\n", policy)
		}
		s.write(t, name, i, "")
	}
	path := filepath.Join(s.dir, "knot.conf")
	if err := os.WriteFile(path, []byte(conf.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	log := s.run(t, ctx, paths["knotd"], "-c", path)
	// The keys are made by Knot; each parent gets the DS of its children.
	ds := map[string]string{}
	for _, name := range names {
		var keys *dns.Msg
		s.await(t, log, "knotd to serve and sign "+dns.Fqdn(name), func() bool {
			qtype := dns.TypeDNSKEY
			if s.zones[name].Unsigned {
				qtype = dns.TypeSOA
			}
			keys = s.Query(name, qtype)
			return keys != nil && len(keys.Answer) > 0
		})
		if z := s.zones[name]; z.NoDS || z.Unsigned {
			continue
		}
		for _, rr := range keys.Answer {
			if key, ok := rr.(*dns.DNSKEY); ok && key.Flags&dns.SEP != 0 {
				if s.zones[name].BadDS {
					key.KeyTag() // of the real key; the digest below is of another
					key.PublicKey = "AAAA" + key.PublicKey[4:]
				}
				ds[s.parent(name)+" "+name] = key.ToDS(dns.SHA256).String() + "\n"
			}
		}
	}
	var reload []string
	for i, name := range names {
		var lines strings.Builder
		for _, child := range names {
			if child != name && s.parent(child) == name && name != child {
				lines.WriteString(ds[name+" "+child])
			}
		}
		if lines.Len() > 0 && !(name == "" && lines.Len() == 0) {
			s.zones[name].serial++
			s.write(t, name, i, lines.String())
			reload = append(reload, dns.Fqdn(name))
		}
	}
	if out, err := exec.Command(paths["knotc"], append([]string{"-c", path, "-b", "zone-reload"}, reload...)...).CombinedOutput(); err != nil {
		t.Fatalf("knotc zone-reload: %v\n%s", err, out)
	}
	for pair := range ds {
		_, child, _ := strings.Cut(pair, " ")
		s.await(t, log, "the DS of "+child, func() bool {
			m := s.Query(child, dns.TypeDS)
			return m != nil && len(m.Answer) > 0
		})
	}
}

// write writes the file of a zone: its text, and the delegation of the zones
// below.
func (s *Servers) write(t testing.TB, name string, i int, ds string) {
	t.Helper()
	var b strings.Builder
	z := s.zones[name]
	fmt.Fprintf(&b, "$ORIGIN %s\n$TTL 3600\n%s\n", dns.Fqdn(name), strings.Replace(z.Text, "2026010100", fmt.Sprint(2026010100+z.serial), 1))
	for child, c := range s.zones {
		if child == name || s.parent(child) != name {
			continue
		}
		parser := dns.NewZoneParser(strings.NewReader("$TTL 3600\n"+c.Text), dns.Fqdn(child), child)
		for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
			owner := strings.ToLower(strings.TrimSuffix(rr.Header().Name, "."))
			switch rr.Header().Rrtype {
			case dns.TypeNS:
				if owner != child {
					continue
				}
			case dns.TypeA, dns.TypeAAAA:
				if owner != "ns1."+child && owner != "ns2."+child {
					continue
				}
			default:
				continue
			}
			fmt.Fprintln(&b, rr)
		}
		if err := parser.Err(); err != nil {
			t.Fatalf("zone %s: %v", child, err)
		}
	}
	b.WriteString(ds)
	if err := os.WriteFile(filepath.Join(s.dir, fmt.Sprintf("zone%d", i)), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// nobody answers SERVFAIL to everything.
func nobody(t testing.TB) string {
	return Serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetRcode(q, dns.RcodeServerFailure)
		w.WriteMsg(m)
	})
}

// Serve answers queries over UDP and TCP until the test ends, and returns the
// address.
func Serve(t testing.TB, handler dns.HandlerFunc) string {
	t.Helper()
	addr := porttest.FreeAddress(t)
	udp, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []*dns.Server{{PacketConn: udp, Handler: handler}, {Listener: tcp, Handler: handler}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go server.ActivateAndServe()
		<-started
		t.Cleanup(func() { server.Shutdown() })
	}
	return addr
}

func (s *Servers) startUnbound(t testing.TB, ctx context.Context, unbound string, fails []string) {
	t.Helper()
	var anchor string
	var keys *dns.Msg
	s.await(t, nil, "the keys of test.", func() bool { keys = s.Query("test", dns.TypeDNSKEY); return keys != nil })
	for _, rr := range keys.Answer {
		if key, ok := rr.(*dns.DNSKEY); ok && key.Flags&dns.SEP != 0 {
			anchor += key.ToDS(dns.SHA256).String() + "\n"
		}
	}
	if err := os.WriteFile(filepath.Join(s.dir, "anchor"), []byte(anchor), 0o600); err != nil {
		t.Fatal(err)
	}
	port := porttest.Free(t)
	s.Unbound = "127.0.0.1:" + port
	// Of a server that answers at once Unbound expects every answer within 50 ms,
	// and gives it up after a few that are late, as they are on a busy machine.
	var conf strings.Builder
	fmt.Fprintf(&conf, `server:
    directory: "%[1]s"
    interface: 127.0.0.1
    port: %[2]s
    do-daemonize: no
    username: ""
    chroot: ""
    pidfile: ""
    use-syslog: no
    verbosity: 0
    num-threads: 1
    do-ip6: no
    do-not-query-localhost: no
    module-config: "validator iterator"
    ede: yes
    aggressive-nsec: no
    infra-cache-min-rtt: 2000
    trust-anchor-file: "%[1]s/anchor"
    local-zone: "test." nodefault
`, s.dir, port)
	local := map[string]bool{}
	for name := range s.zones { // what Unbound would answer itself
		for at := name; strings.HasSuffix(name, ".arpa") && strings.Count(at, ".") > 1; _, at, _ = strings.Cut(at, ".") {
			if !local[at] {
				local[at] = true
				fmt.Fprintf(&conf, "    local-zone: %q nodefault\n", dns.Fqdn(at))
			}
		}
	}
	fmt.Fprintf(&conf, "remote-control:\n    control-enable: no\nforward-zone:\n    name: \".\"\n    forward-addr: 127.0.0.1@%d\n", s.Knot.Port())
	if len(fails) > 0 {
		_, dead, _ := net.SplitHostPort(nobody(t))
		for _, name := range fails {
			fmt.Fprintf(&conf, "forward-zone:\n    name: %q\n    forward-addr: 127.0.0.1@%s\n", dns.Fqdn(name), dead)
		}
	}
	path := filepath.Join(s.dir, "unbound.conf")
	if err := os.WriteFile(path, []byte(conf.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	log := s.run(t, ctx, unbound, "-d", "-c", path)
	s.await(t, log, "unbound to validate", func() bool {
		q := newQuery("test", dns.TypeSOA, true)
		m, err := dns.Exchange(q, s.Unbound)
		return err == nil && m.AuthenticatedData
	})
}

// run runs a program until the test ends and returns what it says.
func (s *Servers) run(t testing.TB, ctx context.Context, path string, args ...string) *syncBuffer {
	t.Helper()
	log := &syncBuffer{}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = log, log, 5*time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.procs = append(s.procs, cmd)
	return log
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	if b == nil {
		return ""
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// await waits until a server is ready.
func (s *Servers) await(t testing.TB, log *syncBuffer, what string, ready func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Minute); !ready(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s:\n%s", what, log)
		}
	}
}

// Query asks Knot; nil if there is no answer.
func (s *Servers) Query(name string, qtype uint16) *dns.Msg {
	m, _, err := (&dns.Client{Net: "tcp", Timeout: time.Minute}).Exchange(newQuery(name, qtype, false), s.Knot.String())
	if err != nil {
		return nil
	}
	return m
}

// newQuery makes a query, which asks for validation if it is wanted.
func newQuery(name string, qtype uint16, validated bool) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	m.AuthenticatedData = validated
	m.SetEdns0(1232, validated)
	return m
}
