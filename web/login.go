package web

import (
	"bytes"
	"errors"
	"html/template"
	"net/http"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A Gate tells who asks for a page, and lets people in. Requests for pages have
// passed it; those for the login have not.
type Gate interface {
	// Who names who asks, "" where nobody is asked who they are, and tells
	// whether they can log out.
	Who(r *http.Request) (name string, leaves bool)
	// CSRF returns what the forms of an answer have to send back as csrf. The
	// gate refuses changes without it.
	CSRF(w http.ResponseWriter, r *http.Request) string
	// Enter begins a session for the bearer of a token; a dmarc.Refusal says
	// why not.
	Enter(w http.ResponseWriter, r *http.Request, token string) error
	Leave(w http.ResponseWriter, r *http.Request)
	// Next returns the address to go to after a login.
	Next(to string) string
	// Provider returns the label and address of another way to log in; "" for none.
	Provider() (label, address string)
}

// loginPage is where people log in.
type loginPage struct {
	Failed   string // why the last try failed
	Next     string
	Label    string // of the provider
	Provider string // its address; "" for none
}

// login serves GET /login.
func (s *site) login(r *http.Request) (*view, error) {
	p := &loginPage{Next: r.URL.Query().Get("next")}
	p.Label, p.Provider = s.gate.Provider()
	if p.Provider != "" && p.Next != "" {
		p.Provider += "?next=" + template.URLQueryEscaper(p.Next)
	}
	switch r.URL.Query().Get("failed") {
	case "":
	case "groups":
		p.Failed = "You are known, but none of your groups may see anything here. Who runs dmarcd can change that."
	case "begin":
		p.Failed = "That login was not begun here, or too long ago. Begin it again."
	default:
		p.Failed = "The login with the provider failed. The log of dmarcd says why."
	}
	return &view{Page: "login", Title: "Log in", Data: p}, nil
}

// enter serves POST /login.
func (s *site) enter(w http.ResponseWriter, r *http.Request) {
	err := s.gate.Enter(w, r, r.PostFormValue("token"))
	var refused dmarc.Refusal
	if errors.As(err, &refused) {
		p := &loginPage{Failed: refused.Error(), Next: r.PostFormValue("next")}
		p.Label, p.Provider = s.gate.Provider()
		s.render(w, r, &view{Page: "login", Status: http.StatusUnauthorized, Title: "Log in", Data: p})
		return
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, s.gate.Next(r.PostFormValue("next")), http.StatusSeeOther)
}

// leave serves POST /logout.
func (s *site) leave(w http.ResponseWriter, r *http.Request) (string, error) {
	s.gate.Leave(w, r)
	return "/login", nil
}

// post makes a handler of a function that changes something and says which page
// of the dashboard comes next, as a path with its query. That the form is of this
// dashboard has been seen to by the gate, if its template has {{csrf}}.
func (s *site) post(change func(http.ResponseWriter, *http.Request) (next string, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		next, err := change(w, r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, s.base+next, http.StatusSeeOther)
	}
}

// csrfField is what binds a form to who asks: every form that changes something
// has {{csrf}} in it. What stands for it in the template is put there when the page
// is made for somebody, however deep in the templates the form is.
func (s *site) csrfField() template.HTML {
	return template.HTML(`<input type="hidden" name="csrf" value="` + s.form + `">`)
}

// bindForms binds the forms of a page to who asks for it.
func (s *site) bindForms(w http.ResponseWriter, r *http.Request, page []byte) []byte {
	if !bytes.Contains(page, []byte(s.form)) {
		return page
	}
	value := ""
	if s.gate != nil {
		value = s.gate.CSRF(w, r)
	}
	return bytes.ReplaceAll(page, []byte(s.form), []byte(text(value)))
}
