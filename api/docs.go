package api

import (
	"bytes"
	"html/template"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

const docsStyle = `:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:900px;margin:2rem auto;padding:0 1rem;background:Canvas;color:CanvasText}
code,pre{font:13px ui-monospace,monospace}pre{overflow-x:auto;padding:.5rem;border:1px solid #8a8f98}
table{border-collapse:collapse}td,th{text-align:left;vertical-align:top;padding:.25rem 1rem .25rem 0}h2{margin-top:2.5rem}`

var docsTemplate = template.Must(template.New("docs").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>dmarcd API</title><link rel="stylesheet" href="docs.css"></head><body><main>
<h1>dmarcd API</h1>
<p>{{.Info.Description}}</p>
<p>For machines: <a href="v1/openapi.json">OpenAPI 3.1</a>. Errors are <code>application/problem+json</code> (RFC 9457) and name every bad parameter.</p>
{{range .Operations}}<h2 id="{{.ID}}"><code>{{.Method}} {{.Path}}</code></h2>
<p><strong>{{.Summary}}.</strong> {{.Description}}</p>
{{if .Parameters}}<table><tr><th>Parameter</th><th>In</th><th>Meaning</th></tr>
{{range .Parameters}}<tr><td><code>{{.Name}}</code></td><td>{{.In}}</td><td>{{.Description}}</td></tr>{{end}}</table>{{end}}
<pre tabindex="0">{{.Curl}}</pre>
{{end}}</main></body></html>
`))

// serveDocsStyle answers with the style of the documentation.
func serveDocsStyle(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Write([]byte(docsStyle))
}

// docsPage renders the document for people. It loads nothing from anywhere.
func docsPage(doc *huma.OpenAPI) http.HandlerFunc {
	type operation struct {
		ID, Method, Path, Summary, Description, Curl string
		Parameters                                   []*huma.Param
	}
	var page struct {
		Info       *huma.Info
		Operations []operation
	}
	page.Info = doc.Info
	for path, item := range doc.Paths {
		for method, op := range map[string]*huma.Operation{http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put, http.MethodPatch: item.Patch, http.MethodDelete: item.Delete} {
			if op == nil {
				continue
			}
			url := strings.NewReplacer("{domain}", "example.com", "{id}", "1-1").Replace(path)
			curl := "curl 'http://127.0.0.1:8080" + url + "'"
			switch {
			case op.OperationID == "upload-report":
				curl = "curl --data-binary @report.xml.gz 'http://127.0.0.1:8080" + url + "'"
			case op.RequestBody != nil:
				curl = "curl --json @body.json -X " + method + " 'http://127.0.0.1:8080" + url + "'"
			case method != http.MethodGet:
				curl = "curl -X " + method + " 'http://127.0.0.1:8080" + url + "'"
			}
			page.Operations = append(page.Operations, operation{op.OperationID, method, path, op.Summary, op.Description, curl, op.Parameters})
		}
	}
	slices.SortFunc(page.Operations, func(a, b operation) int { return strings.Compare(a.Path+a.Method, b.Path+b.Method) })
	var text bytes.Buffer
	err := docsTemplate.Execute(&text, page)
	return func(w http.ResponseWriter, r *http.Request) {
		if err != nil {
			writeProblem(w, http.StatusInternalServerError, "the documentation cannot be shown")
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(text.Bytes())
	}
}
