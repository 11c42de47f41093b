package sources

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/BurntSushi/toml"
	"golang.org/x/net/publicsuffix"

	"github.com/dmarcd/dmarcd/dmarc"
)

//go:embed catalogue/*.toml
var files embed.FS

// A Catalogue recognises known senders by name and by network. It does not
// change once it is loaded, and may be used by several goroutines.
type Catalogue struct {
	senders []*dmarc.Sender
	byID    map[string]*dmarc.Sender
	ptr     map[string]*dmarc.Sender // by suffix of the PTR name
	domains map[string]*dmarc.Sender // by suffix of d= and MAIL FROM
	asn     map[uint32]*dmarc.Sender
	spf     map[string]*dmarc.Sender // by include
}

// An entry is a sender as a file has it.
type entry struct {
	ID         string     `toml:"id"`
	Name       string     `toml:"name"`
	Kind       string     `toml:"kind"`
	PTR        []string   `toml:"ptr"`
	DKIM       []string   `toml:"dkim"`
	SPF        []string   `toml:"spf"`
	MailFrom   []string   `toml:"mail_from"`
	ASN        []uint32   `toml:"asn"`
	CustomDKIM string     `toml:"custom_dkim"`
	ReturnPath string     `toml:"custom_return_path"`
	Fix        string     `toml:"fix"`
	Publish    []template `toml:"publish"`
}

type template struct {
	Type  string `toml:"type"`
	Name  string `toml:"name"`
	Value string `toml:"value"`
}

// Builtin returns the catalogue that dmarcd comes with.
func Builtin() (*Catalogue, error) {
	c := &Catalogue{
		byID: make(map[string]*dmarc.Sender), ptr: make(map[string]*dmarc.Sender), domains: make(map[string]*dmarc.Sender),
		asn: make(map[uint32]*dmarc.Sender), spf: make(map[string]*dmarc.Sender),
	}
	names, err := fs.Glob(files, "catalogue/*.toml")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		f, err := files.Open(name)
		if err != nil {
			return nil, err
		}
		err = c.readTOML(f, name)
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

// readTOML adds the senders of a file. An entry replaces that of the same id,
// and a name that it claims is no longer that of another. All mistakes are
// told at once.
func (c *Catalogue) readTOML(r io.Reader, file string) error {
	var doc struct {
		Sender []entry `toml:"sender"`
	}
	meta, err := toml.NewDecoder(r).Decode(&doc)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var mistakes []error
	for _, key := range meta.Undecoded() {
		mistakes = append(mistakes, fmt.Errorf("%s: %s is no key of a sender", file, key))
	}
	seen := make(map[string]bool)
	for i := range doc.Sender {
		e := &doc.Sender[i]
		err := e.check()
		if err == nil && seen[e.ID] {
			err = errors.New("the id is taken by another entry of the file")
		}
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("%s: sender %d (%s): %w", file, i+1, e.ID, err))
			continue
		}
		seen[e.ID] = true
		c.add(e)
	}
	return errors.Join(mistakes...)
}

var kinds = map[dmarc.SenderKind]bool{
	dmarc.SenderService: true, dmarc.SenderMailbox: true, dmarc.SenderGateway: true, dmarc.SenderForwarder: true,
	dmarc.SenderList: true, dmarc.SenderHosting: true, dmarc.SenderISP: true, dmarc.SenderOther: true,
}

