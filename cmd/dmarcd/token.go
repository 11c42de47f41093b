package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dmarcd/dmarcd/access"
	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/postgres"
)

const (
	tokenUsage = `Hands out API tokens, lists them, and revokes them. Whoever has a token sends it as Authorization: Bearer, or logs in with it.

create prints the secret of a new token, this once: only its hash is kept. list prints all tokens. revoke makes tokens useless, by
name or number; a dmarcd serve that runs follows within five seconds.

Without DMARCD_DATABASE_URL the private PostgreSQL in the data directory is used, also while dmarcd serve runs.`

	tokenExamples = `Examples:
  dmarcd token create --name grafana
  dmarcd token create --name acme --domain acme.example --role read --role failures --expires 90d
  dmarcd token create --name client --group acme
  dmarcd token create --name mailflow --role upload --expires never
  dmarcd token list
  dmarcd token revoke acme`
)

// tokenTime is how long a token is good unless it is told otherwise.
const tokenTime = "365d"

func runToken(ctx context.Context, env *environ, args []string) error {
	fs := env.flags("token", "create|list|revoke [TOKEN...]", tokenUsage, tokenExamples)
	name := fs.String("name", "", "for create: `NAME` of who will have it")
	var domains, groups, roles listFlag
	fs.Var(&domains, "domain", "for create: `DOMAIN` that it is for, with its subdomains; may be given more than once (default: all domains)")
	fs.Var(&groups, "group", "for create: `GROUP` of domains that it is for, with those that come into it later; may be given more than once")
	fs.Var(&roles, "role", "for create: `ROLE` it has, read, upload, admin or failures; may be given more than once (default read)")
	expires := fs.String("expires", tokenTime, "for create: `TIME` that it is good for, such as 90d, or never")
	format := fs.choice("format", "how to print", "text", "json")
	cfg, log, err := env.setUp(fs, args)
	if err != nil {
		return err
	}
	what, rest := fs.Arg(0), fs.Args()[1:]
	var t dmarc.Token
	switch {
	case what == "create" && len(rest) > 0:
		return usageError(fmt.Sprintf("create takes no arguments, but got %q; name the token with --name", rest[0]))
	case what == "create":
		if t, err = newToken(*name, domains, groups, roles, *expires, time.Now()); err != nil {
			return err
		}
	case what == "list" && len(rest) > 0:
		return usageError(fmt.Sprintf("list takes no arguments, but got %q", rest[0]))
	case what == "revoke" && len(rest) == 0:
		return usageError("revoke needs the names or numbers of tokens")
	case what != "list" && what != "revoke":
		return usageError(fmt.Sprintf("%q is nothing that can be done with tokens%s; write create, list or revoke", what, didYouMean(what, []string{"create", "list", "revoke"})))
	}
	s, err := openService(ctx, cfg, log, postgres.Options{}, true)
	if err != nil {
		return err
	}
	ctx = access.With(ctx, operator())
	switch what {
	case "create":
		err = s.createToken(ctx, env, t, format.word == "json")
	case "list":
		err = s.listTokens(ctx, env, format.word == "json")
	default:
		err = s.revokeTokens(ctx, env, rest)
	}
	return errors.Join(err, s.close())
}

// operator is who uses the command line: whoever can reach the database may do
// everything.
func operator() *access.Principal {
	name := strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return &access.Principal{Name: name, Via: access.ViaCommand, Grants: access.Anything()}
}

// newToken reads what a token is to be.
func newToken(name string, domains, groups, roles []string, expires string, now time.Time) (dmarc.Token, error) {
	t := dmarc.Token{Name: strings.TrimSpace(name), Scope: dmarc.Everything}
	if t.Name == "" {
		return t, usageError("create needs --name NAME: who will have the token")
	}
	if len(domains) > 0 {
		var read []string
		for _, d := range domains {
			domain, err := readDomain(d)
			if err != nil {
				return t, usageError(fmt.Sprintf("--domain %q is no domain; want a name such as example.com", d))
			}
			read = append(read, domain)
		}
		t.Scope = dmarc.ScopeOf(read...)
	}
	for _, g := range groups {
		if err := dmarc.CheckName(g); err != nil {
			return t, usageError(fmt.Sprintf("--group %q %v", g, err))
		}
		t.Scope, t.Groups = dmarc.ScopeOf(t.Scope.Domains()...), append(t.Groups, g)
	}
	if len(roles) == 0 {
		roles = []string{string(dmarc.RoleRead)}
	}
	for _, r := range roles {
		if !slices.Contains(dmarc.Roles, dmarc.Role(r)) {
			return t, usageError(fmt.Sprintf("--role %q is no role; want read, upload, admin or failures", r))
		}
		if !slices.Contains(t.Roles, dmarc.Role(r)) {
			t.Roles = append(t.Roles, dmarc.Role(r))
		}
	}
	if expires != "never" {
		d, err := parseDuration(expires)
		if err != nil || d <= 0 {
			return t, usageError(fmt.Sprintf("--expires %q is no time; want a number with a unit, such as 90d or 12h, or never", expires))
		}
		t.Expires = now.Add(d).UTC().Truncate(time.Second)
	}
	return t, nil
}

