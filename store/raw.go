package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/klauspost/compress/zstd"

	"github.com/dmarcd/dmarcd/dmarc"
)

// pieceSize is how much of a compressed message stands in one row, and
// piecesAtOnce how much of them is held before they are sent.
const (
	pieceSize    = 512 << 10
	piecesAtOnce = 2 << 20
	smallMessage = 64 << 10
)

// encoderOptions bound what compressing takes.
var encoderOptions = []zstd.EOption{zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(1 << 20)}

// encoders are those of small messages, to be used again. They have no stream.
var encoders = sync.Pool{New: func() any {
	e, err := zstd.NewWriter(nil, encoderOptions...)
	if err != nil {
		panic(err) // only options can be wrong
	}
	return e
}}

// addRaw archives the bytes of the messages of a batch. A message that stands
// in the archive already, from another mailbox, is not kept twice.
func (b *batch) addRaw(ctx context.Context, tx pgx.Tx) error {
	var digests [][]byte
	waiting := make(map[dmarc.Digest]*dmarc.Delivery)
	for i := range b.ds {
		if d := &b.ds[i]; !b.fates[i].Known && d.Raw != nil && waiting[d.Digest] == nil {
			waiting[d.Digest] = d
			digests = append(digests, d.Digest[:])
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	const sql = `
		SELECT digest
		FROM raw_messages
		WHERE digest = ANY ($1) AND piece = 0`
	rows, _ := tx.Query(ctx, sql, digests)
	kept, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return fmt.Errorf("looking into the archive: %w", err)
	}
	for _, k := range kept {
		delete(waiting, dmarc.Digest(k))
	}

	b.packing.Wait()
	w := &pieceWriter{ctx: ctx, tx: tx}
	for i := range b.ds {
		d := &b.ds[i]
		if waiting[d.Digest] != d {
			continue
		}
		w.begin(d)
		if err := b.ensureMonth(ctx, "raw_messages", w.day); err != nil {
			return err
		}
		if d.Raw.Size() <= smallMessage { // most are, and need no stream
			body, err := b.packed[i], error(nil)
			if b.packed[i] = nil; body == nil {
				if body, err = pack(d.Raw); err != nil {
					return err
				}
			}
			if err := w.add(body); err != nil {
				return err
			}
			continue
		}
		stream, err := zstd.NewWriter(w, encoderOptions...)
		if err != nil {
			return fmt.Errorf("archiving a message: %w", err)
		}
		if _, err := io.Copy(stream, io.NewSectionReader(d.Raw, 0, d.Raw.Size())); err != nil {
			return fmt.Errorf("archiving a message: %w", err)
		}
		if err := stream.Close(); err != nil {
			return fmt.Errorf("archiving a message: %w", err)
		}
		if err := w.endPiece(); err != nil {
			return err
		}
	}
	return w.send()
}

// beginPacking compresses small messages while the database does something else,
// as many as are sent at once. The others are compressed when their turn comes.
func (b *batch) beginPacking() {
	b.packed = make([][]byte, len(b.ds))
	b.packing.Go(func() {
		size := 0
		for i := range b.ds {
			d := &b.ds[i]
			if b.fates[i].Known || d.Raw == nil || d.Raw.Size() > smallMessage {
				continue
			}
			body, err := pack(d.Raw)
			if err != nil {
				return // whoever needs it will see
			}
			b.packed[i] = body
			if size += len(body); size >= piecesAtOnce {
				return
			}
		}
	})
}

var smallMessages = sync.Pool{New: func() any { return new([smallMessage]byte) }}

// pack compresses a small message.
func pack(raw dmarc.Blob) ([]byte, error) {
	buf := smallMessages.Get().(*[smallMessage]byte)
	defer smallMessages.Put(buf)
	plain := buf[:raw.Size()]
	if _, err := raw.ReadAt(plain, 0); err != nil && err != io.EOF {
		return nil, fmt.Errorf("archiving a message: %w", err)
	}
	encoder := encoders.Get().(*zstd.Encoder)
	defer encoders.Put(encoder)
	return encoder.EncodeAll(plain, nil), nil
}

// A pieceWriter writes messages into the archive, piece by piece.
type pieceWriter struct {
	ctx    context.Context
	tx     pgx.Tx
	day    time.Time
	digest []byte
	piece  int32
	buf    []byte

	days    []time.Time // of the pieces that wait to be sent
	digests [][]byte
	pieces  []int32
	bodies  [][]byte
	size    int
}

// begin starts another message.
func (w *pieceWriter) begin(d *dmarc.Delivery) {
	w.day, w.digest, w.piece = d.ReceivedAt.UTC().Truncate(24*time.Hour), d.Digest[:], 0
}

func (w *pieceWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		take := min(len(p), pieceSize-len(w.buf))
		w.buf = append(w.buf, p[:take]...)
		p = p[take:]
		if len(w.buf) == pieceSize {
			if err := w.endPiece(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

func (w *pieceWriter) endPiece() error {
	body := w.buf
	w.buf = nil
	return w.add(body)
}

// add adds a piece, unless it is empty.
func (w *pieceWriter) add(body []byte) error {
	if len(body) == 0 {
		return nil
	}
	w.days = append(w.days, w.day)
	w.digests = append(w.digests, w.digest)
	w.pieces = append(w.pieces, w.piece)
	w.bodies = append(w.bodies, body)
	w.size += len(body)
	w.piece++
	if w.size >= piecesAtOnce {
		return w.send()
	}
	return nil
}

func (w *pieceWriter) send() error {
	if len(w.days) == 0 {
		return nil
	}
	const sql = `
		INSERT INTO raw_messages (day, digest, piece, body)
		SELECT * FROM unnest($1::date[], $2::bytea[], $3::int[], $4::bytea[])
		ON CONFLICT DO NOTHING`
	if _, err := w.tx.Exec(w.ctx, sql, w.days, w.digests, w.pieces, w.bodies); err != nil {
		return fmt.Errorf("archiving messages: %w", err)
	}
	w.days, w.digests, w.pieces, w.bodies, w.size = w.days[:0], w.digests[:0], w.pieces[:0], nil, 0
	return nil
}

// Raw returns the message or file that an aggregate report came in, byte for
// byte, and what the ledger says of it. The caller closes the reader. It
// returns dmarc.ErrNotFound for an unknown report and for a message that is not kept.
func (s *Store) Raw(ctx context.Context, reportID string) (io.ReadCloser, dmarc.LedgerEntry, error) {
	return s.messageOf(ctx, "SELECT message FROM reports WHERE domain_id = $1 AND id = $2", reportID)
}

// TLSRaw is Raw for a TLS report.
func (s *Store) TLSRaw(ctx context.Context, reportID string) (io.ReadCloser, dmarc.LedgerEntry, error) {
	return s.messageOf(ctx, "SELECT message FROM tls_reports WHERE domain_id = $1 AND id = $2", reportID)
}

// messageOf returns the message that a question finds by a report's domain and number.
func (s *Store) messageOf(ctx context.Context, sql, reportID string) (io.ReadCloser, dmarc.LedgerEntry, error) {
	domain, id, err := parseReportKey(reportID)
	if err != nil {
		return nil, dmarc.LedgerEntry{}, err
	}
	var message int64
	err = s.db.QueryRow(ctx, sql, domain, id).Scan(&message)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, dmarc.LedgerEntry{}, fmt.Errorf("report %s: %w", reportID, dmarc.ErrNotFound)
	}
	if err != nil {
		return nil, dmarc.LedgerEntry{}, fmt.Errorf("report %s: %w", reportID, err)
	}
	entry, err := s.message(ctx, message)
	if err != nil {
		return nil, entry, err
	}
	r, err := s.archived(ctx, entry.Digest)
	return r, entry, err
}

// archived returns the bytes of a message by their digest.
func (s *Store) archived(ctx context.Context, digest dmarc.Digest) (io.ReadCloser, error) {
	p := &pieceReader{ctx: ctx, s: s, digest: digest}
	if err := p.next(); err != nil {
		if errors.Is(err, io.EOF) {
			err = dmarc.ErrNotFound
		}
		return nil, fmt.Errorf("message %s in the archive: %w", digest, err)
	}
	d, err := zstd.NewReader(p, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("message %s in the archive: %w", digest, err)
	}
	return d.IOReadCloser(), nil
}

// A pieceReader reads a message from the archive, holding one piece.
type pieceReader struct {
	ctx    context.Context
	s      *Store
	digest dmarc.Digest
	piece  int
	rest   []byte
}

func (r *pieceReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *pieceReader) next() error {
	const sql = `
		SELECT body
		FROM raw_messages
		WHERE digest = $1 AND piece = $2
		ORDER BY day
		LIMIT 1`
	err := r.s.db.QueryRow(r.ctx, sql, r.digest[:], r.piece).Scan(&r.rest)
	if errors.Is(err, pgx.ErrNoRows) {
		return io.EOF
	}
	if err != nil {
		return fmt.Errorf("reading the archive: %w", err)
	}
	r.piece++
	return nil
}
