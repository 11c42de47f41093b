package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzhttp"
	"github.com/klauspost/compress/gzip"
)

// taggedBytes is how large an answer may be to get an entity tag. What is longer is
// streamed, so that no answer is held in memory whole.
const taggedBytes = 2 << 20

// gzipTag ends the entity tag of an answer that is sent compressed: other bytes have
// another strong tag.
const gzipTag = "-gzip"

// compressed compresses answers for those who take gzip. At a higher level lists of
// numbers become hardly smaller, at several times the cost.
func compressed() func(http.Handler) http.Handler {
	wrap, err := gzhttp.NewWrapper(gzhttp.EnableZstd(false), gzhttp.SuffixETag(gzipTag), gzhttp.CompressionLevel(gzip.BestSpeed),
		gzhttp.ContentTypes([]string{"application/json", "application/problem+json", mediaNDJSON, mediaCSV, "text/html", "text/plain", "text/css"}))
	if err != nil {
		panic(err) // the options are wrong
	}
	return func(next http.Handler) http.Handler { return wrap(next) }
}

// conditional gives answers to questions a strong entity tag, and leaves out the
// body where the client has it already (RFC 9110, section 13). The tag is a hash of the answer
// itself: what the same question answers depends on who asks, on the day and on passes, and no
// version of the data would know of all that.
func conditional(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead || !strings.HasPrefix(r.URL.Path, "/api/") {
			next.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("Cache-Control", "private, no-cache")
		h.Add("Vary", "Accept, Authorization, Cookie")
		t := &tagging{ResponseWriter: w, buf: tagBuffers.Get().(*bytes.Buffer)}
		defer func() {
			if t.buf.Reset(); t.buf.Cap() <= taggedBytes {
				tagBuffers.Put(t.buf)
			}
		}()
		next.ServeHTTP(t, r)
		t.end(r)
	})
}

var tagBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// A tagging keeps an answer until it is whole or too long.
type tagging struct {
	http.ResponseWriter
	buf     *bytes.Buffer
	kept    bool // there is an answer, and it is kept
	through bool // what comes is passed on
}

// WriteHeader begins an answer. Only one that is fine is kept.
func (t *tagging) WriteHeader(status int) {
	switch {
	case t.through || t.kept:
	case status == http.StatusOK:
		t.kept = true
	default:
		t.through = true
		t.ResponseWriter.WriteHeader(status)
	}
}

func (t *tagging) Write(p []byte) (int, error) {
	t.WriteHeader(http.StatusOK)
	if !t.through && t.buf.Len()+len(p) > taggedBytes {
		if err := t.pass(); err != nil {
			return 0, err
		}
	}
	if t.through {
		return t.ResponseWriter.Write(p)
	}
	return t.buf.Write(p)
}

// Flush sends what was written. Whoever asks for that streams.
func (t *tagging) Flush() {
	t.WriteHeader(http.StatusOK)
	if !t.through && t.pass() != nil {
		return
	}
	http.NewResponseController(t.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController find what is below.
func (t *tagging) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// pass gives up keeping the answer.
func (t *tagging) pass() error {
	t.through = true
	t.ResponseWriter.WriteHeader(http.StatusOK)
	_, err := t.ResponseWriter.Write(t.buf.Bytes())
	return err
}

// end answers what was kept.
func (t *tagging) end(r *http.Request) {
	if t.through || !t.kept {
		return
	}
	h := t.Header()
	sum := sha256.New()
	sum.Write([]byte(h.Get("Content-Type") + "\n"))
	sum.Write(t.buf.Bytes())
	tag := hex.EncodeToString(sum.Sum(nil)[:16])
	h.Set("ETag", `"`+tag+`"`)
	if known(r.Header.Values("If-None-Match"), tag) {
		h.Del("Content-Type")
		h.Del("Content-Disposition")
		t.ResponseWriter.WriteHeader(http.StatusNotModified)
		return
	}
	t.pass() // its error is that nobody listens
}

// known tells whether a client has the answer of a tag, compressed or not.
func known(match []string, tag string) bool {
	for _, one := range strings.Split(strings.Join(match, ","), ",") {
		one = strings.TrimPrefix(strings.TrimSpace(one), "W/")
		if one == "*" || strings.TrimSuffix(strings.Trim(one, `"`), gzipTag) == tag {
			return true
		}
	}
	return false
}
