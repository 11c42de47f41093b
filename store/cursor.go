package store

import (
	"encoding/base64"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A position is a place in a list that is sorted by time, newest first.
type position struct {
	at         time.Time
	domain, id int64
}

func (p position) cursor() dmarc.Cursor {
	return encodeCursor(strconv.FormatInt(p.at.UnixMicro(), 10), strconv.FormatInt(p.domain, 10), strconv.FormatInt(p.id, 10))
}

// behind is a condition on a time, the number of a domain and one of its own for what
// comes after a position, and adds its arguments.
func (p position) behind(prefix, at string, ascending bool, args pgx.NamedArgs) string {
	if p == (position{}) {
		return ""
	}
	p.args(args)
	than := "<"
	if ascending {
		than = ">"
	}
	return " AND (" + prefix + at + ", " + prefix + "domain_id, " + prefix + "id) " + than + " (@at, @after_domain, @after_id)"
}

// numbersCursor is the cursor of a line that is told by numbers.
func numbersCursor(numbers ...int64) dmarc.Cursor {
	fields := make([]string, len(numbers))
	for i, n := range numbers {
		fields[i] = strconv.FormatInt(n, 10)
	}
	return encodeCursor(fields...)
}

// args adds the position to the arguments of a query.
func (p position) args(args pgx.NamedArgs) pgx.NamedArgs {
	maps.Copy(args, pgx.NamedArgs{"at": p.at, "after_domain": p.domain, "after_id": p.id})
	return args
}

// afterTime reads the cursor of a list that is sorted by time. The zero position
// is before everything.
func afterTime(c dmarc.Cursor) (position, error) {
	if c == "" {
		return position{}, nil
	}
	n, err := numbersOf(c, 3)
	if err != nil {
		return position{}, err
	}
	return position{time.UnixMicro(n[0]).UTC(), n[1], n[2]}, nil
}

// ascending tells whether a list that can be sorted by one thing is, from the least;
// usual is from the greatest.
func ascending(by dmarc.Sort, field string) (bool, error) {
	switch string(by) {
	case "", "-" + field:
		return false, nil
	case field:
		return true, nil
	}
	return false, dmarc.ErrBadSort
}

// direction is what stands after each expression of ORDER BY.
func direction(ascending bool) string {
	if ascending {
		return ""
	}
	return " DESC"
}

// afterOf is a condition on the column of a number by which a list is sorted, for
// what comes after a cursor, and adds its argument.
func afterOf(c dmarc.Cursor, column string, ascending bool, args pgx.NamedArgs) (string, error) {
	if c == "" {
		return "true", nil
	}
	n, err := numbersOf(c, 1)
	if err != nil {
		return "", err
	}
	args["after"] = n[0]
	if ascending {
		return column + " > @after", nil
	}
	return column + " < @after", nil
}

// afterNumber reads the cursor of a list that is sorted by number, largest first.
func afterNumber(c dmarc.Cursor) (int64, error) {
	if c == "" {
		return math.MaxInt64, nil
	}
	n, err := numbersOf(c, 1)
	if err != nil {
		return 0, err
	}
	return n[0], nil
}

func numberCursor(n int64) dmarc.Cursor { return encodeCursor(strconv.FormatInt(n, 10)) }

// afterBusiest reads the cursor of a list that is sorted by messages, most
// first, and then by name.
func afterBusiest(c dmarc.Cursor) (messages int64, name string, err error) {
	if c == "" {
		return math.MaxInt64, "", nil
	}
	text, err := base64.RawURLEncoding.DecodeString(string(c))
	number, name, ok := strings.Cut(string(text), " ")
	messages, err2 := strconv.ParseInt(number, 10, 64)
	if err != nil || err2 != nil || !ok || clean(name) != name {
		return 0, "", dmarc.ErrBadCursor
	}
	return messages, name, nil
}

func busiestCursor(messages int64, name string) dmarc.Cursor {
	return encodeCursor(strconv.FormatInt(messages, 10), name)
}

func encodeCursor(fields ...string) dmarc.Cursor {
	return dmarc.Cursor(base64.RawURLEncoding.EncodeToString([]byte(strings.Join(fields, " "))))
}

func decodeCursor(c dmarc.Cursor) (string, error) {
	text, err := base64.RawURLEncoding.DecodeString(string(c))
	if err != nil {
		return "", dmarc.ErrBadCursor
	}
	return string(text), nil
}

func numbersOf(c dmarc.Cursor, n int) ([]int64, error) {
	text, err := decodeCursor(c)
	if err != nil {
		return nil, err
	}
	fields := strings.Split(text, " ")
	if len(fields) != n {
		return nil, dmarc.ErrBadCursor
	}
	numbers := make([]int64, n)
	for i, f := range fields {
		if numbers[i], err = strconv.ParseInt(f, 10, 64); err != nil {
			return nil, dmarc.ErrBadCursor
		}
	}
	// A time that PostgreSQL does not know would be an error of its.
	if n == 3 && (numbers[0] < 0 || numbers[0] > 253402300800e6) {
		return nil, fmt.Errorf("%w: no such time", dmarc.ErrBadCursor)
	}
	return numbers, nil
}

// pageOf cuts lines, of which one more than the limit was asked for, to a
// page, and returns the cursor of the next one.
func pageOf[L, I any](lines []L, limit int, item func(L) I, cursor func(L) dmarc.Cursor) ([]I, dmarc.Cursor, error) {
	var next dmarc.Cursor
	if len(lines) > limit {
		lines = lines[:limit]
		next = cursor(lines[limit-1])
	}
	items := make([]I, len(lines))
	for i, l := range lines {
		items[i] = item(l)
	}
	return items, next, nil
}

// afterAttention reads the cursor of a list that is sorted by attention, most
// urgent first, then by loss, greatest first, and by number.
func afterAttention(c dmarc.Cursor) (attention int16, loss float64, id int64, err error) {
	if c == "" {
		return -1, 0, 0, nil
	}
	n, err := numbersOf(c, 4)
	if err != nil || n[0] < 0 || n[0] > math.MaxInt16 {
		return 0, 0, 0, dmarc.ErrBadCursor
	}
	loss = math.Float64frombits(uint64(n[1])<<32 | uint64(n[2]))
	if math.IsNaN(loss) {
		return 0, 0, 0, dmarc.ErrBadCursor
	}
	return int16(n[0]), loss, n[3], nil
}

func attentionCursor(a dmarc.Attention, loss float64, id int64) dmarc.Cursor {
	b := math.Float64bits(loss)
	return encodeCursor(strconv.Itoa(int(a)), strconv.FormatUint(b>>32, 10), strconv.FormatUint(b&math.MaxUint32, 10), strconv.FormatInt(id, 10))
}

// afterUrgent reads the cursor of a list of domains that is sorted by attention,
// most urgent first, by loss and by messages, most first, and by name.
func afterUrgent(c dmarc.Cursor) (attention int16, loss float64, messages int64, name string, err error) {
	if c == "" {
		return -1, 0, 0, "", nil
	}
	text, err := base64.RawURLEncoding.DecodeString(string(c))
	fields := strings.SplitN(string(text), " ", 4)
	if err != nil || len(fields) != 4 || clean(fields[3]) != fields[3] {
		return 0, 0, 0, "", dmarc.ErrBadCursor
	}
	urgency, err1 := strconv.ParseInt(fields[0], 10, 16)
	bits, err2 := strconv.ParseUint(fields[1], 16, 64)
	messages, err3 := strconv.ParseInt(fields[2], 10, 64)
	loss = math.Float64frombits(bits)
	if err1 != nil || err2 != nil || err3 != nil || urgency < 0 || math.IsNaN(loss) || messages < 0 {
		return 0, 0, 0, "", dmarc.ErrBadCursor
	}
	return int16(urgency), loss, messages, fields[3], nil
}

func urgentCursor(attention int16, loss float64, messages int64, name string) dmarc.Cursor {
	return encodeCursor(strconv.Itoa(int(attention)), strconv.FormatUint(math.Float64bits(loss), 16), strconv.FormatInt(messages, 10), name)
}
