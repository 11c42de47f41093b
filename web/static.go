package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
)

//go:embed static
var static embed.FS

// assets are the files that pages load: name by plain name, files by the name
// that also tells the content, so that browsers may keep them for ever.
type assets struct {
	names map[string]string
	files map[string]asset
}

type asset struct {
	name, etag string
	body       []byte
}

func readAssets(files fs.FS) assets {
	a := assets{names: map[string]string{}, files: map[string]asset{}}
	err := fs.WalkDir(files, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := fs.ReadFile(files, p)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		hash := hex.EncodeToString(sum[:8])
		name := path.Base(p)
		ext := path.Ext(name)
		hashed := strings.TrimSuffix(name, ext) + "." + hash + ext
		a.names[name] = hashed
		a.files[hashed] = asset{name, `"` + hash + `"`, body}
		return nil
	})
	if err != nil {
		panic(err) // the files are in the binary
	}
	return a
}

func (a assets) serve(w http.ResponseWriter, r *http.Request) {
	f, ok := a.files[chi.URLParam(r, "name")]
	if !ok {
		http.Error(w, "There is no such file. The page that asks for it is of another version of dmarcd; load it again.", http.StatusNotFound)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("ETag", f.etag)
	http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(f.body))
}
