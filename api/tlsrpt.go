package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A TLSIntake takes in what strangers bring, if it is wanted.
type TLSIntake interface {
	// TakeIf returns the fate of a message once it is committed. An error of
	// wanted about what was found is returned, and nothing is kept.
	TakeIf(ctx context.Context, mailbox, name string, body io.Reader, wanted func(*dmarc.Delivery) error) (dmarc.Fate, error)
}

// TLSOptions say how TLS reports are taken. Limit and AtOnce must be set.
type TLSOptions struct {
	Log    *slog.Logger
	Limit  int64 // bytes of a body
	AtOnce int   // bodies that are read at the same time
	// Client tells the address that a request comes from, and Allow whether it
	// may come now; nil for those that connect, and for all.
	Client func(*http.Request) netip.Addr
	Allow  func(netip.Addr) bool
}

// Times of a request with a TLS report.
const (
	tlsBodyTime = time.Minute // for the body to come
	tlsLater    = "60"        // seconds after which it may be tried again
)

// TLSReports returns a handler that takes TLS reports by POST (RFC 8460, section
// 5.4), and nothing else. Whatever the declared type is, content decides. It
// answers 201 once the report is stored; what is refused is not kept. Nobody
// logs in, so that reports may be forged, as they may by mail.
func TLSReports(intake TLSIntake, opts TLSOptions) http.Handler {
	slots := make(chan struct{}, opts.AtOnce)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse := func(status int, detail string) {
			if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
				w.Header().Set("Retry-After", tlsLater)
			}
			writeProblem(w, status, detail)
		}
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			refuse(http.StatusMethodNotAllowed, "TLS reports (RFC 8460) are taken here, by POST")
			return
		}
		if opts.Allow != nil && !opts.Allow(opts.client(r)) {
			refuse(http.StatusTooManyRequests, "there are too many reports from your address; try again later")
			return
		}
		switch strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding"))) {
		case "", "identity", "gzip", "x-gzip": // seen from the content
		default:
			refuse(http.StatusUnsupportedMediaType, "the content may be encoded with gzip, or not at all")
			return
		}
		if r.ContentLength > opts.Limit {
			refuse(http.StatusRequestEntityTooLarge, fmt.Sprintf("a report may have %d bytes here", opts.Limit))
			return
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			refuse(http.StatusServiceUnavailable, "too many reports come at once; try again later")
			return
		}
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(tlsBodyTime))
		body := &failing{r: http.MaxBytesReader(w, r.Body, opts.Limit)}
		fate, err := intake.TakeIf(r.Context(), dmarc.MailboxTLSRPT, "", body, onlyTLS)

		var refused *dmarc.Error
		var large *http.MaxBytesError
		switch {
		case err == nil:
			opts.Log.Debug("a TLS report was received", "client", opts.client(r), "outcome", fate.Outcome, "known", fate.Known)
			w.WriteHeader(http.StatusCreated)
		case errors.As(err, &large):
			refuse(http.StatusRequestEntityTooLarge, fmt.Sprintf("a report may have %d bytes here", large.Limit))
		case errors.As(err, &refused) && (refused.Outcome == dmarc.OutcomeTooLarge || refused.Outcome == dmarc.OutcomeBomb):
			refuse(http.StatusRequestEntityTooLarge, refused.Error())
		case errors.As(err, &refused) && refused.Outcome == dmarc.OutcomeUnknownDomain:
			refuse(http.StatusForbidden, "no reports are taken about that domain")
		case errors.As(err, &refused):
			refuse(http.StatusUnprocessableEntity, refused.Error())
		case body.err != nil:
			refuse(http.StatusBadRequest, "the report broke off")
		default:
			opts.Log.Error("a TLS report could not be taken in; its sender is told to try again", "client", opts.client(r), "error", err)
			refuse(http.StatusServiceUnavailable, "it cannot be stored now; try again later")
		}
	})
}

func (o *TLSOptions) client(r *http.Request) netip.Addr {
	if o.Client != nil {
		return o.Client(r)
	}
	at, _ := netip.ParseAddrPort(r.RemoteAddr)
	return at.Addr().Unmap()
}

// A failing reader remembers why it could not read on.
type failing struct {
	r   io.Reader
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}

// onlyTLS refuses what holds no TLS report. Other reports beside one are not
// taken this way, which is open to everybody.
func onlyTLS(d *dmarc.Delivery) error {
	found := false
	why := &dmarc.Error{Outcome: d.Outcome, Reason: d.Reason}
	for i := range d.Parts {
		p := &d.Parts[i]
		switch {
		case p.TLS != nil:
			found = true
		case p.Aggregate != nil || p.Failure != nil:
			*p = dmarc.Part{Path: p.Path, Outcome: dmarc.OutcomeNotAReport, Reason: "only TLS reports are taken this way"}
		}
		if p.Outcome != "" && (why.Outcome == "" || why.Outcome.Harmless()) {
			why = &dmarc.Error{Outcome: p.Outcome, Reason: p.Reason}
		}
	}
	if found {
		return nil
	}
	if why.Outcome == "" || why.Outcome.Read() {
		why = &dmarc.Error{Outcome: dmarc.OutcomeNotAReport, Reason: "there is no TLS report in it"}
	}
	return why
}
