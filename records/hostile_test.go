package records

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/records/knottest"
)

// hostile answers as a resolver of a zone that is made to cause work: mail hosts
// and name servers by the thousands, includes that never end, an alias of an
// alias for every name, and texts of 60 KiB.
func hostile(asked *atomic.Int64) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Add(1)
		m := new(dns.Msg)
		m.SetReply(q)
		m.AuthenticatedData, m.Compress = true, true
		name := strings.ToLower(q.Question[0].Name)
		add := func(format string, args ...any) {
			rr, err := dns.NewRR(name + " 60 IN " + fmt.Sprintf(format, args...))
			if err != nil {
				panic(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		switch q.Question[0].Qtype {
		case dns.TypeMX:
			for i := range 900 {
				add("MX 10 m%d.corp.test.", i)
			}
		case dns.TypeNS:
			for i := range 2500 {
				add("NS n%d.corp.test.", i)
			}
		case dns.TypeA:
			for i := range 900 {
				add("A 192.0.%d.%d", i>>8, i&255)
			}
		case dns.TypePTR:
			for i := range 1500 {
				add("PTR p%d.%s", i, name)
			}
		case dns.TypeSOA:
			if name == "corp.test." {
				add("SOA n1 h 1 7200 3600 1209600 3600")
			}
		case dns.TypeTXT:
			switch {
			case strings.HasPrefix(name, "_dmarc."):
				// Every name is an alias of another, without end.
				add("CNAME a%s", name)
			case strings.HasPrefix(name, "a"):
				add("CNAME a%s", name)
			case strings.HasPrefix(name, "_mta-sts."), strings.HasPrefix(name, "_smtp."):
				for i := range 230 {
					add("TXT %q", fmt.Sprintf("%03d", i)+strings.Repeat("x", 250))
				}
			default:
				add("TXT %q", "v=spf1 include:l."+name+" include:r."+name+" mx:"+name+" a:x."+name+" -all")
			}
		}
		if w.LocalAddr().Network() == "udp" {
			m.Truncate(udpSize)
		}
		w.WriteMsg(m)
	}
}

// Whatever a zone answers, the questions, the memory and the findings are
// bounded.
func TestAHostileZoneIsBoundedOverTheWire(t *testing.T) {
	var asked atomic.Int64
	c, err := NewClient(ClientOptions{Server: knottest.Serve(t, hostile(&asked)), Rate: 1e6, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Lookup(t.Context(), "corp.test", Options{Resolver: c, Documentation: true, Selectors: selectors("s", "r").Selectors})
	if err != nil {
		t.Fatal(err)
	}
	findings := Check(p)
	text, err := json.Marshal(NewResult(p, findings))
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for _, set := range p.Records {
		for _, value := range set.Values {
			kept += len(value)
		}
	}
	t.Logf("%d queries, %d findings, %d octets of records, %d of the result", asked.Load(), len(findings), kept, len(text))
	// A question may be asked over UDP and then TCP, and go on along eight aliases.
	if n := asked.Load(); n > 2*(maxQuestions+8*20) {
		t.Errorf("%d queries", n)
	}
	if len(findings) > 200 || kept > 4<<20 || len(text) > 6<<20 {
		t.Errorf("%d findings, %d octets of records, %d of the result", len(findings), kept, len(text))
	}
	ids := found(findings)
	for _, want := range []string{"spf.lookup_limit", "dns.lookup_failed"} {
		if !ids[want] {
			t.Errorf("no %s among %v", want, ids)
		}
	}
}

// Questions go out at no more than so many a second, after a first few.
func TestQuestionsASecondAreLimited(t *testing.T) {
	var asked atomic.Int64
	c, err := NewClient(ClientOptions{Rate: 100, Server: knottest.Serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Add(1)
		m := new(dns.Msg)
		m.SetRcode(q, dns.RcodeNameError)
		w.WriteMsg(m)
	})})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	done := make(chan struct{})
	for i := range 75 {
		go func() {
			c.Lookup(t.Context(), fmt.Sprintf("n%d.test", i), dns.TypeA)
			done <- struct{}{}
		}()
	}
	for range 75 {
		<-done
	}
	// 25 at once, and the other 50 one each hundredth of a second.
	if took := time.Since(began); took < 490*time.Millisecond || asked.Load() < 75 {
		t.Errorf("%d queries within %v", asked.Load(), took)
	}
}
