package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/parse"
)

// A truth is what the generator says about one class of messages of a source.
type truth struct {
	class    string
	messages int64
	passing  int64
}

// A world is generated reports, reduced to facts, and the truth about them.
type world struct {
	domains   map[string][]dmarc.SourceDay
	published map[string]dmarc.PolicyPublished // as last reported
	begin     map[string]int64                 // of the report that told
	truth     map[string]map[netip.Addr][]truth
	reporters map[int64]string
	reports   int
}

// read reads a folder that the generator wrote. Copies of a report count once.
func read(ctx context.Context, dir string) (*world, error) {
	w := &world{
		domains: make(map[string][]dmarc.SourceDay), published: make(map[string]dmarc.PolicyPublished), begin: make(map[string]int64),
		truth: make(map[string]map[netip.Addr][]truth), reporters: make(map[int64]string),
	}
	reducers := make(map[string]*dmarc.FactReducer)
	numbers := make(map[string]int64)
	seen := make(map[string]bool)
	err := filepath.WalkDir(filepath.Join(dir, "reports"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found, err := parse.Message(ctx, bytes.NewReader(raw), filepath.Base(path), parse.DefaultLimits)
		if err != nil {
			return err
		}
		defer found.Close()
		for _, part := range found.Parts {
			rep := part.Aggregate
			if rep == nil {
				return fmt.Errorf("%s: %s: %s", path, part.Outcome, part.Reason)
			}
			id := strings.Join([]string{rep.Policy.Domain, rep.Reporter.Key(), rep.ID, rep.Period.Begin.String(), rep.Period.End.String()}, "|")
			if seen[id] {
				continue
			}
			seen[id] = true
			w.reports++
			number, ok := numbers[rep.Reporter.Key()]
			if !ok {
				number = int64(len(numbers) + 1)
				numbers[rep.Reporter.Key()] = number
				w.reporters[number] = rep.Reporter.OrgName
			}
			name := rep.Policy.Domain
			if reducers[name] == nil {
				reducers[name] = &dmarc.FactReducer{}
			}
			if begin := rep.Period.Begin.Unix(); begin >= w.begin[name] {
				w.begin[name], w.published[name] = begin, rep.Policy
			}
			days, _ := rep.Period.Attribute(rep.Period.EffectiveEnd())
			for row, err := range rep.Rows {
				if err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
				reducers[name].Add(row, &rep.Policy, days, number)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for name, f := range reducers {
		w.domains[name] = f.Days()
	}
	return w, w.readTruth(filepath.Join(dir, "sources.tsv"))
}

func (w *world) readTruth(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Scan() // the head
	for lines.Scan() {
		v := strings.Split(lines.Text(), "\t")
		if len(v) < 5 {
			return fmt.Errorf("%s: %q is not of the form domain, source, class, messages, passing", path, lines.Text())
		}
		addr, err := netip.ParseAddr(v[1])
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		n, err := strconv.ParseInt(v[3], 10, 64)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		passing, err := strconv.ParseInt(v[4], 10, 64)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if w.truth[v[0]] == nil {
			w.truth[v[0]] = make(map[netip.Addr][]truth)
		}
		w.truth[v[0]][addr] = append(w.truth[v[0]][addr], truth{v[2], n, passing})
	}
	return lines.Err()
}

// between returns the facts of the days from begin up to, and without, end.
func between(days []dmarc.SourceDay, begin, end time.Time) []dmarc.SourceDay {
	var out []dmarc.SourceDay
	for _, d := range days {
		if !d.Day.Before(begin) && d.Day.Before(end) {
			out = append(out, d)
		}
	}
	return out
}
