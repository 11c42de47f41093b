package parse

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
)

func readAll(b *testing.B, r io.Reader) {
	a := newAggregateReader(r, DefaultLimits, false)
	defer a.Close()
	if _, err := a.End(); err != nil {
		b.Fatal(err)
	}
}

// spent runs something a number of times, and returns how long once took.
func spent(times int, run func()) time.Duration {
	begun := time.Now()
	for range times {
		run()
	}
	return time.Since(begun) / time.Duration(times)
}

// BenchmarkAggregate reads reports of usual and of large size.
func BenchmarkAggregate(b *testing.B) {
	for _, rows := range []int{15, 5000} {
		text := likeReal(rows)
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				readAll(b, bytes.NewReader(text))
			}
			b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkAgainstEncodingXML reads reports in turn with our reader and with
// encoding/xml into a plain struct: how many times as fast ours is does not
// depend on what else the machine does.
func BenchmarkAgainstEncodingXML(b *testing.B) {
	for _, rows := range []int{15, 5000} {
		text := likeReal(rows)
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			var ours, other time.Duration
			for b.Loop() {
				ours += spent(10, func() { readAll(b, bytes.NewReader(text)) })
				other += spent(1, func() {
					var plain plainFeedback
					if err := xml.Unmarshal(text, &plain); err != nil {
						b.Fatal(err)
					}
				})
			}
			b.ReportMetric(float64(other)/float64(ours), "times-as-fast")
		})
	}
}

// BenchmarkAgainstGunzip reads large reports in gzip, and unpacks them without
// reading them.
func BenchmarkAgainstGunzip(b *testing.B) {
	packed := []byte(gzipped(b, string(likeReal(50_000))))
	var zr gzip.Reader
	unpack := func() io.Reader {
		if err := zr.Reset(bytes.NewReader(packed)); err != nil {
			b.Fatal(err)
		}
		return &zr
	}
	var ours, alone time.Duration
	for b.Loop() {
		ours += spent(1, func() { readAll(b, unpack()) })
		alone += spent(1, func() { io.Copy(io.Discard, unpack()) })
	}
	b.ReportMetric(float64(alone)/float64(ours), "of-gunzip-speed")
}

// BenchmarkMessage reads mails as they come: a report of 15 rows in gzip in
// base64, down to its rows.
func BenchmarkMessage(b *testing.B) {
	raw := []byte(mixed(plain, attached(gzipType, gzipped(b, string(likeReal(15))))))
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		found, err := Message(context.Background(), bytes.NewReader(raw), "", DefaultLimits)
		if err != nil || len(found.Parts) != 1 || found.Parts[0].Aggregate == nil {
			b.Fatalf("%+v, %v", found, err)
		}
		for _, err := range found.Parts[0].Aggregate.Rows {
			if err != nil {
				b.Fatal(err)
			}
		}
		found.Close()
	}
}
