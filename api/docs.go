package api

import (
	"bytes"
	"html/template"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// docsStyle has the colours and sizes of the dashboard, as far as this page needs them.
const docsStyle = `:root { color-scheme: light dark; --ground: #F6F7F9; --surface: #FFF; --sunken: #EDEFF2; --text: #1B2027; --quiet: #5B6370; --rule: #E1E4E9; --control: #868D98 }
@media screen and (prefers-color-scheme: dark) { :root { --ground: #121519; --surface: #1A1E24; --sunken: #262B33; --text: #E6E9ED; --quiet: #A7AEBA; --rule: #2D333C; --control: #767E8B } }
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--text); font: 15px/24px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; overflow-wrap: anywhere }
header { background: var(--surface); border-bottom: 1px solid var(--rule) }
header nav, main { max-width: 1200px; margin: 0 auto; padding: 0 24px }
header nav { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 28px; min-height: 56px }
header a { color: var(--quiet); text-decoration: none; padding: 4px 0 }
header a:hover { color: var(--text) }
header a:first-child { color: var(--text); font-size: 18px; font-weight: 700; letter-spacing: -.02em }
header [aria-current] { color: var(--text); font-weight: 650 }
main { padding-top: 24px; padding-bottom: 40px }
h1 { font-size: 24px; line-height: 32px; margin: 0 }
h2 { font-size: 15px; line-height: 24px; margin: 40px 0 0 }
p { margin: 8px 0; max-width: 60em }
a { color: inherit; text-decoration-color: var(--control); text-underline-offset: 3px }
:focus-visible { outline: 2px solid var(--text); outline-offset: 2px }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 13px }
pre { margin: 8px 0; padding: 8px 16px; background: var(--sunken); border-radius: 4px; line-height: 20px; white-space: pre-wrap }
ul { columns: 3 320px; column-gap: 32px; list-style: none; margin: 16px 0; padding: 0 }
li { break-inside: avoid; padding: 4px 0; line-height: 20px }
li span { display: block; font-size: 13px; color: var(--quiet) }
table { width: 100%; border-collapse: collapse; font-size: 13px; line-height: 20px; margin: 8px 0 }
td, th { text-align: left; vertical-align: top; padding: 4px 16px 4px 0; border-top: 1px solid var(--rule) }
th { border: 0; font-weight: 400; color: var(--quiet) }
td:first-child { min-width: 112px }
td:nth-child(-n+2) { white-space: nowrap }
@media (max-width: 640px) { header nav, main { padding-left: 16px; padding-right: 16px } header nav { gap: 0 16px; padding-top: 8px; padding-bottom: 8px } header a:first-child { flex: 1 0 100% } }`

var docsTemplate = template.Must(template.New("docs").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>API · dmarcd</title><link rel="stylesheet" href="docs.css"></head><body>
<header><nav aria-label="Pages"><a href="../">dmarcd</a><a href="../">Domains</a><a href="../reports">Reports</a><a href="../intake">Intake</a><a href="../settings">Settings</a><a href="docs" aria-current="page">API</a></nav></header>
<main>
<h1>API</h1>
<p>{{.Info.Description}}</p>
<p>For machines: <a href="v1/openapi.json">OpenAPI 3.1</a>. Errors are <code>application/problem+json</code> (RFC 9457) and name every bad parameter.</p>
<ul>
{{range .Operations}}<li><a href="#{{.ID}}"><code>{{.Method}} {{.Path}}</code></a><span>{{.Summary}}</span></li>
{{end}}</ul>
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
