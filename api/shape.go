package api

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dmarcd/dmarcd/dmarc"
)

// What lists are answered as.
const (
	mediaJSON   = "application/json"
	mediaCSV    = "text/csv"
	mediaNDJSON = "application/x-ndjson"
)

// Shape says what of each item is answered, and as what.
type Shape struct {
	Fields string `query:"fields" maxLength:"2000" doc:"only these fields of each item, with commas between them; those of an object after a dot, such as totals.messages"`
	Format string `query:"format" enum:"json,csv,ndjson" doc:"in place of the header Accept: csv is text/csv, ndjson is application/x-ndjson; these stream all items of the list, from after and up to limit if they are given"`

	asked   bool // Resolve has run
	fields  object
	columns []column // for CSV
	media   string
	head    bool // nobody reads the body
	limited bool
	query   url.Values
	path    string
	at      time.Time // for which moment the list is made
}

// Resolve reads what the list is to look like.
func (s *Shape) Resolve(ctx huma.Context) []error {
	at := ctx.URL()
	s.asked, s.head, s.query, s.path = true, ctx.Method() == http.MethodHead, at.Query(), at.Path
	s.limited = s.query.Get("limit") != ""
	switch s.Format {
	case "":
		s.media = accepted(ctx.Header("Accept"))
	case "csv":
		s.media = mediaCSV
	case "ndjson":
		s.media = mediaNDJSON
	default:
		s.media = mediaJSON
	}
	items := ctx.Operation().Metadata[itemsOf].(object)
	if s.Fields == "" {
		s.columns = items.columns("")
		return nil
	}
	names := strings.Split(s.Fields, ",")
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
	}
	picked, bad, ok := items.pick(names)
	if !ok {
		return []error{&huma.ErrorDetail{Location: "query.fields", Message: "items have no such field; there are " + strings.Join(namesOf(items.columns("")), ", "), Value: bad}}
	}
	s.fields, s.columns = picked, picked.columns("")
	return nil
}

func (s *Shape) shape() *Shape { return s }

func namesOf(columns []column) (names []string) {
	for _, c := range columns {
		names = append(names, c.name)
	}
	return names
}

// accepted returns the kind of answer that an Accept header asks for: JSON unless
// another is preferred to it by name.
func accepted(header string) string {
	best, weight := mediaJSON, 0.0
	for part := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(part, ";")
		media := strings.ToLower(strings.TrimSpace(name))
		if media == "application/ndjson" {
			media = mediaNDJSON
		}
		if media != mediaJSON && media != mediaCSV && media != mediaNDJSON {
			continue
		}
		q := 1.0
		for param := range strings.SplitSeq(params, ";") {
			if text, ok := strings.CutPrefix(strings.TrimSpace(param), "q="); ok {
				q, _ = strconv.ParseFloat(text, 64)
			}
		}
		if q > weight || q == weight && q > 0 && media == mediaJSON {
			best, weight = media, q
		}
	}
	return best
}

// Page chooses a page of a list.
type Page struct {
	Shape
	After string `query:"after" maxLength:"2000" doc:"next of the page before; the other parameters must be as they were"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"items on the page; there may be fewer although more follow: next tells"`
}

// Resolve reads what the list is to look like.
func (p *Page) Resolve(ctx huma.Context) []error { return p.Shape.Resolve(ctx) }

func (p *Page) page() dmarc.Page { return dmarc.Page{After: dmarc.Cursor(p.After), Limit: p.Limit} }

// sorted is the page of a list that can be sorted.
func (p *Page) sorted(by string) dmarc.Page {
	return dmarc.Page{After: dmarc.Cursor(p.After), Limit: p.Limit, Sort: dmarc.Sort(by)}
}

func (p *Page) paging() *Page { return p }

// streams tells whether the whole list is asked for.
func (s *Shape) streams() bool { return s.media != mediaJSON }

// contentType is that of a stream.
func (s *Shape) contentType() string {
	if s.media == mediaCSV {
		return mediaCSV + "; charset=utf-8; header=present"
	}
	return s.media
}

// ending is that of the name of a file.
func (s *Shape) ending() string {
	if s.media == mediaCSV {
		return ".csv"
	}
	return ".ndjson"
}

// binding is what a cursor is good for: the list and all that chooses and orders
// its items.
func (s *Shape) binding() string {
	rest := url.Values{}
	for name, values := range s.query {
		if !slices.Contains([]string{"after", "limit", "fields", "format"}, name) && len(values) > 0 && values[0] != "" {
			rest[name] = values
		}
	}
	sum := sha256.Sum256([]byte(s.path + "?" + rest.Encode()))
	return base64.RawURLEncoding.EncodeToString(sum[:6])
}

// open takes the cursor of the store out of the one that the client sent. The list is
// made for the day of its first page, so that a period that ends today stays as it was.
func (p *Page) open() error {
	if p.After == "" {
		return nil
	}
	i := strings.LastIndexByte(p.After, '.')
	j := strings.LastIndexByte(p.After[:max(i, 0)], '.')
	if j <= 0 {
		return dmarc.ErrBadCursor
	}
	day, err := strconv.ParseInt(p.After[j+1:i], 10, 32)
	if err != nil || day < 0 || day > 1e6 {
		return dmarc.ErrBadCursor
	}
	if p.After[i+1:] != p.binding() {
		return errOtherList
	}
	p.at, p.After = time.Unix(day*86400, 0).UTC(), p.After[:j]
	return nil
}

// seal makes a cursor for the client.
func (p *Page) seal(next string) string {
	return next + "." + strconv.FormatInt(p.at.Unix()/86400, 10) + "." + p.binding()
}

var errOtherList = errors.New("the cursor is of another list")
