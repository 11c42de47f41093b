package store

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// dictionary remembers the numbers of domains, reporters, names and raw
// results. Numbers never change, so that what is remembered stays true; a
// dictionary is filled in short transactions of its own, before the rows that use it.
type dictionary struct {
	mu        sync.Mutex
	domains   map[string]int64
	reporters map[inDomain]int64
	names     map[inDomain]int64
	auths     map[authKey]int64
}

// inDomain is a word of one domain's dictionary.
type inDomain struct {
	domain int64
	word   string
}

type authKey struct {
	domain int64
	digest dmarc.Digest
}

// maxRemembered bounds each map of a dictionary. A full one is forgotten: the
// database knows.
const maxRemembered = 50_000

func remember[K comparable](m *map[K]int64, k K, id int64) {
	if *m == nil || len(*m) >= maxRemembered {
		*m = make(map[K]int64)
	}
	(*m)[k] = id
}

// domain returns the number of a domain if it is remembered.
func (d *dictionary) domain(name string) (int64, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id, ok := d.domains[name]
	return id, ok
}

func (d *dictionary) addDomain(name string, id int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	remember(&d.domains, name, id)
}

// recall returns the number of a word if it is remembered, and else 0.
func recall[K comparable](d *dictionary, m *map[K]int64, k K) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return (*m)[k]
}

// known splits words into those remembered and those that have to be asked for.
func known[K comparable](d *dictionary, m *map[K]int64, words map[K]int64) (missing []K) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k := range words {
		if id, ok := (*m)[k]; ok {
			words[k] = id
		} else {
			missing = append(missing, k)
		}
	}
	return missing
}

// domainIDs fills in the numbers of domains, and makes new ones.
func (s *Store) domainIDs(ctx context.Context, words map[string]int64) error {
	missing := known(&s.dict, &s.dict.domains, words)
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	const insert = `
		INSERT INTO domains (name, ignored)
		SELECT name, name IN (SELECT name FROM arranged_domains WHERE ignored)
		FROM unnest($1::text[]) AS new (name)
		ON CONFLICT DO NOTHING`
	const find = `
		SELECT name, id
		FROM domains
		WHERE name = ANY ($1)`
	return s.resolve(ctx, "domains", find, insert, []any{missing}, len(missing), func(row pgx.CollectableRow) (bool, error) {
		var name string
		var id int64
		if err := row.Scan(&name, &id); err != nil {
			return false, err
		}
		words[name] = id
		s.dict.addDomain(name, id)
		return true, nil
	})
}

// take fills in the numbers of words that were found in the database, and remembers them.
func (d *dictionary) take(m *map[inDomain]int64, words map[inDomain]int64) pgx.RowToFunc[bool] {
	return func(row pgx.CollectableRow) (bool, error) {
		var k inDomain
		var id int64
		if err := row.Scan(&k.domain, &k.word, &id); err != nil {
			return false, err
		}
		words[k] = id
		d.mu.Lock()
		defer d.mu.Unlock()
		remember(m, k, id)
		return true, nil
	}
}

// nameIDs fills in the numbers of names, and makes new ones.
func (s *Store) nameIDs(ctx context.Context, words map[inDomain]int64) error {
	missing := known(&s.dict, &s.dict.names, words)
	if len(missing) == 0 {
		return nil
	}
	slices.SortFunc(missing, compareInDomain)
	domains, names := make([]int64, len(missing)), make([]string, len(missing))
	for i, m := range missing {
		domains[i], names[i] = m.domain, m.word
	}
	const insert = `
		INSERT INTO names (domain_id, name)
		SELECT * FROM unnest($1::bigint[], $2::text[])
		ON CONFLICT DO NOTHING`
	const find = `
		SELECT domain_id, name, id
		FROM names
		JOIN unnest($1::bigint[], $2::text[]) AS wanted (domain_id, name) USING (domain_id, name)`
	return s.resolve(ctx, "names", find, insert, []any{domains, names}, len(missing), s.dict.take(&s.dict.names, words))
}

// reporterIDs fills in the numbers of reporters, and makes new ones. The words
// are keys of reporters, whose names stand in about.
func (s *Store) reporterIDs(ctx context.Context, words map[inDomain]int64, about map[inDomain]dmarc.Reporter) error {
	missing := known(&s.dict, &s.dict.reporters, words)
	if len(missing) == 0 {
		return nil
	}
	slices.SortFunc(missing, compareInDomain)
	n := len(missing)
	domains, keys, orgs, emails := make([]int64, n), make([]string, n), make([]string, n), make([]string, n)
	for i, m := range missing {
		domains[i], keys[i] = m.domain, m.word
		orgs[i], emails[i] = clean(about[m].OrgName), clean(about[m].Email)
	}
	const insert = `
		INSERT INTO reporters (domain_id, key, org_name, email)
		SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[])
		ON CONFLICT DO NOTHING`
	const find = `
		SELECT domain_id, key, id
		FROM reporters
		JOIN unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) AS wanted (domain_id, key, o, e) USING (domain_id, key)`
	return s.resolve(ctx, "reporters", find, insert, []any{domains, keys, orgs, emails}, n, s.dict.take(&s.dict.reporters, words))
}

