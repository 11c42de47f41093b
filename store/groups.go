package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// groupBytes is how much the arrays of a group of rows hold at most, so that with all
// around it no tuple is larger than a quarter of a page: of those PostgreSQL
// would keep a part elsewhere.
const groupBytes = 1728

// A groupEncoder writes rows as COPY reads them in its binary format: a tuple for
// each group of rows, an array for each column. This is done by hand since it is done
// for every row there is.
type groupEncoder struct{ buf []byte }

var copyHead = []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")

// encode makes the groups of rows whose words have these numbers. Rows of one
// report follow each other.
func (g *groupEncoder) encode(rows []waitingRow, names, auths []int64) {
	g.buf = append(slices.Grow(g.buf[:0], 128*len(rows)), copyHead...) // a row takes some 90 bytes
	for len(rows) > 0 {
		n, size := 0, 0
		for n < len(rows) && rows[n].report == rows[0].report && rows[n].domain == rows[0].domain {
			if size += rowSize(&rows[n]); size > groupBytes {
				break
			}
			n++
		}
		g.group(rows[:n], names, auths)
		rows = rows[n:]
	}
	g.buf = binary.BigEndian.AppendUint16(g.buf, 0xffff) // the end
}

// rowSize is how many bytes a row takes in the arrays.
func rowSize(r *waitingRow) int {
	size := 8 + 8 + 2 + 2 + 12
	if r.source.Is6() {
		size += 12
	}
	if r.flags != 0 {
		size += 4
	}
	for _, name := range [...]int32{r.headerFrom, r.envelopeFrom, r.envelopeTo} {
		if name != noWord {
			size += 8
		}
	}
	return size
}

var groupColumns = []string{"domain_id", "report", "day", "messages", "header_from_id", "envelope_from_id", "envelope_to_id", "auth_id",
	"flags", "verdict", "ours", "source"}

func (g *groupEncoder) group(rows []waitingRow, names, auths []int64) {
	b := binary.BigEndian.AppendUint16(g.buf, uint16(len(groupColumns)))
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, 8), uint64(rows[0].domain))
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, 8), uint64(rows[0].report))
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, 4), uint32(rows[0].day))

	b, at := beginArray(b, len(rows), pgtype.Int8OID, false)
	for i := range rows {
		b = appendInt8(b, rows[i].messages)
	}
	endArray(b, at)
	for _, of := range [...]func(*waitingRow) int32{
		func(r *waitingRow) int32 { return r.headerFrom },
		func(r *waitingRow) int32 { return r.envelopeFrom },
		func(r *waitingRow) int32 { return r.envelopeTo },
	} {
		some, all := false, true
		for i := range rows {
			is := of(&rows[i]) != noWord
			some, all = some || is, all && is
		}
		if !some {
			b = appendNull(b)
			continue
		}
		b, at = beginArray(b, len(rows), pgtype.Int8OID, !all)
		for i := range rows {
			if name := of(&rows[i]); name != noWord {
				b = appendInt8(b, names[name])
			} else {
				b = appendNull(b)
			}
		}
		endArray(b, at)
	}
	b, at = beginArray(b, len(rows), pgtype.Int8OID, false)
	for i := range rows {
		b = appendInt8(b, auths[rows[i].auth])
	}
	endArray(b, at)
	flags := int32(0)
	for i := range rows {
		flags |= rows[i].flags
	}
	if flags == 0 {
		b = appendNull(b)
	} else {
		b, at = beginArray(b, len(rows), pgtype.Int4OID, false)
		for i := range rows {
			b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, 4), uint32(rows[i].flags))
		}
		endArray(b, at)
	}
	b, at = beginArray(b, len(rows), pgtype.Int2OID, false)
	for i := range rows {
		b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(b, 2), uint16(rows[i].verdict))
	}
	endArray(b, at)
	b, at = beginArray(b, len(rows), pgtype.Int2OID, false)
	for i := range rows {
		b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(b, 2), uint16(rows[i].ours))
	}
	endArray(b, at)
	b, at = beginArray(b, len(rows), pgtype.InetOID, true)
	for i := range rows {
		b = appendInet(b, rows[i].source)
	}
	endArray(b, at)
	g.buf = b
}

// beginArray begins an array of one dimension, whose length endArray fills in.
func beginArray(b []byte, n int, element uint32, nulls bool) ([]byte, int) {
	at := len(b)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, 1)
	if nulls {
		b = binary.BigEndian.AppendUint32(b, 1)
	} else {
		b = binary.BigEndian.AppendUint32(b, 0)
	}
	b = binary.BigEndian.AppendUint32(b, element)
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	return binary.BigEndian.AppendUint32(b, 1), at // counted from 1
}

func endArray(b []byte, at int) { binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4)) }

func appendNull(b []byte) []byte { return binary.BigEndian.AppendUint32(b, 0xffffffff) }

func appendInt8(b []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, 8), uint64(v))
}

// appendInet appends an address, or null for none.
func appendInet(b []byte, a netip.Addr) []byte {
	const inet4, inet6 = 2, 3 // as PostgreSQL numbers them everywhere
	switch {
	case !a.IsValid():
		return appendNull(b)
	case a.Is4():
		ip := a.As4()
		b = append(b, 0, 0, 0, 8, inet4, 32, 0, 4)
		return append(b, ip[:]...)
	}
	ip := a.As16()
	b = append(b, 0, 0, 0, 20, inet6, 128, 0, 16)
	return append(b, ip[:]...)
}

// pgDay is a day as PostgreSQL counts them.
func pgDay(day time.Time) int32 {
	return int32((day.Unix() - time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Unix()) / 86400)
}

// copyGroups copies what a groupEncoder wrote.
func copyGroups(ctx context.Context, conn *pgx.Conn, text []byte) error {
	if tracer, ok := conn.Config().Tracer.(pgx.CopyFromTracer); ok {
		ctx = tracer.TraceCopyFromStart(ctx, conn, pgx.TraceCopyFromStartData{TableName: pgx.Identifier{"row_groups"}, ColumnNames: groupColumns})
		defer tracer.TraceCopyFromEnd(ctx, conn, pgx.TraceCopyFromEndData{})
	}
	sql := "COPY row_groups (" + strings.Join(groupColumns, ", ") + ") FROM STDIN (FORMAT binary)"
	_, err := conn.PgConn().CopyFrom(ctx, bytes.NewReader(text), sql)
	return err
}

// singleRows is a table of the rows in groups that meet a condition on domain, day
// and report, with no more columns than are asked for: each costs time.
func singleRows(where string, columns ...string) string {
	var b strings.Builder
	b.WriteString("(SELECT day, report")
	for _, c := range columns {
		b.WriteString(", unnest(" + c + ") AS " + c)
	}
	b.WriteString(" FROM row_groups WHERE " + where + ") AS single")
	return b.String()
}
