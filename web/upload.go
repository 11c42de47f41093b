package web

import (
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/dmarcd/dmarcd/dmarc"
)

// mostFiles is how many files one form may bring.
const mostFiles = 1000

// uploadedPage says what became of each file that a form brought.
type uploadedPage struct {
	Files []uploadedFile
	From  string // the page to go back to: "start" or ""
	First string // address of the first domain that there are reports about; "" for none
	Left  bool   // there were more files than one form may bring
}

// New counts the files that brought something new.
func (p *uploadedPage) New() (n int) {
	for i := range p.Files {
		if p.Files[i].Added > 0 {
			n++
		}
	}
	return n
}

// An uploadedFile is what became of a file.
type uploadedFile struct {
	Name    string `json:"name"`
	State   string `json:"state"` // ok, info, warning or error
	Word    string `json:"word"`
	Text    string `json:"text"`
	Added   int    `json:"added"`            // reports
	Message string `json:"message"`          // address of its page; "" for none
	Domain  string `json:"domain,omitempty"` // that the first of its reports is about
	Chart   string `json:"chart,omitempty"`  // address of the domain's page
}

// upload serves POST /intake/upload: files, each taken in for itself as the API
// does. A script that shows progress sends one at a time and asks for JSON; without
// one, a page lists all.
func (s *site) upload(w http.ResponseWriter, r *http.Request) {
	if !s.intake.Rights(r.Context()).Upload {
		s.fail(w, r, dmarc.ErrForbidden)
		return
	}
	p, err := s.takeFiles(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Vary", "Accept")
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		json.NewEncoder(w).Encode(struct {
			Files []uploadedFile `json:"files"`
		}{p.Files})
		return
	}
	s.render(w, r, &view{Page: "uploaded", Title: "What became of the files", Nav: "/intake", Data: p})
}

// takeFiles takes in the files of a form, which the gate has read if it had to look
// into it, in their order.
func (s *site) takeFiles(r *http.Request) (*uploadedPage, error) {
	p := &uploadedPage{}
	add := func(name string, body io.Reader) error {
		if name == "" {
			return nil // the form was sent without a file
		}
		if len(p.Files) >= mostFiles {
			p.Left = true
			return nil
		}
		f, err := s.takeFile(r, name, body)
		if err != nil {
			return err
		}
		if p.First == "" {
			p.First = f.Chart
		}
		p.Files = append(p.Files, f)
		return nil
	}
	if r.MultipartForm != nil {
		if r.PostForm.Get("from") == "start" {
			p.From = "start"
		}
		for _, h := range r.MultipartForm.File["file"] {
			if err := addPart(h, add); err != nil {
				return nil, err
			}
		}
	} else {
		form, err := r.MultipartReader()
		if err != nil {
			return nil, badForm{"files come as multipart/form-data"}
		}
		for {
			part, err := form.NextPart()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, badForm{"the form breaks off"}
			}
			if part.FormName() == "file" {
				if err := add(part.FileName(), part); err != nil {
					return nil, err
				}
			}
		}
	}
	if len(p.Files) == 0 {
		return nil, badForm{"no file was chosen"}
	}
	return p, nil
}

func addPart(h *multipart.FileHeader, add func(string, io.Reader) error) error {
	f, err := h.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	return add(h.Filename, f)
}

// takeFile takes in one file. What is wrong with the file is not an error.
func (s *site) takeFile(r *http.Request, name string, body io.Reader) (uploadedFile, error) {
	f := uploadedFile{Name: plain(cut(name, 200))}
	fate, err := s.intake.Take(r.Context(), dmarc.MailboxUpload, name, body)
	var bad *dmarc.Error
	switch {
	case errors.As(err, &bad):
		f.State, f.Word, f.Text = "error", "not taken", plain(bad.Reason)
		return f, nil
	case r.Context().Err() != nil:
		return f, err
	case err != nil:
		s.log.ErrorContext(r.Context(), "a file that was uploaded could not be stored", "error", err)
		f.State, f.Word, f.Text = "error", "not stored", "the database could not be written to; try it again in a minute. The log of dmarcd says why"
		return f, nil
	}
	word := outcomeWord(fate.Outcome)
	f.State, f.Word, f.Text, f.Added = word.Class, word.Word, plain(outcomeText(fate.Outcome)), fate.Added
	if fate.Reason != "" {
		f.Text = plain(fate.Reason)
	}
	switch {
	case fate.Known && fate.Outcome.Harmless():
		f.State, f.Word, f.Text = "info", "there already", "this file was taken in before; nothing changed"
	case fate.Known:
		f.Text = "it was taken in before, and read then with this result: " + f.Text
	case fate.Outcome == dmarc.OutcomeNotAReport:
		f.Text = "it is no mail, XML, gzip, zip or JSON that holds one"
	case fate.Added > 0:
		f.Text = plural(int64(fate.Added), "new report", "new reports")
		if fate.Rows > 0 {
			f.Text += " with " + plural(fate.Rows, "row", "rows")
		}
		if fate.Refused > 0 {
			f.State, f.Text = "warning", f.Text+"; "+plural(int64(fate.Refused), "part", "parts")+" could not be read: "+plain(fate.Reason)
		}
	}
	if fate.MessageID != 0 && s.intake.Rights(r.Context()).Read {
		s.linkFile(r, &f, fate.MessageID)
	}
	return f, nil
}

// linkFile finds the pages about what was in a file, for those who may see them.
func (s *site) linkFile(r *http.Request, f *uploadedFile, message int64) {
	e, err := s.intake.Message(r.Context(), message)
	if err != nil {
		return
	}
	f.Message = s.messageLink(message)
	for _, part := range e.Reports {
		if part.Kind != "aggregate" || part.Report == "" {
			continue
		}
		rep, err := s.intake.Report(r.Context(), part.Report)
		if err != nil {
			return
		}
		f.Domain = rep.Report.Policy.Domain
		// The period that shows the report, which may be an old one.
		v := url.Values{}
		if begin := rep.Report.Period.Begin.UTC().Truncate(aDay); begin.Before(lastDays(defaultDays, s.now()).Begin) && !begin.Before(dmarc.Earliest) {
			v.Set("from", isoDay(begin.AddDate(0, 0, -15)))
			v.Set("to", isoDay(begin.AddDate(0, 0, 15)))
		}
		f.Chart = s.link(domainPath(f.Domain, ""), v)
		return
	}
}

// messageLink returns the address of a message of the ledger.
func (s *site) messageLink(id int64) string { return s.link("/messages/" + strconv.FormatInt(id, 10)) }