// authIDs fills in the numbers of raw results, and makes new ones from their
// bodies.
func (s *Store) authIDs(ctx context.Context, words map[authKey]int64, bodies map[authKey][]byte) error {
	missing := known(&s.dict, &s.dict.auths, words)
	if len(missing) == 0 {
		return nil
	}
	slices.SortFunc(missing, func(a, b authKey) int {
		if a.domain != b.domain {
			return int(min(max(a.domain-b.domain, -1), 1))
		}
		return slices.Compare(a.digest[:], b.digest[:])
	})
	n := len(missing)
	domains, digests, texts := make([]int64, n), make([][]byte, n), make([]string, n)
	for i, m := range missing {
		body, ok := bodies[m]
		if !ok {
			return fmt.Errorf("raw results %s: no body", m.digest)
		}
		domains[i], digests[i], texts[i] = m.domain, m.digest[:], string(body)
	}
	const insert = `
		INSERT INTO auth_results (domain_id, digest, body)
		SELECT d, h, b::jsonb FROM unnest($1::bigint[], $2::bytea[], $3::text[]) AS new (d, h, b)
		ON CONFLICT DO NOTHING`
	const find = `
		SELECT domain_id, digest, id
		FROM auth_results
		JOIN unnest($1::bigint[], $2::bytea[], $3::text[]) AS wanted (domain_id, digest, b) USING (domain_id, digest)`
	return s.resolve(ctx, "raw results", find, insert, []any{domains, digests, texts}, n, func(row pgx.CollectableRow) (bool, error) {
		var k authKey
		var digest []byte
		var id int64
		if err := row.Scan(&k.domain, &digest, &id); err != nil {
			return false, err
		}
		copy(k.digest[:], digest)
		words[k] = id
		s.dict.mu.Lock()
		remember(&s.dict.auths, k, id)
		s.dict.mu.Unlock()
		return true, nil
	})
}

// resolve inserts n words where they are missing and finds their numbers.
// Words are inserted in sorted order, so that writers cannot deadlock.
func (s *Store) resolve(ctx context.Context, what, find, insert string, args []any, n int, take pgx.RowToFunc[bool]) error {
	for try := 0; ; try++ {
		rows, _ := s.db.Query(ctx, find, args...)
		found, err := pgx.CollectRows(rows, take)
		if err != nil {
			return fmt.Errorf("finding %s: %w", what, err)
		}
		if len(found) == n {
			return nil
		}
		if try == 2 {
			return fmt.Errorf("finding %s: %d of %d vanished", what, n-len(found), n)
		}
		if _, err := s.db.Exec(ctx, insert, args...); err != nil {
			return fmt.Errorf("adding %s: %w", what, err)
		}
	}
}

func compareInDomain(a, b inDomain) int {
	switch {
	case a.domain < b.domain:
		return -1
	case a.domain > b.domain:
		return 1
	case a.word < b.word:
		return -1
	case a.word > b.word:
		return 1
	}
	return 0
}

// authBody is how the raw results of a row are kept.
type authBody struct {
	DKIM        []authDKIM   `json:"dkim,omitempty"`
	SPF         []authSPF    `json:"spf,omitempty"`
	Reasons     []authReason `json:"reasons,omitempty"`
	Disposition string       `json:"disposition,omitempty"` // as written, if it is no standard word
	Source      string       `json:"source,omitempty"`      // as written, if it is no address
}

type authDKIM struct {
	Domain   string `json:"d,omitempty"`
	Selector string `json:"s,omitempty"`
	Result   string `json:"r,omitempty"`
	Word     string `json:"word,omitempty"`
	Human    string `json:"human,omitempty"`
}

type authSPF struct {
	Domain string `json:"d,omitempty"`
	Scope  string `json:"scope,omitempty"`
	Result string `json:"r,omitempty"`
	Word   string `json:"word,omitempty"`
	Human  string `json:"human,omitempty"`
}

type authReason struct {
	Type    string `json:"type,omitempty"`
	Comment string `json:"comment,omitempty"`
}

// appendAuthKey appends a key that is equal exactly for rows with equal bodies.
func appendAuthKey(b []byte, r *dmarc.Row) []byte {
	b = append(b, r.DispositionWord...)
	b = append(b, 0)
	b = append(b, r.SourceText...)
	b = append(b, 0)
	return dmarc.AppendAuthResults(b, r)
}

// authDigest is the key of a body in the database.
func authDigest(key []byte) dmarc.Digest { return sha256.Sum256(key) }

func encodeAuth(r *dmarc.Row) ([]byte, error) {
	body := authBody{Disposition: clean(r.DispositionWord), Source: clean(r.SourceText)}
	for _, d := range r.AuthDKIM {
		body.DKIM = append(body.DKIM, authDKIM{clean(d.Domain), clean(d.Selector), d.Result.String(), clean(d.Word), clean(d.Human)})
	}
	for _, d := range r.AuthSPF {
		body.SPF = append(body.SPF, authSPF{clean(d.Domain), clean(d.Scope), d.Result.String(), clean(d.Word), clean(d.Human)})
	}
	for _, d := range r.Reasons {
		body.Reasons = append(body.Reasons, authReason{clean(d.Type), clean(d.Comment)})
	}
	return json.Marshal(body)
}

func (b *authBody) fill(r *dmarc.Row) {
	r.DispositionWord, r.SourceText = b.Disposition, b.Source
	for _, d := range b.DKIM {
		r.AuthDKIM = append(r.AuthDKIM, dmarc.DKIMResult{Domain: d.Domain, Selector: d.Selector, Result: dmarc.ParseResult(d.Result), Word: d.Word, Human: d.Human})
	}
	for _, d := range b.SPF {
		r.AuthSPF = append(r.AuthSPF, dmarc.SPFResult{Domain: d.Domain, Scope: d.Scope, Result: dmarc.ParseResult(d.Result), Word: d.Word, Human: d.Human})
	}
	for _, d := range b.Reasons {
		r.Reasons = append(r.Reasons, dmarc.Reason{Type: d.Type, Comment: d.Comment})
	}
}
