package parse

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"hash"
	"hash/crc32"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/flate"

	"github.com/dmarcd/dmarcd/dmarc"
)

// directoryLength is how many bytes of a zip archive may be read to learn what
// it holds: room for thousands of members.
const directoryLength = 1 << 20

// zip reads every member of a zip archive.
func (w *walker) zip(p *payload) error {
	content := p.raw
	if content == nil {
		s, err := p.open()
		if err != nil {
			return w.failed(p.path, err)
		}
		spooled, err := w.spooled(s)
		s.Close()
		if err != nil {
			return w.failed(p.path, err)
		}
		content = &spooled
	}
	at := &directory{r: io.NewSectionReader(content.blob, content.start, content.size()), left: directoryLength}
	zr, err := zip.NewReader(at, content.size())
	if err != nil {
		return w.failed(p.path, corrupt("the zip archive", err))
	}
	at.left = -1
	trailing := dmarc.Flags(0)
	if !endsWithDirectory(at, content.size(), int64(len(zr.Comment))) {
		trailing = dmarc.FlagTrailingData
	}

	members, mark := 0, len(w.found.Parts)
	for _, f := range zr.File {
		if f.Mode().IsDir() || ignored(f.Name) || f.UncompressedSize64 == 0 && f.CompressedSize64 < 8 { // nothing, packed
			continue
		}
		if members++; members > w.limits.Members {
			if err := w.failed(p.path, refusal(dmarc.OutcomeTooLarge, "more than %d files in the archive (limits.members)", w.limits.Members)); err != nil {
				return err
			}
			break
		}
		if err := w.read(w.zipMember(p, f)); err != nil || w.stopped {
			return err
		}
	}
	setFlags(w.found.Parts[mark:], trailing)
	if members == 0 {
		return w.failed(p.path, refusal(dmarc.OutcomeEmptyReport, "a zip archive with nothing in it"))
	}
	if len(w.found.Parts) == mark {
		w.remark("a zip archive without a report")
	}
	return nil
}

// A directory is a zip archive of which only so much may be read, until left
// is negative.
type directory struct {
	r    io.ReaderAt
	left int
}

func (d *directory) ReadAt(p []byte, off int64) (int, error) {
	if d.left >= 0 {
		if d.left < len(p) {
			return 0, refusal(dmarc.OutcomeTooLarge, "the directory of the zip archive is longer than %s", size(directoryLength))
		}
		d.left -= len(p)
	}
	return d.r.ReadAt(p, off)
}

// endsWithDirectory tells whether the end of the directory is the end of the
// archive.
func endsWithDirectory(r io.ReaderAt, size, comment int64) bool {
	const length = 22
	var magic [4]byte
	if size < length+comment {
		return false
	}
	_, err := r.ReadAt(magic[:], size-length-comment)
	return err == nil && string(magic[:]) == "PK\x05\x06"
}

// ignored tells whether a member is what macOS adds to archives.
func ignored(name string) bool {
	return strings.HasPrefix(name, "__MACOSX/") || strings.Contains(name, "/__MACOSX/") || strings.HasPrefix(path.Base(name), "._") || path.Base(name) == ".DS_Store"
}

