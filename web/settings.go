package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"golang.org/x/net/idna"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A Keeper hands out tokens and takes them back, and keeps the audit log. It
// returns dmarc.ErrForbidden to those who may not.
type Keeper interface {
	// CreateToken returns the secret, which nothing gives again.
	CreateToken(ctx context.Context, t dmarc.Token) (secret string, kept dmarc.Token, err error)
	Tokens(ctx context.Context, page dmarc.Page) ([]dmarc.Token, dmarc.Cursor, error)
	RevokeToken(ctx context.Context, id int64) (dmarc.Token, error)
	Audit(ctx context.Context, q dmarc.AuditQuery) ([]dmarc.AuditEntry, dmarc.Cursor, error)
}

// badForm is a form that makes no sense. It is told as it is.
type badForm []string

func (b badForm) Error() string { return strings.Join(b, "; ") }

func (b badForm) sentences() (all []string) {
	for _, text := range b {
		all = append(all, sentence(text))
	}
	return all
}

// settingsTabs leads through the pages of settings.
func (s *site) settingsTabs(current string) (tabs []tab) {
	for _, t := range []struct{ path, label string }{
		{"/settings", "Access"}, {"/settings/notifications", "Notifications"}, {"/settings/senders", "Senders"},
		{"/settings/configuration", "Configuration"}, {"/settings/audit", "Audit log"},
	} {
		tabs = append(tabs, tab{t.label, s.link(t.path), t.path == current})
	}
	return tabs
}

// settingsPage is what all pages of settings have.
type settingsPage struct {
	Tabs   string // path of the page
	Rights dmarc.Rights
	Done   string // what was done just now, as the address tells it
}

// doneWords are what addresses can say was done.
var doneWords = map[string]string{
	"revoked": "The token opens nothing any more.", "on": "People are told of it from now on.", "off": "Nobody is told of it from now on.",
	"said": "It is kept, and the advice about the domains follows within minutes.", "dropped": "It is forgotten. What dmarcd finds out by itself counts again.",
}

func (s *site) settingsOf(r *http.Request, path string) settingsPage {
	return settingsPage{path, s.intake.Rights(r.Context()), doneWords[r.URL.Query().Get("done")]}
}

// accessPage is who may see and do what.
type accessPage struct {
	settingsPage
	Open   bool // nobody is asked who they are
	Tokens []tokenLine
	Roles  []roleChoice
	pager
}

type tokenLine struct {
	dmarc.Token
	Good bool
}

type roleChoice struct {
	Role dmarc.Role
	Text string
}

// roleText says in words what a role lets do.
func roleText(r dmarc.Role) string {
	switch r {
	case dmarc.RoleRead:
		return "see what reports tell"
	case dmarc.RoleUpload:
		return "bring reports"
	case dmarc.RoleAdmin:
		return "change things, besides what read and upload allow"
	case dmarc.RoleFailures:
		return "read failure reports, which tell about people"
	}
	return string(r)
}

// accessSettings serves /settings.
func (s *site) accessSettings(r *http.Request) (*view, error) {
	p := &accessPage{settingsPage: s.settingsOf(r, "/settings"), Open: s.open(r)}
	for _, role := range dmarc.Roles {
		p.Roles = append(p.Roles, roleChoice{role, roleText(role)})
	}
	if p.Rights.Govern && s.keeper != nil {
		after := dmarc.Cursor(r.URL.Query().Get("after"))
		list, next, err := s.keeper.Tokens(r.Context(), dmarc.Page{After: after, Limit: linesPerPage})
		if err != nil {
			return nil, err
		}
		for _, t := range list {
			p.Tokens = append(p.Tokens, tokenLine{t, t.Good(s.now())})
		}
		p.pager = s.pagerOf("/settings", url.Values{}, after, next)
	}
	return &view{Page: "access", Title: "Settings: access", Nav: "/settings", Data: p}, nil
}

// open tells whether nobody is asked who they are.
func (s *site) open(r *http.Request) bool {
	if s.gate == nil {
		return true
	}
	name, _ := s.gate.Who(r)
	return name == ""
}

// createdPage shows the secret of a token, this once.
type createdPage struct {
	settingsPage
	Secret string
	Token  dmarc.Token
}

// createToken serves POST /settings/tokens.
func (s *site) createToken(w http.ResponseWriter, r *http.Request) {
	t, err := readToken(r, s.now())
	if err == nil {
		var secret string
		if secret, t, err = s.keeper.CreateToken(r.Context(), t); err == nil {
			s.render(w, r, &view{Page: "created", Title: "A new token", Nav: "/settings", Once: true, Data: &createdPage{s.settingsOf(r, "/settings"), secret, t}})
			return
		}
	}
	s.fail(w, r, err)
}