func (e *entry) check() error {
	switch {
	case e.ID == "" || strings.Trim(e.ID, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
		return errors.New("id is missing, or holds other characters than a-z, 0-9 and -")
	case strings.TrimSpace(e.Name) == "":
		return errors.New("name is missing")
	case !kinds[dmarc.SenderKind(e.Kind)]:
		return fmt.Errorf("kind %q is none of service, mailbox, gateway, forwarder, list, hosting, isp, other", e.Kind)
	case len(e.PTR)+len(e.DKIM)+len(e.MailFrom)+len(e.ASN) == 0:
		return errors.New("needs at least one of ptr, dkim, mail_from and asn to be recognised by")
	}
	for _, s := range []string{e.CustomDKIM, e.ReturnPath} {
		if s != "" && s != "yes" && s != "no" {
			return fmt.Errorf("%q is neither yes nor no", s)
		}
	}
	for _, list := range [][]string{e.PTR, e.DKIM, e.MailFrom, e.SPF} {
		for _, name := range list {
			if err := checkSuffix(name); err != nil {
				return err
			}
		}
	}
	for _, t := range e.Publish {
		if t.Type == "" || t.Name == "" || t.Value == "" {
			return errors.New("a record to publish needs type, name and value")
		}
	}
	return nil
}

// checkSuffix refuses what is no name in lower-case A-labels, and suffixes
// below which anyone can register.
func checkSuffix(name string) error {
	if !validName(name) {
		return fmt.Errorf("%q is no domain name in lower-case A-labels", name)
	}
	if suffix, icann := publicsuffix.PublicSuffix(name); icann && suffix == name || !strings.Contains(name, ".") {
		return fmt.Errorf("%q is a public suffix: it would claim the names of strangers", name)
	}
	return nil
}

func validName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for _, label := range strings.Split(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

func (c *Catalogue) add(e *entry) {
	s := &dmarc.Sender{
		ID: e.ID, Name: e.Name, Kind: dmarc.SenderKind(e.Kind), DKIM: dmarc.Support(e.CustomDKIM),
		ReturnPath: dmarc.Support(e.ReturnPath), Fix: e.Fix,
	}
	for _, t := range e.Publish {
		s.Publish = append(s.Publish, dmarc.Template(t))
	}
	if old := c.byID[s.ID]; old != nil {
		c.remove(old)
	}
	c.byID[s.ID] = s
	c.senders = append(c.senders, s)
	for _, name := range e.PTR {
		c.ptr[name] = s
	}
	for _, name := range e.DKIM {
		c.domains[name] = s
	}
	for _, name := range e.MailFrom {
		c.domains[name] = s
	}
	for _, name := range e.SPF {
		c.spf[name] = s
	}
	for _, n := range e.ASN {
		c.asn[n] = s
	}
}

func (c *Catalogue) remove(old *dmarc.Sender) {
	for _, m := range []map[string]*dmarc.Sender{c.ptr, c.domains, c.spf} {
		for name, s := range m {
			if s == old {
				delete(m, name)
			}
		}
	}
	for n, s := range c.asn {
		if s == old {
			delete(c.asn, n)
		}
	}
	for i, s := range c.senders {
		if s == old {
			c.senders = append(c.senders[:i:i], c.senders[i+1:]...)
			break
		}
	}
}

// byPTR recognises a sender by a PTR name, by its longest known suffix; nil if
// it is unknown. Whether the name is proven is for the caller to know.
func (c *Catalogue) byPTR(name string) *dmarc.Sender { return longest(c.ptr, name) }

// ByDomain recognises a sender by a domain that it signs with or takes bounces
// at; nil if it is unknown.
func (c *Catalogue) ByDomain(domain string) *dmarc.Sender { return longest(c.domains, domain) }

// ByInclude recognises a sender by what its customers include in SPF records; nil if it
// is unknown.
func (c *Catalogue) ByInclude(domain string) *dmarc.Sender { return longest(c.spf, domain) }

// byASN recognises whose a network is; nil if it is unknown.
func (c *Catalogue) byASN(n uint32) *dmarc.Sender { return c.asn[n] }

// Recognise fills in whose an address is: by a name that leads back first,
// since a network may hold anybody's servers.
func (c *Catalogue) Recognise(s *dmarc.SourceIdentity) {
	s.Sender, s.By = nil, ""
	for _, name := range s.Names {
		if known := c.byPTR(name); known != nil {
			s.Sender, s.By = known, "ptr"
			return
		}
	}
	if known := c.byASN(s.ASN); s.ASN != 0 && known != nil {
		s.Sender, s.By = known, "asn"
	}
}

// longest looks a name up by all its suffixes, the longest first: a handful
// of look-ups, however many senders are known.
func longest(m map[string]*dmarc.Sender, name string) *dmarc.Sender {
	name = strings.TrimSuffix(name, ".")
	if len(name) > 253 {
		return nil
	}
	for {
		if s := m[name]; s != nil {
			return s
		}
		_, rest, ok := strings.Cut(name, ".")
		if !ok {
			return nil
		}
		name = rest
	}
}
