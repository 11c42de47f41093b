package store

import (
	"math"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// An order is how the lines of a list that is summed up are sorted: by an expression
// which is never null, and then by what names each, ascending.
type order struct {
	key  string // what it is called
	by   string // over the line
	kind string // the type of by: bigint, double precision, text or inet
	down bool   // the greatest first
	name string // over the line
	// nameKind is text, or inet.
	nameKind string
}

// sorted returns one of some orders by its name; the usual one for "".
func sorted(by dmarc.Sort, usual dmarc.Sort, all map[string]order) (order, error) {
	if by == "" {
		by = usual
	}
	name, down := strings.CutPrefix(string(by), "-")
	o, ok := all[name]
	if !ok {
		return order{}, dmarc.ErrBadSort
	}
	o.down = down
	return o, nil
}

// tallied are the orders that lists with a tally have in common. What stands in the
// way of the name of a line is left to each.
func tallied(name, kind string, more map[string]order) map[string]order {
	all := map[string]order{
		"messages":  {by: "messages", kind: "bigint"},
		"failed":    {by: "messages - dmarc_pass", kind: "bigint"},
		"pass_rate": {by: "coalesce(dmarc_pass::double precision / nullif(messages, 0), -1)", kind: "double precision"},
	}
	for key, o := range more {
		all[key] = o
	}
	for key, o := range all {
		o.key, o.name, o.nameKind = key, name, kind
		all[key] = o
	}
	return all
}

// dayNumber makes a number of a day, to sort by.
func dayNumber(column string) order {
	return order{by: "(" + column + " - '1970-01-01'::date)::bigint", kind: "bigint"}
}

// direction of the expression.
func (o *order) direction() string {
	if o.down {
		return " DESC"
	}
	return ""
}

// clause is what stands after ORDER BY. The columns sorted and name are those of a
// query that selects them.
func (o *order) clause() string { return "sorted" + o.direction() + ", " + o.name }

// behind is a condition for what comes after a cursor, and adds its arguments.
func (o *order) behind(c dmarc.Cursor, args pgx.NamedArgs) (string, error) {
	if c == "" {
		return "true", nil
	}
	fields, err := textsOf(c, 2)
	if err != nil {
		return "", err
	}
	if args["place"], err = o.value(o.kind, fields[0]); err != nil {
		return "", err
	}
	if args["place_name"], err = o.value(o.nameKind, fields[1]); err != nil {
		return "", err
	}
	than := ">"
	if o.down {
		than = "<"
	}
	place := "@place::" + o.kind
	return "(" + o.by + " " + than + " " + place + " OR " + o.by + " = " + place + " AND " + o.name + " > @place_name::" + o.nameKind + ")", nil
}

// value reads a value of a type, so that the database need not refuse it.
func (o *order) value(kind, text string) (any, error) {
	switch kind {
	case "bigint":
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n, nil
		}
	case "double precision":
		if f, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(f) {
			return f, nil
		}
	case "inet":
		text, _, _ = strings.Cut(text, "/") // as the database writes it
		if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
			return a, nil
		}
	case "text":
		if clean(text) == text {
			return text, nil
		}
	}
	return nil, dmarc.ErrBadCursor
}

// placeCursor is the cursor of a line that is sorted by a value and has a name.
func placeCursor(value, name string) dmarc.Cursor {
	return encodeCursor(url.QueryEscape(value), name)
}

// textsOf reverses placeCursor, or encodeCursor where only the last field has
// spaces.
func textsOf(c dmarc.Cursor, n int) ([]string, error) {
	text, err := decodeCursor(c)
	if err != nil {
		return nil, err
	}
	fields := strings.SplitN(text, " ", n)
	if len(fields) != n {
		return nil, dmarc.ErrBadCursor
	}
	if fields[0], err = url.QueryUnescape(fields[0]); err != nil {
		return nil, dmarc.ErrBadCursor
	}
	return fields, nil
}
