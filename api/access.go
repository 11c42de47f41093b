package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A Keeper hands out tokens and takes them back, and keeps the audit log. It
// knows who asks, and returns dmarc.ErrForbidden to those who may not.
type Keeper interface {
	CreateToken(ctx context.Context, t dmarc.Token) (secret string, kept dmarc.Token, err error)
	Tokens(ctx context.Context, page dmarc.Page) ([]dmarc.Token, dmarc.Cursor, error)
	RevokeToken(ctx context.Context, id int64) (dmarc.Token, error)
	Audit(ctx context.Context, q dmarc.AuditQuery) ([]dmarc.AuditEntry, dmarc.Cursor, error)
}

// errNoKeeper is the answer where there are no tokens.
func errNoKeeper() error {
	return huma.Error503ServiceUnavailable("there are no tokens here")
}

// accessRoutes registers the operations about access.
func (a *API) accessRoutes(h huma.API) {
	list(a, h, itemsAtOnce, "/tokens", "list-tokens", "Tokens", "Every token, newest first, those that are no longer good too. Secrets are not kept, so that nothing shows them. For admins of all domains.", a.tokens)
	register(h, huma.Operation{
		OperationID: "create-token", Method: http.MethodPost, Path: "/api/v1/tokens", Summary: "Create a token",
		Description:   "Makes a token and answers with its secret, this once. For admins of all domains. 409 if another token that is not revoked has the name.",
		DefaultStatus: http.StatusCreated,
		Errors:        []int{http.StatusConflict, http.StatusUnprocessableEntity},
	}, a.createToken)
	register(h, huma.Operation{
		OperationID: "revoke-token", Method: http.MethodDelete, Path: "/api/v1/tokens/{id}", Summary: "Revoke a token",
		Description: "Makes a token useless, and answers with it. Other processes on the same database follow within five seconds. For admins of all domains.",
		Errors:      []int{http.StatusNotFound, http.StatusUnprocessableEntity},
	}, a.revokeToken)
	list(a, h, itemsAtOnce, "/audit", "list-audit", "Audit log", "What was changed, and who read failure reports, newest first. For admins of all domains.", a.audit)
}

// TokenItem is a token.
type TokenItem struct {
	ID        int64      `json:"id"`
	Name      string     `json:"name" doc:"who has it"`
	Roles     []string   `json:"roles" nullable:"false"`
	Domains   []string   `json:"domains" nullable:"true" doc:"with their subdomains; null for all domains"`
	Groups    []string   `json:"groups" nullable:"false" doc:"whose domains it is for as well, as they are when it is used"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at" doc:"null: never"`
	RevokedAt *time.Time `json:"revoked_at"`
	LastUsed  *time.Time `json:"last_used" doc:"the hour; null: never"`
}

