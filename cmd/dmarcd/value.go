package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A value is where a setting goes, and how it is written.
type value struct {
	// types are those of TOML that are taken: s for a string, i for an
	// integer, b for a boolean, a for an array of strings.
	types string
	// set reads the value as it stands in the environment or, without its
	// quotes, in the file. Elements of a list are separated by commas. An
	// error tells what is wrong without repeating the text.
	set func(text string) error
	// toml writes the value as it stands in the file.
	toml func() string
}

func textValue(p *string, check func(string) error) value {
	return value{
		types: "s",
		set: func(text string) error {
			if check != nil {
				if err := check(text); err != nil {
					return err
				}
			}
			*p = text
			return nil
		},
		toml: func() string { return quote(*p) },
	}
}

func secretValue(p *secret, check func(string) error) value {
	return value{
		types: "s",
		set: func(text string) error {
			if text == hidden {
				return errors.New("that is how dmarcd config prints a secret; put the secret itself here")
			}
			if check != nil {
				if err := check(text); err != nil {
					return err
				}
			}
			*p = newSecret(text)
			return nil
		},
		toml: func() string { return quote(p.String()) },
	}
}

func choiceValue(p *string, words ...string) value {
	return textValue(p, func(text string) error {
		if !slices.Contains(words, text) {
			quoted := make([]string, len(words))
			for i, w := range words {
				quoted[i] = strconv.Quote(w)
			}
			return errors.New("must be one of " + strings.Join(quoted, ", ") + didYouMean(text, words))
		}
		return nil
	})
}

func boolValue(p *bool) value {
	return value{
		types: "b",
		set: func(text string) error {
			b, err := strconv.ParseBool(text)
			if err != nil {
				return errors.New("must be true or false")
			}
			*p = b
			return nil
		},
		toml: func() string { return strconv.FormatBool(*p) },
	}
}

// intValue is a whole number of at least least.
func intValue[T int | int64](p *T, least int64) value {
	return value{
		types: "i",
		set: func(text string) error {
			n, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, 64)
			if err != nil {
				return errors.New("must be a whole number")
			}
			if n < least {
				return fmt.Errorf("must be at least %d", least)
			}
			if int64(T(n)) != n {
				return errors.New("is too large a number")
			}
			*p = T(n)
			return nil
		},
		toml: func() string { return strconv.FormatInt(int64(*p), 10) },
	}
}

// sizeValue is a number of bytes, at least 1: 65536, "64KiB", "1.5GiB".
func sizeValue(p *int64) value {
	return value{
		types: "si",
		set: func(text string) error {
			n, err := parseSize(text)
			if err != nil {
				return err
			}
			*p = n
			return nil
		},
		toml: func() string { return quote(formatSize(*p)) },
	}
}

// optionalSizeValue is a number of bytes, or "" for 0.
func optionalSizeValue(p *int64) value {
	v := sizeValue(p)
	return value{
		types: v.types,
		set: func(text string) error {
			if text == "" {
				*p = 0
				return nil
			}
			return v.set(text)
		},
		toml: func() string {
			if *p == 0 {
				return `""`
			}
			return v.toml()
		},
	}
}

var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

func parseSize(text string) (int64, error) {
	number, unit := strings.TrimSpace(text), int64(1)
	for _, u := range sizeUnits {
		if n := len(number) - len(u.name); n > 0 && strings.EqualFold(number[n:], u.name) {
			number, unit = strings.TrimSpace(number[:n]), u.bytes
			break
		}
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		if n < 1 || n > math.MaxInt64/unit {
			return 0, errors.New("is no size that can be met")
		}
		return n * unit, nil
	}
	f, err := strconv.ParseFloat(number, 64)
	bytes := f * float64(unit)
	if err != nil || !(bytes >= 1 && bytes < math.MaxInt64/2) {
		return 0, errors.New(`must be a size in bytes, or with a unit such as "64MiB"`)
	}
	return int64(bytes), nil
}

// formatSize writes a size exactly, with the largest unit that divides it.
func formatSize(n int64) string {
	for _, u := range sizeUnits[:4] {
		if n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

// keepValue is how long something is kept: 0 for ever, or at least some time.
func keepValue(p *time.Duration, least time.Duration) value {
	var d time.Duration
	v := durationValue(&d, 0)
	set, toml := v.set, durationValue(p, 0).toml
	v.toml = toml
	v.set = func(text string) error {
		if err := set(text); err != nil {
			return err
		}
		if d != 0 && d < least {
			return fmt.Errorf("must be 0, or at least %s", formatDuration(least))
		}
		*p = d
		return nil
	}
	return v
}

// durationValue is a time of at least least: "90s", "1h30m", "30d".
func durationValue(p *time.Duration, least time.Duration) value {
	return value{
		types: "s",
		set: func(text string) error {
			d, err := parseDuration(text)
			if err != nil {
				return err
			}
			if d < least {
				return fmt.Errorf("must be at least %s", formatDuration(least))
			}
			*p = d
			return nil
		},
		toml: func() string { return quote(formatDuration(*p)) },
	}
}

const hoursOfDay = 24 * time.Hour

func parseDuration(text string) (time.Duration, error) {
	bad := errors.New(`must be a number with a unit, such as "30s", "5m", "12h" or "30d"`)
	days, isDays := strings.CutSuffix(text, "d")
	if isDays {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, bad
		}
		return time.Duration(n) * hoursOfDay, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, bad
	}
	return d, nil
}

// formatDuration writes a duration without the zero units that String adds.
func formatDuration(d time.Duration) string {
	if d >= hoursOfDay && d%hoursOfDay == 0 {
		return strconv.FormatInt(int64(d/hoursOfDay), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// listValue is a list of texts; read checks one and gives its usual form.
func listValue(p *[]string, read func(string) (string, error)) value {
	return value{
		types: "a",
		set: func(text string) error {
			list := []string{}
			for item := range strings.SplitSeq(text, ",") {
				if item = strings.TrimSpace(item); item == "" {
					continue
				}
				item, err := read(item)
				if err != nil {
					return err
				}
				if !slices.Contains(list, item) {
					list = append(list, item)
				}
			}
			*p = list
			return nil
		},
		toml: func() string {
			quoted := make([]string, len(*p))
			for i, item := range *p {
				quoted[i] = quote(item)
			}
			return "[" + strings.Join(quoted, ", ") + "]"
		},
	}
}

// fromTOML sets the value from what the TOML decoder gave.
func (v value) fromTOML(x any) error {
	switch x := x.(type) {
	case string:
		if strings.Contains(v.types, "s") {
			return v.set(x)
		}
	case int64:
		if strings.Contains(v.types, "i") {
			return v.set(strconv.FormatInt(x, 10))
		}
	case bool:
		if strings.Contains(v.types, "b") {
			return v.set(strconv.FormatBool(x))
		}
	case []any:
		if strings.Contains(v.types, "a") {
			items := make([]string, len(x))
			for i, item := range x {
				text, ok := item.(string)
				if !ok || strings.Contains(text, ",") {
					return errors.New("must be a list of texts in quotes")
				}
				items[i] = text
			}
			return v.set(strings.Join(items, ","))
		}
	}
	switch v.types[0] {
	case 'i':
		return errors.New("must be a whole number without quotes")
	case 'b':
		return errors.New("must be true or false, without quotes")
	case 'a':
		return errors.New("must be a list of texts in quotes, within [ and ]")
	}
	return errors.New("must be a text in quotes")
}

// quote writes a text as a basic string of TOML, in printable ASCII and other
// letters: everything else is escaped.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case strconv.IsPrint(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\U%08X`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