// readToken reads what a token is to be from a form. The error is a badForm.
func readToken(r *http.Request, now time.Time) (t dmarc.Token, err error) {
	var bad badForm
	t = dmarc.Token{Name: strings.TrimSpace(r.PostFormValue("name")), Scope: dmarc.Everything}
	if t.Name == "" || len(t.Name) > 100 || plain(t.Name) != t.Name {
		bad = append(bad, "the token needs a name of 1 to 100 characters, which says who has it")
	}
	for _, role := range r.PostForm["role"] {
		if !slices.Contains(dmarc.Roles, dmarc.Role(role)) {
			bad = append(bad, fmt.Sprintf("%q is no role", cut(plain(role), 40)))
			continue
		}
		t.Roles = append(t.Roles, dmarc.Role(role))
	}
	if len(t.Roles) == 0 {
		bad = append(bad, "it is not said what the token is for")
	}
	domains, wrong := readDomains(r.PostFormValue("domains"))
	bad = append(bad, wrong...)
	if len(domains) > 0 {
		t.Scope = dmarc.ScopeOf(domains...)
	}
	if days := r.PostFormValue("days"); days != "" {
		n, err := strconv.Atoi(days)
		if err != nil || n < 1 || n > longestDays {
			bad = append(bad, fmt.Sprintf("it cannot be good for %q days", cut(plain(days), 20)))
		}
		t.Expires = now.UTC().AddDate(0, 0, n).Truncate(time.Second)
	}
	if len(bad) > 0 {
		return t, bad
	}
	return t, nil
}

// mostDomains is how many domains a form may name.
const mostDomains = 10_000

// readDomains reads domains with spaces, commas or lines between them.
func readDomains(text string) (domains []string, bad []string) {
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == ';' || r == ' ' || r == '\n' || r == '\r' || r == '\t' }) {
		name, err := asDomain(word)
		if err != nil {
			bad = append(bad, err.Error())
			if len(bad) > 5 {
				return nil, bad
			}
			continue
		}
		domains = append(domains, name)
	}
	if len(domains) > mostDomains {
		bad = append(bad, fmt.Sprintf("more than %d domains are named", mostDomains))
	}
	return domains, bad
}

// asDomain returns a domain as it stands in reports.
func asDomain(text string) (string, error) {
	name, err := idna.Lookup.ToASCII(strings.TrimSuffix(strings.TrimSpace(text), "."))
	if err != nil || !strings.Contains(name, ".") || len(name) > 253 {
		return "", fmt.Errorf("%q is no domain, such as example.com", cut(plain(text), 60))
	}
	return strings.ToLower(name), nil
}

// revokeToken serves POST /settings/tokens/{id}/revoke.
func (s *site) revokeToken(_ http.ResponseWriter, r *http.Request) (string, error) {
	id, err := strconv.ParseInt(chi.URLParam(r, "id"), 10, 64)
	if err != nil {
		return "", dmarc.ErrNotFound
	}
	if _, err := s.keeper.RevokeToken(r.Context(), id); err != nil {
		return "", err
	}
	return "/settings?done=revoked", nil
}

// notifyPage is who is told of what.
type notifyPage struct {
	settingsPage
	dmarc.Installation
	Told   []dmarc.Notification
	Tested string // name of the target that was tested just now
	Failed string // why the test did not arrive
}

// toldShown is how many notifications the page shows.
const toldShown = 10

// notifySettings serves /settings/notifications.
func (s *site) notifySettings(r *http.Request) (*view, error) {
	p := &notifyPage{settingsPage: s.settingsOf(r, "/settings/notifications")}
	v := &view{Page: "notifications", Title: "Settings: notifications", Nav: "/settings", Data: p}
	var err error
	if p.Rights.Read {
		if p.Told, _, err = s.intake.Notifications(r.Context(), dmarc.NotificationQuery{Page: dmarc.Page{Limit: toldShown}}); err != nil {
			return nil, err
		}
	}
	if p.Rights.All {
		p.Installation, err = s.intake.Installation(r.Context())
	}
	return v, err
}

