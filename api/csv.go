package api

import (
	"reflect"
	"strconv"
	"strings"
	"time"
)

// appendHeader writes the line of the names of columns.
func appendHeader(b []byte, columns []column) []byte {
	for i := range columns {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, columns[i].name...)
	}
	return append(b, "\r\n"...)
}

// appendLine writes an item as a line of CSV (RFC 4180). Null is an empty cell; a list
// of words is one cell, with "; " between them; what has more parts is JSON.
func appendLine(b []byte, columns []column, item reflect.Value) ([]byte, error) {
	for i := range columns {
		if i > 0 {
			b = append(b, ',')
		}
		v, ok := columns[i].value(item)
		if !ok {
			continue
		}
		switch v.Kind() {
		case reflect.String:
			b = appendCell(b, v.String())
		case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
			b = strconv.AppendInt(b, v.Int(), 10)
		case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
			b = strconv.AppendUint(b, v.Uint(), 10)
		case reflect.Float64:
			b = strconv.AppendFloat(b, v.Float(), 'f', -1, 64)
		case reflect.Bool:
			b = strconv.AppendBool(b, v.Bool())
		default:
			switch x := v.Interface().(type) {
			case time.Time:
				b = x.UTC().AppendFormat(b, time.RFC3339)
			case []string:
				b = appendCell(b, strings.Join(x, "; "))
			default:
				text, err := marshal(x)
				if err != nil {
					return nil, err
				}
				b = appendCell(b, string(text))
			}
		}
	}
	return append(b, "\r\n"...), nil
}

// appendCell writes text of strangers as a cell that no spreadsheet takes for
// anything but text. Control characters, line breaks among them, become spaces. Where a formula
// would begin, an apostrophe stands before it: at the beginning of the cell, and after each
// semicolon, at which spreadsheets of some countries divide whatever the quotes say.
func appendCell(b []byte, text string) []byte {
	quote := strings.ContainsAny(text, "\",;'|") || text != strings.TrimSpace(text)
	if quote {
		b = append(b, '"')
	}
	begins := true // a formula may begin here
	for _, r := range text {
		switch {
		case r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == '\ufeff':
			r = ' '
		case begins && strings.ContainsRune("=+-@＝＋－＠", r):
			b = append(b, '\'')
		}
		if r == '"' {
			b = append(b, '"')
		}
		b = append(b, string(r)...)
		// Some take spaces and quotes off before they look.
		begins = r == ';' || begins && (r == ' ' || r == '"' || r == '\u00a0')
	}
	if quote {
		b = append(b, '"')
	}
	return b
}
