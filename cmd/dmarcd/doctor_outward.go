package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/acme"
	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/notify"
	"github.com/dmarcd/dmarcd/outward"
	"github.com/dmarcd/dmarcd/store"
	"github.com/dmarcd/dmarcd/stream"
)

// outward are the examinations of what dmarcd itself connects to.
func (d *doctor) outward() []examination {
	c := d.cfg
	var all []examination
	if c.Access.Issuer != "" {
		all = append(all, examination{"login", c.Access.Issuer, d.provider})
	}
	for _, t := range c.Targets {
		all = append(all, examination{"target", t.Name, func(ctx context.Context, x *findings) { d.target(ctx, t, x) }})
	}
	if len(c.ACME.Hosts) > 0 {
		all = append(all, examination{"acme", strings.Join(c.ACME.Hosts, ", "), d.acme})
	}
	for _, s := range c.Streams {
		all = append(all, examination{"stream", s.Name, func(ctx context.Context, x *findings) { d.stream(ctx, s, x) }})
	}
	return append(all, examination{"streams", "", d.forgotten})
}

// allowIt is how to mend what was refused for its address.
const allowIt = "name its network in outgoing.allow (DMARCD_OUTGOING_ALLOW), if it is meant to be there"

// provider asks the OpenID provider what it can do.
func (d *doctor) provider(ctx context.Context, x *findings) {
	switch err := d.cfg.provider().Check(ctx); {
	case err == nil:
		x.ok("the OpenID provider answers; whether it knows dmarcd was not tried: log in once")
	case errors.Is(err, outward.ErrNotPublic):
		x.wrong(allowIt, "it is not connected to: %v", err)
	default:
		x.wrong("look at access.oidc_issuer (DMARCD_ACCESS_OIDC_ISSUER): it has to be as the provider writes it", "%v", err)
	}
}

// target connects to where a target is told. Nothing is sent.
func (d *doctor) target(ctx context.Context, t *target, x *findings) {
	text := t.URL.reveal()
	u, err := url.Parse(text)
	if err != nil {
		x.wrong("look at url of the target", "its URL cannot be read")
		return
	}
	const send = "nothing was sent: dmarcd notify test sends a message"
	address, secure, dialer := "", false, d.cfg.targetReach(t).Dialer(d.limit)
	switch {
	case u.Scheme == "mailto":
		address, dialer = d.cfg.Mail.Server.Address, &net.Dialer{Timeout: d.limit}
		secure = d.cfg.Mail.Server.Security == "tls"
	case isWebhook(text):
		secure = u.Scheme == "https"
		address = hostPortOf(u, map[bool]string{true: "443", false: "80"}[secure])
	default:
		if host := notify.ServerOf(text); host != "" {
			address = hostPortOf(u, "443")
			break
		}
		x.ok("the URL is one of %s; %s", u.Scheme, send)
		return
	}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err == nil && secure {
		host, _, _ := net.SplitHostPort(address)
		client := tls.Client(conn, &tls.Config{ServerName: host})
		err = client.HandshakeContext(ctx)
	}
	if conn != nil {
		conn.Close()
	}
	switch {
	case errors.Is(err, outward.ErrNotPublic):
		x.wrong("set private = true for the target, if it is meant to be there", "it is not connected to: %v", err)
	case err != nil:
		x.wrong("look at url of the target, at DNS and at firewalls", "it cannot be reached: %v", err)
	default:
		x.ok("its server can be reached; %s", send)
	}
}

