package records

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

const (
	udpSize  = 1232 // octets of an answer over UDP (RFC 9715)
	ednsSize = 11   // octets of an OPT record
)

// A wire sends queries and takes the replies that belong to them.
type wire struct {
	timeout  time.Duration // of the first try
	tries    int
	inFlight chan struct{} // holds one for each query under way
}

// A reply is what came back.
type reply struct {
	msg       *dns.Msg // nil if nothing did
	server    string   // host:port that was asked last
	err       string   // why msg is nil
	ede       string
	truncated bool // over UDP
	tcpFailed bool // then there was no answer over TCP
}

// exchange asks servers in turn until one answers: over UDP, and over TCP if
// the answer is cut off. Each try waits longer than the last.
func (w *wire) exchange(ctx context.Context, servers []string, query *dns.Msg) (r reply) {
	for try := range w.tries {
		r.server = servers[try%len(servers)]
		wait := w.timeout * time.Duration(try+1)
		msg, err := send(ctx, "udp", r.server, query, wait)
		if err == nil && (msg.Rcode == dns.RcodeFormatError || msg.Rcode == dns.RcodeNotImplemented) && query.IsEdns0() != nil {
			query = withoutEDNS(query) // of before RFC 6891
			msg, err = send(ctx, "udp", r.server, query, wait)
		}
		if err == nil && msg.Truncated {
			r.truncated = true
			if msg, err = send(ctx, "tcp", r.server, query, w.timeout); err != nil {
				r.tcpFailed = true
				r.err = "cut off over UDP, and over TCP " + describe(err)
				if ctx.Err() != nil {
					return r
				}
				continue
			}
			r.tcpFailed = false
		}
		if err == nil {
			r.msg, r.err, r.ede = msg, "", extendedError(msg)
			return r
		}
		r.err = describe(err)
		if ctx.Err() != nil {
			return r
		}
	}
	if !r.truncated { // whether anybody is there at all
		if msg, err := send(ctx, "tcp", r.server, query, w.timeout); err == nil {
			r.msg, r.err, r.ede = msg, "", extendedError(msg)
		}
	}
	return r
}

func withoutEDNS(query *dns.Msg) *dns.Msg {
	plain := query.Copy()
	plain.Extra = nil
	return plain
}

// send sends a query and waits for the reply to it; what does not belong to
// it is passed over. Every query has a number and, over UDP, a port of its own.
func send(ctx context.Context, network, server string, query *dns.Msg, wait time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	dialer := net.Dialer{}
	conn, err := dialer.DialContext(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	query = query.Copy()
	query.Id = dns.Id()
	c := &dns.Conn{Conn: conn, UDPSize: 4096}
	if err := c.WriteMsg(query); err != nil {
		return nil, err
	}
	for {
		packed, err := c.ReadMsgHeader(nil)
		if err != nil {
			return nil, err
		}
		msg := new(dns.Msg)
		err = msg.Unpack(packed)
		if err == nil && !whole(packed, msg) {
			err = errors.New("it ends too early")
		}
		switch {
		case msg.Id != query.Id || !msg.Response:
			// an answer to something else, perhaps a forged one
		case err == nil && !sameQuestion(msg, query):
		case err != nil && msg.Truncated && network == "udp":
			msg.Answer, msg.Ns, msg.Extra = nil, nil, nil // cut in the midst of a record
			return msg, nil
		case err != nil:
			return nil, fmt.Errorf("sent a message that cannot be read: %w", err)
		default:
			return msg, nil
		}
		if network == "tcp" {
			return nil, errors.New("answered something else")
		}
	}
}

// whole reports whether a message holds as many records as its header says;
// Unpack is content with fewer.
func whole(packed []byte, msg *dns.Msg) bool {
	count := func(at int) int { return int(binary.BigEndian.Uint16(packed[at:])) }
	return count(6) == len(msg.Answer) && count(8) == len(msg.Ns) && count(10) == len(msg.Extra)
}

// sameQuestion reports whether a reply repeats the question. One that only says
// that it failed may leave it out.
func sameQuestion(msg, query *dns.Msg) bool {
	if len(msg.Question) == 0 {
		return msg.Rcode != dns.RcodeSuccess && msg.Rcode != dns.RcodeNameError
	}
	got, want := msg.Question[0], query.Question[0]
	return len(msg.Question) == 1 && strings.EqualFold(got.Name, want.Name) && got.Qtype == want.Qtype && got.Qclass == want.Qclass
}

// describe says in a few words what went wrong on the way.
func describe(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the connection was refused"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "the network does not reach it"
	}
	return plainText(err.Error(), 200)
}

// extendedError returns the extended errors of a reply (RFC 8914).
func extendedError(m *dns.Msg) string {
	opt := m.IsEdns0()
	if opt == nil {
		return ""
	}
	var all []string
	for _, o := range opt.Option {
		e, ok := o.(*dns.EDNS0_EDE)
		if !ok || len(all) == 3 {
			continue
		}
		text := fmt.Sprintf("EDE %d", e.InfoCode)
		if name := dns.ExtendedErrorCodeToString[e.InfoCode]; name != "" {
			text = fmt.Sprintf("EDE %d (%s)", e.InfoCode, name)
		}
		if e.ExtraText != "" {
			text += ": " + plainText(e.ExtraText, 200)
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}
