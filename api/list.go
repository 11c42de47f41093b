package api

import (
	"bufio"
	"context"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// How many items of a list are read at once while it is streamed. What is summed up
// for each page is asked for in larger ones.
const (
	itemsAtOnce = 500
	sumsAtOnce  = 5000
)

// itemsOf is where an operation keeps what its items are.
const itemsOf = "items"

// list registers a question whose answer is a list: a struct with a Body that has
// Items and, if it has pages, Next. It can be asked for in parts, and as a stream, of which
// so many items are read at once.
func list[I, O any](a *API, h huma.API, atOnce int, path, id, summary, description string, handler func(context.Context, *I) (*O, error)) {
	body, ok := reflect.TypeFor[O]().FieldByName("Body")
	if !ok {
		panic(id + ": no body")
	}
	items, ok := body.Type.FieldByName("Items")
	if !ok {
		panic(id + ": no items")
	}
	if _, ok := any(new(I)).(interface{ shape() *Shape }); !ok {
		panic(id + ": its input has no Shape")
	}
	whole, item := objectOf(body.Type), objectOf(items.Type.Elem())
	// The schema is named as that of an answer which huma writes.
	hint := id + "Response"
	if name := reflect.TypeFor[O]().Name(); name != "" {
		hint = name + body.Name
	}
	op := huma.Operation{
		OperationID: id, Method: http.MethodGet, Path: "/api/v1" + path, Summary: summary, Description: description,
		Errors:   []int{http.StatusBadRequest, http.StatusNotFound, http.StatusUnprocessableEntity},
		Metadata: map[string]any{itemsOf: item},
		Responses: map[string]*huma.Response{"200": {Description: "OK; with fields, items have these alone", Content: map[string]*huma.MediaType{
			mediaJSON:   {Schema: huma.SchemaFromField(h.OpenAPI().Components.Schemas, body, hint)},
			mediaCSV:    {Schema: &huma.Schema{Type: "string", Description: "A line with the names of the columns, and one for each item. The columns: " + strings.Join(namesOf(item.columns("")), ", ")}},
			mediaNDJSON: {Schema: &huma.Schema{Type: "string", Description: "An item of the list on each line, as in JSON"}},
		}}},
	}
	register(h, op, func(ctx context.Context, in *I) (*huma.StreamResponse, error) {
		shape := any(in).(interface{ shape() *Shape }).shape()
		if !shape.asked {
			panic(id + ": its shape was not read")
		}
		shape.at = a.opts.Now()
		page := &Page{Shape: *shape}
		if paged, ok := any(in).(interface{ paging() *Page }); ok {
			page = paged.paging()
			if err := page.open(); err != nil {
				return nil, a.problem(err, "continuing a list")
			}
		}
		s := &stream{a: a, page: page, atOnce: atOnce, left: -1}
		if page.streams() {
			if page.limited {
				s.left = page.Limit
			}
			page.Limit = s.most()
		}
		s.ask = func() (reflect.Value, string, error) {
			out, err := handler(ctx, in)
			if err != nil {
				return reflect.Value{}, "", err
			}
			answer := reflect.ValueOf(out).Elem().FieldByIndex(body.Index)
			next := ""
			if at := answer.FieldByName("Next"); at.IsValid() && !at.IsNil() {
				next = at.Elem().String()
			}
			return answer, next, nil
		}
		answer, next, err := s.ask()
		if err != nil {
			return nil, err
		}
		if page.streams() {
			return &huma.StreamResponse{Body: func(hc huma.Context) { s.run(hc, id, answer, next) }}, nil
		}
		if next != "" {
			sealed := page.seal(next)
			answer.FieldByName("Next").Set(reflect.ValueOf(&sealed))
		}
		text, err := page.body(whole, answer)
		if err != nil {
			return nil, a.problem(err, "writing a list")
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			hc.SetHeader("Content-Type", mediaJSON)
			hc.BodyWriter().Write(text)
		}}, nil
	})
}