func (s *service) createToken(ctx context.Context, env *environ, t dmarc.Token, asJSON bool) error {
	secret, kept, err := s.keeper.CreateToken(ctx, t)
	if err != nil {
		return err
	}
	if asJSON {
		line := tokenLine(&kept)
		line["secret"] = secret
		return json.NewEncoder(env.stdout).Encode(line)
	}
	if _, err := fmt.Fprintln(env.stdout, secret); err != nil {
		return err
	}
	env.say("This is the token %q. It is not shown again. It is for %s, with the roles %s, and expires %s.",
		kept.Name, domainsOf(&kept), rolesOf(&kept), orNever(kept.Expires, "never"))
	return nil
}

func (s *service) listTokens(ctx context.Context, env *environ, asJSON bool) error {
	page := dmarc.Page{Limit: 500}
	w := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
	if !asJSON {
		fmt.Fprintln(w, "NUMBER\tNAME\tROLES\tDOMAINS\tCREATED\tEXPIRES\tLAST USED\tSTATE")
	}
	for {
		list, next, err := s.keeper.Tokens(ctx, page)
		if err != nil {
			return err
		}
		for i := range list {
			t := &list[i]
			if asJSON {
				if err := json.NewEncoder(env.stdout).Encode(tokenLine(t)); err != nil {
					return err
				}
				continue
			}
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, printable(t.Name), rolesOf(t), domainsOf(t),
				orNever(t.Created, ""), orNever(t.Expires, "never"), orNever(t.Used, "never"), stateOf(t, time.Now()))
		}
		if page.After = next; next == "" {
			return w.Flush()
		}
	}
}

func (s *service) revokeTokens(ctx context.Context, env *environ, names []string) error {
	for _, name := range names {
		t, err := s.keeper.TokenNamed(ctx, name)
		if id, err2 := strconv.ParseInt(name, 10, 64); errors.Is(err, dmarc.ErrNotFound) && err2 == nil {
			t.ID, err = id, nil
		}
		if err == nil {
			t, err = s.keeper.RevokeToken(ctx, t.ID)
		}
		if errors.Is(err, dmarc.ErrNotFound) {
			return fmt.Errorf("there is no token %q; dmarcd token list shows them", name)
		}
		if err != nil {
			return err
		}
		env.say("The token %q (number %d) is revoked.", t.Name, t.ID)
	}
	return nil
}

// tokenLine is a token as JSON, as the API shows it.
func tokenLine(t *dmarc.Token) map[string]any {
	line := map[string]any{"id": t.ID, "name": t.Name, "roles": t.Roles, "domains": nil, "groups": append([]string{}, t.Groups...), "created_at": t.Created,
		"expires_at": nil, "revoked_at": nil, "last_used": nil}
	if !t.Scope.All() {
		line["domains"] = append([]string{}, t.Scope.Domains()...)
	}
	for key, at := range map[string]time.Time{"expires_at": t.Expires, "revoked_at": t.Revoked, "last_used": t.Used} {
		if !at.IsZero() {
			line[key] = at
		}
	}
	return line
}

func domainsOf(t *dmarc.Token) string {
	if t.Scope.All() {
		return "all domains"
	}
	all := t.Scope.Domains()
	for _, g := range t.Groups {
		all = append(all, dmarc.OfGroup+g)
	}
	return strings.Join(all, ", ")
}

func rolesOf(t *dmarc.Token) string {
	words := make([]string, len(t.Roles))
	for i, r := range t.Roles {
		words[i] = string(r)
	}
	return strings.Join(words, ", ")
}

func orNever(t time.Time, never string) string {
	if t.IsZero() {
		return never
	}
	return t.UTC().Format("2006-01-02 15:04Z")
}

func stateOf(t *dmarc.Token, now time.Time) string {
	switch {
	case !t.Revoked.IsZero():
		return "revoked"
	case !t.Good(now):
		return "expired"
	}
	return "good"
}

// adviseTokens says what to do where tokens are asked for and there is none.
func (s *service) adviseTokens(ctx context.Context) error {
	list, _, err := s.keeper.Tokens(access.With(ctx, operator()), dmarc.Page{Limit: 1000})
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(list, func(t dmarc.Token) bool { return t.Good(time.Now()) }) {
		s.log.Warn("nobody can get in by a token, since there is no good one: make one with dmarcd token create --name NAME --role admin")
	}
	return nil
}
