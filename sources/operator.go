package sources

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/net/idna"

	"github.com/dmarcd/dmarcd/dmarc"
)

// maxFile is the largest file of an operator that is read.
const maxFile = 64 << 20

// Load returns the built-in catalogue with the senders of an operator's files
// added, in order. A TOML file has the form of the catalogue and wins over it.
// A CSV file has the columns base_reverse_dns, name and type; it knows less,
// and adds only names that are not known.
func Load(paths ...string) (*Catalogue, error) {
	c, err := Builtin()
	if err != nil {
		return nil, err
	}
	var mistakes []error
	for _, path := range paths {
		if err := c.readFile(path); err != nil {
			mistakes = append(mistakes, err)
		}
	}
	if err := errors.Join(mistakes...); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Catalogue) readFile(path string) error {
	var read func(io.Reader, string) error
	switch strings.ToLower(filepath.Ext(path)) {
	case ".toml":
		read = c.readTOML
	case ".csv":
		read = c.readCSV
	default:
		return fmt.Errorf("%s: known senders are read from .toml and .csv files", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading known senders: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > maxFile {
		return fmt.Errorf("%s: %d bytes, more than %d", path, info.Size(), maxFile)
	}
	return read(io.LimitReader(f, maxFile), path)
}

// csvKinds are the types that such files have, in lower case; others are
// SenderOther.
var csvKinds = map[string]dmarc.SenderKind{
	"isp": dmarc.SenderISP, "web host": dmarc.SenderHosting, "iaas": dmarc.SenderHosting, "paas": dmarc.SenderHosting,
	"email provider": dmarc.SenderMailbox, "email security": dmarc.SenderGateway, "mssp": dmarc.SenderGateway,
	"saas": dmarc.SenderService, "marketing": dmarc.SenderService,
}

// readCSV adds the names of a CSV file. Lines that cannot be read are told at
// once, the first ten of them.
func (c *Catalogue) readCSV(r io.Reader, file string) error {
	lines := csv.NewReader(r)
	lines.FieldsPerRecord = -1
	lines.ReuseRecord = true
	head, err := lines.Read()
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	base, name, kind := -1, -1, -1
	for i, column := range head {
		switch strings.ToLower(strings.TrimSpace(strings.TrimPrefix(column, "\ufeff"))) {
		case "base_reverse_dns":
			base = i
		case "name":
			name = i
		case "type":
			kind = i
		}
	}
	if base < 0 || name < 0 || kind < 0 {
		return fmt.Errorf("%s: the first line must name the columns base_reverse_dns, name and type", file)
	}
	var mistakes []error
	bad := 0
	refuse := func(format string, args ...any) {
		line, _ := lines.FieldPos(0)
		if bad++; bad <= 10 {
			mistakes = append(mistakes, fmt.Errorf("%s: line %d: %w", file, line, fmt.Errorf(format, args...)))
		}
	}
	known := make(map[[2]string]*dmarc.Sender) // one sender for all names of a company
	for {
		row, err := lines.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return errors.Join(append(mistakes, fmt.Errorf("%s: %w", file, err))...)
		}
		if len(row) <= max(base, name, kind) {
			refuse("%d columns, not %d", len(row), len(head))
			continue
		}
		suffix := strings.ToLower(strings.Trim(strings.TrimSpace(row[base]), "."))
		if suffix == "" || strings.TrimSpace(row[name]) == "" {
			continue
		}
		if ascii, err := idna.Lookup.ToASCII(suffix); err == nil {
			suffix = ascii
		}
		if !validName(suffix) {
			refuse("%q is no domain name", row[base])
			continue
		}
		if c.ptr[suffix] != nil || checkSuffix(suffix) != nil {
			continue // known better, or the names of strangers
		}
		k, ok := csvKinds[strings.ToLower(strings.TrimSpace(row[kind]))]
		if !ok {
			k = dmarc.SenderOther
		}
		key := [2]string{strings.Clone(strings.TrimSpace(row[name])), string(k)}
		s := known[key]
		if s == nil {
			s = &dmarc.Sender{ID: "csv-" + strings.Clone(suffix), Name: key[0], Kind: k}
			known[key] = s
		}
		c.ptr[strings.Clone(suffix)] = s
	}
	if bad > 10 {
		mistakes = append(mistakes, fmt.Errorf("%s: and %d lines more", file, bad-10))
	}
	return errors.Join(mistakes...)
}