// body writes a page as JSON.
func (s *Shape) body(whole object, answer reflect.Value) ([]byte, error) {
	if s.fields == nil {
		text, err := marshal(answer.Interface())
		return append(text, '\n'), err
	}
	b := []byte{'{'}
	for i := range whole {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `"`+whole[i].name+`":`...)
		v := answer.FieldByIndex(whole[i].index)
		if whole[i].name != "items" {
			text, err := marshal(v.Interface())
			if err != nil {
				return nil, err
			}
			b = append(b, text...)
			continue
		}
		b = append(b, '[')
		for n := range v.Len() {
			if n > 0 {
				b = append(b, ',')
			}
			var err error
			if b, err = s.fields.appendJSON(b, v.Index(n)); err != nil {
				return nil, err
			}
		}
		b = append(b, ']')
	}
	return append(b, "}\n"...), nil
}

// A stream writes all items of a list, some at once. Each part is a question of its
// own, from where the one before ended: nothing is held open in the database while a client
// takes its time.
type stream struct {
	a      *API
	page   *Page
	atOnce int
	left   int // how many items may follow; below 0 for all
	ask    func() (answer reflect.Value, next string, err error)
}

// most is how many items are asked for next.
func (s *stream) most() int {
	if s.left >= 0 {
		return min(s.atOnce, s.left)
	}
	return s.atOnce
}

// run writes the list. If it fails midway the connection is broken off, so that
// nobody takes what came for the whole.
func (s *stream) run(hc huma.Context, name string, answer reflect.Value, next string) {
	hc.SetHeader("Content-Type", s.page.contentType())
	hc.SetHeader("Content-Disposition", `attachment; filename="dmarcd-`+strings.TrimPrefix(name, "list-")+s.page.ending()+`"`)
	w := newLines(hc, s.page)
	for {
		items := answer.FieldByName("Items")
		for i := range items.Len() {
			if err := w.item(items.Index(i)); err != nil {
				s.a.breakOff(name, err)
			}
		}
		if s.left >= 0 {
			s.left -= items.Len()
		}
		if next == "" || s.left == 0 || s.page.head {
			w.Flush()
			return
		}
		if w.send() != nil {
			return // nobody listens
		}
		s.page.After, s.page.Limit = next, s.most()
		var err error
		if answer, next, err = s.ask(); err != nil {
			s.a.breakOff(name, err)
		}
	}
}

// breakOff ends an answer that has begun in a way that its client notices.
func (a *API) breakOff(what string, err error) {
	a.opts.Log.Error("an answer breaks off", "of", what, "error", err)
	panic(http.ErrAbortHandler)
}

// lines writes items as lines of CSV or NDJSON.
type lines struct {
	*bufio.Writer
	shape *Page
	out   *http.ResponseController
	buf   []byte
}

// newLines begins with the line of the names, if there is one.
func newLines(hc huma.Context, shape *Page) *lines {
	w := &lines{Writer: bufio.NewWriterSize(hc.BodyWriter(), 32<<10), shape: shape}
	if rw, ok := hc.BodyWriter().(http.ResponseWriter); ok {
		w.out = http.NewResponseController(rw)
	}
	if shape.media == mediaCSV {
		w.Write(appendHeader(nil, shape.columns))
	}
	return w
}

func (w *lines) item(v reflect.Value) (err error) {
	w.buf = w.buf[:0]
	switch {
	case w.shape.media == mediaCSV:
		w.buf, err = appendLine(w.buf, w.shape.columns, v)
	case w.shape.fields != nil:
		if w.buf, err = w.shape.fields.appendJSON(w.buf, v); err == nil {
			w.buf = append(w.buf, '\n')
		}
	default:
		var text []byte
		text, err = marshal(v.Interface())
		w.buf = append(append(w.buf, text...), '\n')
	}
	if err == nil {
		w.Write(w.buf) // its error stays, and shows when it is sent
	}
	return err
}

// send has what was written reach the client.
func (w *lines) send() error {
	if err := w.Flush(); err != nil {
		return err
	}
	if w.out != nil {
		w.out.Flush()
	}
	return nil
}