func tokenItem(t *dmarc.Token) TokenItem {
	item := TokenItem{ID: t.ID, Name: t.Name, Roles: []string{}, Groups: append([]string{}, t.Groups...), CreatedAt: t.Created,
		ExpiresAt: timeOrNull(t.Expires), RevokedAt: timeOrNull(t.Revoked), LastUsed: timeOrNull(t.Used)}
	for _, r := range t.Roles {
		item.Roles = append(item.Roles, string(r))
	}
	if !t.Scope.All() {
		item.Domains = append([]string{}, t.Scope.Domains()...)
	}
	return item
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (a *API) tokens(ctx context.Context, in *struct{ Page }) (*List[TokenItem], error) {
	if a.opts.Keeper == nil {
		return nil, errNoKeeper()
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	list, next, err := a.opts.Keeper.Tokens(ctx, in.page())
	if err != nil {
		return nil, a.problem(err, "listing tokens")
	}
	return listOf(list, next, tokenItem), nil
}

// NewToken is a token with its secret.
type NewToken struct {
	Body struct {
		TokenItem
		Secret string `json:"secret" doc:"send it as Authorization: Bearer; it is not shown again"`
	}
}

func (a *API) createToken(ctx context.Context, in *struct {
	Body struct {
		Name    string     `json:"name" minLength:"1" maxLength:"100" doc:"who will have it"`
		Roles   []string   `json:"roles,omitempty" enum:"read,upload,admin,failures" doc:"what it is for; read if there is none"`
		Domains []string   `json:"domains,omitempty" maxItems:"10000" doc:"with their subdomains; all domains if there are neither domains nor groups"`
		Groups  []string   `json:"groups,omitempty" maxItems:"1000" doc:"of domains, which it is for as they are when it is used"`
		Expires *time.Time `json:"expires_at,omitempty" doc:"never if it is not given"`
	}
}) (*NewToken, error) {
	if a.opts.Keeper == nil {
		return nil, errNoKeeper()
	}
	t := dmarc.Token{Name: in.Body.Name, Scope: dmarc.Everything, Roles: []dmarc.Role{dmarc.RoleRead}}
	if len(in.Body.Roles) > 0 {
		t.Roles = nil
	}
	for _, r := range in.Body.Roles {
		t.Roles = append(t.Roles, dmarc.Role(r))
	}
	if in.Body.Domains != nil {
		domains := make([]string, len(in.Body.Domains))
		for i, d := range in.Body.Domains {
			if domains[i] = aLabel(d); domains[i] == "" {
				return nil, huma.Error422UnprocessableEntity("a domain is empty", &huma.ErrorDetail{Location: "body.domains", Message: "must be domains, such as example.com"})
			}
		}
		t.Scope = dmarc.ScopeOf(domains...)
	}
	if t.Groups = in.Body.Groups; len(t.Groups) > 0 && in.Body.Domains == nil {
		t.Scope = dmarc.Scope{}
	}
	for i, name := range t.Groups {
		if err := dmarc.CheckName(name); err != nil {
			return nil, huma.Error422UnprocessableEntity("that is no group", &huma.ErrorDetail{Location: fmt.Sprintf("body.groups[%d]", i), Message: err.Error(), Value: name})
		}
	}
	if in.Body.Expires != nil {
		if t.Expires = in.Body.Expires.UTC(); !t.Expires.After(a.opts.Now()) {
			return nil, huma.Error422UnprocessableEntity("the token would be useless", &huma.ErrorDetail{Location: "body.expires_at", Message: "must be a time to come", Value: in.Body.Expires})
		}
	}
	secret, kept, err := a.opts.Keeper.CreateToken(ctx, t)
	if err != nil {
		return nil, a.problem(err, "creating a token")
	}
	var out NewToken
	out.Body.TokenItem, out.Body.Secret = tokenItem(&kept), secret
	return &out, nil
}

func (a *API) revokeToken(ctx context.Context, in *struct {
	ID int64 `path:"id" minimum:"1" doc:"of the token"`
}) (*struct{ Body TokenItem }, error) {
	if a.opts.Keeper == nil {
		return nil, errNoKeeper()
	}
	t, err := a.opts.Keeper.RevokeToken(ctx, in.ID)
	if err != nil {
		return nil, a.problem(err, "revoking a token")
	}
	return &struct{ Body TokenItem }{tokenItem(&t)}, nil
}

// AuditItem is a line of the audit log.
type AuditItem struct {
	ID      int64     `json:"id"`
	At      time.Time `json:"at"`
	Who     string    `json:"who"`
	Via     string    `json:"via" doc:"how they were known: token, session, provider, proxy, command, or open where nobody is asked"`
	From    *string   `json:"from" doc:"address that the request came from"`
	Action  string    `json:"action" example:"token.create"`
	Subject *string   `json:"subject" doc:"what it was done to"`
	Detail  *string   `json:"detail"`
}

func (a *API) audit(ctx context.Context, in *struct {
	Page
	Sometime
	Action string `query:"action" maxLength:"100" doc:"only this action"`
	Who    string `query:"who" maxLength:"100" doc:"only what this one did"`
	Sort   string `query:"sort" enum:"at,-at" default:"-at" doc:"the first or the last first"`
}) (*List[AuditItem], error) {
	if a.opts.Keeper == nil {
		return nil, errNoKeeper()
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	list, next, err := a.opts.Keeper.Audit(ctx, dmarc.AuditQuery{Action: in.Action, Who: in.Who, Period: in.Sometime.period, Page: in.sorted(in.Sort)})
	if err != nil {
		return nil, a.problem(err, "listing the audit log")
	}
	return listOf(list, next, func(e *dmarc.AuditEntry) AuditItem {
		item := AuditItem{ID: e.ID, At: e.At, Who: e.Who, Via: e.Via, Action: e.Action, Subject: orNull(e.Subject), Detail: orNull(e.Detail)}
		if e.From.IsValid() {
			item.From = orNull(e.From.String())
		}
		return item
	}), nil
}