func hostPortOf(u *url.URL, port string) string {
	if u.Port() != "" {
		port = u.Port()
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// acme looks whether certificates can be had. None is asked for.
func (d *doctor) acme(ctx context.Context, x *findings) {
	a := &d.cfg.ACME
	roots, err := d.cfg.acmeRoots()
	if err == nil {
		err = acme.Check(ctx, a.Directory, roots)
	}
	if err != nil {
		x.wrong("look at acme.directory (DMARCD_ACME_DIRECTORY) and at firewalls", "the authority cannot be asked: %v", err)
	} else {
		x.ok("the authority answers; no certificate was asked for")
	}
	if err := writable(existing(d.cfg.acmeFolder())); err != nil {
		x.wrong("let it belong to the user that runs dmarcd, or name another in acme.folder (DMARCD_ACME_FOLDER)", "keys and certificates cannot be kept: %v", err)
	}
	for _, host := range a.Hosts {
		if _, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
			x.wrong("publish its addresses in DNS", "the authority will not find %s: %v", host, err)
		}
	}
	if listen, err := netip.ParseAddrPort(d.cfg.Listen); err == nil && listen.Addr().IsLoopback() || strings.HasPrefix(d.cfg.Listen, "localhost:") {
		x.note("set listen (DMARCD_LISTEN) to an address that others reach, unless something passes on to it", "dmarcd listens where the authority does not reach it")
	} else if _, port, _ := net.SplitHostPort(d.cfg.Listen); port != "443" && a.HTTP == "" {
		x.note("listen at port 443, pass that on to listen as it is, or set acme.http_listen (DMARCD_ACME_HTTP_LISTEN) and pass port 80 on to it", "the authority asks at port 443 of the names, and dmarcd listens at %s", port)
	}
}

// stream looks whether a stream can go where it is to go, and how far it is. Nothing is
// sent.
func (d *doctor) stream(ctx context.Context, s *streamTo, x *findings) {
	sink, err := s.sink(os.Stdout)
	switch sink := sink.(type) {
	case *stream.Kafka:
		err = errors.Join(err, sink.Check(ctx))
	case *stream.File:
		if err = writable(existing(filepath.Dir(s.To))); err == nil {
			if info, e := os.Stat(s.To); e == nil && !info.Mode().IsRegular() {
				err = errors.New("it is no file")
			}
		}
	}
	if err != nil {
		x.wrong("look at to of the stream, and at what it is told there", "it cannot go there: %v", err)
	} else {
		x.ok("it can go there; nothing was sent")
	}
	states, ok := d.streamStates(ctx, x)
	if !ok {
		return
	}
	for _, state := range states {
		switch {
		case state.Name != s.Name:
		case !state.Begun:
			x.ok("it tells of what is stored; last at %s", state.Moved.UTC().Format(time.RFC3339))
		case state.Waiting > 0 && d.now().Sub(state.Since) > streamStands:
			x.note("run dmarcd serve, and look at its log", "it stands still: %s, the oldest since %s", counted(state.Waiting, "change waits", "changes wait"), state.Since.UTC().Format(time.RFC3339))
		default:
			x.ok("it has told everything until %s", state.Moved.UTC().Format(time.RFC3339))
		}
	}
}

// streamStands is how old a change may become that no stream has told.
const streamStands = 10 * time.Minute

// forgotten looks for streams that nobody works on: changes are kept for them.
func (d *doctor) forgotten(ctx context.Context, x *findings) {
	states, ok := d.streamStates(ctx, x)
	if !ok {
		return
	}
	for _, state := range states {
		known := false
		for _, s := range d.cfg.Streams {
			known = known || s.Name == state.Name
		}
		if !known && state.Waiting > 0 && d.now().Sub(state.Since) > streamStands {
			x.note("go on with dmarcd export --name, or end it with --forget", "what is kept for the stream %s grows, as nobody works on it: %s", shown(state.Name), counted(state.Waiting, "change", "changes"))
		}
	}
}

// streamStates waits for the database, and reads how far streams are. What is wrong with
// the database itself is said elsewhere.
func (d *doctor) streamStates(ctx context.Context, x *findings) ([]dmarc.StreamState, bool) {
	select {
	case <-d.opened:
	case <-ctx.Done():
		return nil, false
	}
	if d.db == nil || !d.usable {
		return nil, false
	}
	states, err := store.New(d.db.db, quietLog()).StreamStates(ctx)
	if err != nil {
		x.unknown("try again", "how far streams are: %v", err)
		return nil, false
	}
	return states, true
}