// testTarget serves POST /settings/notifications/test: the page says what came of it.
func (s *site) testTarget(w http.ResponseWriter, r *http.Request) {
	name := r.PostFormValue("target")
	err := s.intake.TestTarget(r.Context(), name)
	var refused dmarc.Refusal
	if err != nil && !errors.As(err, &refused) {
		s.fail(w, r, err)
		return
	}
	v, err := s.notifySettings(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	p := v.Data.(*notifyPage)
	p.Tested, p.Failed = name, refused.Error()
	s.render(w, r, v)
}

// switchRule serves POST /settings/notifications/rules.
func (s *site) switchRule(_ http.ResponseWriter, r *http.Request) (string, error) {
	rule := dmarc.RuleSwitch{Rule: dmarc.NotifyRule(r.PostFormValue("rule")), On: r.PostFormValue("on") == "1", At: s.now().UTC().Truncate(time.Microsecond)}
	if !slices.Contains(dmarc.NotifyRules, rule.Rule) {
		return "", badForm{"there is no such rule"}
	}
	if err := s.intake.SwitchRule(r.Context(), rule); err != nil {
		return "", err
	}
	return "/settings/notifications?done=" + map[bool]string{true: "on", false: "off"}[rule.On], nil
}

// phaseWord says what a notification told, in the colour that it has.
func phaseWord(n *dmarc.Notification) verdictWord {
	switch {
	case n.Phase == dmarc.EventOver:
		return verdictWord{"ok", "", "over"}
	case n.Problem:
		return verdictWord{"error", "", "began"}
	}
	return verdictWord{"info", "", "told"}
}

// deliveryWord says how far a delivery is.
func deliveryWord(d dmarc.DeliveryStatus) string {
	switch d.State {
	case dmarc.DeliverySent:
		return "sent"
	case dmarc.DeliveryGivenUp:
		return "given up after " + plural(int64(d.Attempts), "try", "tries")
	}
	if d.Attempts > 0 {
		return "tried " + plural(int64(d.Attempts), "time", "times") + ", and again soon"
	}
	return "about to be sent"
}

// ownershipPage is what operators said about sources.
type ownershipPage struct {
	settingsPage
	Own   []string // networks that the configuration names
	Items []dmarc.Overrule
	Says  bool
	pager
}

// ownership serves /settings/senders.
func (s *site) ownership(r *http.Request) (*view, error) {
	p := &ownershipPage{settingsPage: s.settingsOf(r, "/settings/senders"), Says: s.overruler != nil}
	after := dmarc.Cursor(r.URL.Query().Get("after"))
	var next dmarc.Cursor
	var err error
	if p.Items, next, err = s.intake.AllOverrules(r.Context(), dmarc.Page{After: after, Limit: linesPerPage}); err != nil {
		return nil, err
	}
	if p.Rights.All {
		installed, err := s.intake.Installation(r.Context())
		if err != nil {
			return nil, err
		}
		p.Own = installed.Own
	}
	p.pager = s.pagerOf("/settings/senders", url.Values{}, after, next)
	return &view{Page: "ownership", Title: "Settings: senders", Nav: "/settings", Data: p}, nil
}

// sayOwner serves POST /settings/senders: it says whose networks are, of one domain
// or of all, or takes that back.
func (s *site) sayOwner(w http.ResponseWriter, r *http.Request) (string, error) {
	f, err := readSaid(r.PostForm)
	var wrong badRequest
	if errors.As(err, &wrong) {
		return "", badForm(wrong)
	}
	domain := ""
	if text := strings.TrimSpace(r.PostFormValue("domain")); text != "" {
		if domain, err = asDomain(text); err != nil {
			return "", badForm{err.Error()}
		}
	}
	for _, network := range f.networks {
		if f.drop {
			err = s.overruler.DropOverrule(r.Context(), domain, network)
		} else {
			_, err = s.overruler.PutOverrule(r.Context(), &dmarc.Overrule{Domain: domain, Network: network, Class: f.class, Note: f.note, At: s.now().UTC().Truncate(time.Microsecond)})
		}
		switch {
		case errors.Is(err, dmarc.ErrNotFound) && f.drop: // somebody else was quicker
		case errors.Is(err, dmarc.ErrNotFound):
			return "", dmarc.Refusal("nothing is known of " + cut(plain(domain), 100) + " yet: say it once a report about it has come")
		case err != nil:
			return "", err
		}
	}
	return "/settings/senders?done=" + map[bool]string{true: "dropped", false: "said"}[f.drop], nil
}

// configurationPage is what the configuration says.
type configurationPage struct {
	settingsPage
	dmarc.Installation
}

// configuration serves /settings/configuration.
func (s *site) configuration(r *http.Request) (*view, error) {
	p := &configurationPage{settingsPage: s.settingsOf(r, "/settings/configuration")}
	var err error
	if p.Rights.All {
		p.Installation, err = s.intake.Installation(r.Context())
	}
	return &view{Page: "configuration", Title: "Settings: configuration", Nav: "/settings", Data: p}, err
}

// auditPage is what was done.
type auditPage struct {
	settingsPage
	Items  []dmarc.AuditEntry
	Action string
	Who    string
	Clear  string
	pager
}

// audit serves /settings/audit.
func (s *site) audit(r *http.Request) (*view, error) {
	q := r.URL.Query()
	p := &auditPage{settingsPage: s.settingsOf(r, "/settings/audit"), Action: cut(strings.TrimSpace(q.Get("action")), 100), Who: cut(strings.TrimSpace(q.Get("who")), 100), Clear: s.link("/settings/audit")}
	v := &view{Page: "audit", Title: "Settings: audit log", Nav: "/settings", Data: p}
	if !p.Rights.Govern || s.keeper == nil {
		return v, nil
	}
	after := dmarc.Cursor(q.Get("after"))
	var next dmarc.Cursor
	var err error
	p.Items, next, err = s.keeper.Audit(r.Context(), dmarc.AuditQuery{Action: p.Action, Who: p.Who, Page: dmarc.Page{After: after, Limit: linesPerPage}})
	keep := url.Values{}
	for name, value := range map[string]string{"action": p.Action, "who": p.Who} {
		if value != "" {
			keep.Set(name, value)
		}
	}
	p.pager = s.pagerOf("/settings/audit", keep, after, next)
	return v, err
}