// baseName returns the last element of a path, whatever separates its elements.
func baseName(name string) string {
	name = strings.TrimRight(name, `/\`)
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name, _ = textField(name, maxName)
	return name
}

// memberPayload is the payload of a file in an archive.
func memberPayload(p *payload, name string, layers int) *payload {
	base := baseName(name)
	q := &payload{m: p.m, path: strings.TrimPrefix(p.path+"/"+base, "/"), name: base, layers: layers, flags: p.flags}
	if layers > 1 {
		q.flags |= dmarc.FlagNestedCompression
	}
	return q
}

// zipMember is the payload of a member of a zip archive. What it unpacks to is
// measured against its own packed size.
func (w *walker) zipMember(p *payload, f *zip.File) *payload {
	q := memberPayload(p, f.Name, p.layers+1)
	if strings.Count(q.name, "!") < 3 && strings.Count(p.name, "!") >= 3 {
		q.name = strings.TrimSuffix(p.name, path.Ext(p.name)) + path.Ext(q.name)
	}
	q.open = func() (*stream, error) {
		if f.Flags&1 != 0 {
			return nil, refusal(dmarc.OutcomeUnsupported, "an encrypted zip archive is not opened")
		}
		raw, err := f.OpenRaw()
		if err != nil {
			return nil, corrupt("the zip archive", err)
		}
		n := new(int64)
		var r io.Reader = &counter{raw, n}
		switch f.Method {
		case zip.Store:
		case zip.Deflate:
			r = flate.NewReader(r)
		default:
			return nil, refusal(dmarc.OutcomeUnsupported, "compression method %d of zip archives is not known", f.Method)
		}
		sum := &checked{r: r, sum: crc32.NewIEEE(), want: f.CRC32, size: f.UncompressedSize64}
		return &stream{Reader: &meter{w: w, seen: &q.seen, r: corruptReader{sum, "the zip archive"}, packed: n}, packed: n}, nil
	}
	return q
}

// checked compares what it reads with a checksum.
type checked struct {
	r    io.Reader
	sum  hash.Hash32
	n    uint64
	want uint32
	size uint64
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.sum.Write(p[:n])
	c.n += uint64(n)
	if err != io.EOF {
		return n, err
	}
	switch {
	case c.n < c.size:
		return n, io.ErrUnexpectedEOF
	case c.want != 0 && c.sum.Sum32() != c.want: // some leave it out
		return n, zip.ErrChecksum
	}
	return n, io.EOF
}

// tar reads every file of a tar archive. Each is read from the beginning of
// the archive on, so that nothing needs to be kept.
func (w *walker) tar(p *payload) error {
	members, mark := 0, len(w.found.Parts)
	s, err := p.open()
	if err != nil {
		return w.failed(p.path, err)
	}
	defer s.Close()
	tr := tar.NewReader(s)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return w.failed(p.path, corrupt("the tar archive", err))
		}
		if h.Typeflag != tar.TypeReg || h.Size == 0 || ignored(h.Name) {
			if n > directoryLength/512 {
				return w.failed(p.path, refusal(dmarc.OutcomeTooLarge, "the tar archive has more than %d entries", directoryLength/512))
			}
			continue
		}
		if members++; members > w.limits.Members {
			return w.failed(p.path, refusal(dmarc.OutcomeTooLarge, "more than %d files in the archive (limits.members)", w.limits.Members))
		}
		if err := w.read(w.tarMember(p, h.Name, n)); err != nil || w.stopped {
			return err
		}
	}
	switch {
	case members == 0:
		return w.failed(p.path, refusal(dmarc.OutcomeEmptyReport, "a tar archive with nothing in it"))
	case len(w.found.Parts) == mark:
		w.remark("a tar archive without a report")
	}
	return nil
}

// tarMember is the payload of the entry number n of a tar archive.
func (w *walker) tarMember(p *payload, name string, n int) *payload {
	q := memberPayload(p, name, p.layers)
	q.open = func() (*stream, error) {
		s, err := p.open()
		if err != nil {
			return nil, err
		}
		tr := tar.NewReader(s)
		for range n + 1 {
			if _, err := tr.Next(); err != nil {
				s.Close()
				return nil, corrupt("the tar archive", err)
			}
		}
		// A sparse file can be larger than the archive that it lies in.
		return &stream{&meter{w: w, seen: &q.seen, r: corruptReader{tr, "the tar archive"}, packed: s.packed}, s.packed, s.close}, nil
	}
	// An archive that is not packed has no checksum at its end.
	q.seen.done = true
	return q
}

// outlook names what lies in an OLE container: a message of Outlook, or a
// document of another program, which is of no interest.
func (w *walker) outlook(p *payload, s *stream) error {
	is := strings.EqualFold(path.Ext(p.name), ".msg") || p.typ == "application/vnd.ms-outlook"
	if !is {
		// Every message has this entry in its directory, in UTF-16.
		property := []byte(strings.Join(strings.Split("__properties_version1.0", ""), "\x00"))
		buf := make([]byte, 0, 64<<10)
		for {
			n, err := s.Read(buf[len(buf):cap(buf)])
			buf = buf[:len(buf)+n]
			if is = bytes.Contains(buf, property); is || err == io.EOF {
				break
			}
			if err != nil {
				return w.failed(p.path, err)
			}
			keep := buf[max(0, len(buf)-len(property)):]
			buf = buf[:copy(buf, keep)]
		}
	}
	if is {
		return w.failed(p.path, refusal(dmarc.OutcomeUnsupported, "an Outlook message (.msg) is not opened; export it as .eml, or send the attachment itself"))
	}
	w.remark("a document, no report")
	return nil
}
