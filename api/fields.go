package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An object is what a struct is in JSON: its fields, in their order.
type object []field

type field struct {
	name  string
	doc   string
	index []int // in the struct; through those that are embedded
	omit  bool  // left out if it is empty
	inner object
}

var timeType = reflect.TypeFor[time.Time]()

// objectOf returns the fields of a struct.
func objectOf(t reflect.Type) (o object) {
	for _, f := range reflect.VisibleFields(t) {
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" || !f.IsExported() || name == "-" {
			continue
		}
		at := field{name: name, doc: f.Tag.Get("doc"), index: f.Index, omit: opts == "omitempty"}
		if at.name == "" {
			at.name = f.Name
		}
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && inner != timeType {
			at.inner = objectOf(inner)
		}
		o = append(o, at)
	}
	return o
}

func (o object) find(name string) *field {
	for i := range o {
		if o[i].name == name {
			return &o[i]
		}
	}
	return nil
}

// pick returns an object with some fields of this one, in the order of their names:
// "totals.messages" is a field of a field. If one is none, ok is false and bad is its name.
func (o object) pick(names []string) (picked object, bad string, ok bool) {
	for _, name := range names {
		outer, rest, deep := strings.Cut(name, ".")
		f := o.find(outer)
		if f == nil || deep && f.inner == nil {
			return nil, name, false
		}
		at := picked.find(outer)
		if at == nil {
			picked = append(picked, *f)
			at = &picked[len(picked)-1]
			if deep {
				at.inner = nil
			}
		}
		if !deep {
			at.inner = f.inner
			continue
		}
		part, _, ok := f.inner.pick([]string{rest})
		if !ok {
			return nil, name, false
		}
		at.inner = at.inner.with(part)
	}
	return picked, "", true
}

// with returns it with the fields of another part of the same object. What it
// is made of may be of all requests, and stays as it is.
func (o object) with(part object) object {
	o = slices.Clone(o)
	for _, f := range part {
		if have := o.find(f.name); have != nil {
			have.inner = have.inner.with(f.inner)
		} else {
			o = append(o, f)
		}
	}
	return o
}

// fieldOf returns the value of a field, and false for one below a null.
func fieldOf(v reflect.Value, f *field) (reflect.Value, bool) {
	at, err := v.FieldByIndexErr(f.index)
	if err != nil || at.Kind() == reflect.Pointer && at.IsNil() {
		return reflect.Value{}, false
	}
	if at.Kind() == reflect.Pointer {
		at = at.Elem()
	}
	return at, true
}

// appendJSON writes the fields of a struct.
func (o object) appendJSON(b []byte, v reflect.Value) ([]byte, error) {
	b = append(b, '{')
	first := true
	for i := range o {
		f := &o[i]
		at, ok := fieldOf(v, f)
		if f.omit && (!ok || at.IsZero()) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(strconv.AppendQuote(b, f.name), ':')
		var err error
		switch {
		case !ok:
			b = append(b, "null"...)
		case f.inner != nil:
			b, err = f.inner.appendJSON(b, at)
		case at.Kind() == reflect.Int64:
			b = strconv.AppendInt(b, at.Int(), 10)
		default:
			var text []byte
			text, err = marshal(at.Interface())
			b = append(b, text...)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return append(b, '}'), nil
}

// marshal writes JSON as the other answers do.
func marshal(v any) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return []byte(strings.TrimSuffix(b.String(), "\n")), err
}

// A column is a field of an item, or of an object in it, with the way to it.
type column struct {
	name string
	doc  string
	path []*field
}

// columns are the fields of an object that are no objects, named as fields may be
// asked for.
func (o object) columns(prefix string, above ...*field) (all []column) {
	for i := range o {
		f := &o[i]
		path := append(above[:len(above):len(above)], f)
		if f.inner != nil {
			all = append(all, f.inner.columns(prefix+f.name+".", path...)...)
			continue
		}
		all = append(all, column{prefix + f.name, f.doc, path})
	}
	return all
}

// value returns the value of a column, and false for null.
func (c *column) value(v reflect.Value) (reflect.Value, bool) {
	for _, f := range c.path {
		var ok bool
		if v, ok = fieldOf(v, f); !ok {
			return v, false
		}
	}
	return v, true
}
