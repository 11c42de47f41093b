package api

import (
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// orNullEverywhere lets the document say that an object may be null where it is
// a pointer in ours; huma says so of nothing but values and lists.
func orNullEverywhere(r huma.Registry) {
	for name, schema := range r.Map() {
		if t := r.TypeFromRef("#/components/schemas/" + name); t != nil && t.Kind() == reflect.Struct {
			objectsOrNull(t, schema)
		}
	}
}

func objectsOrNull(t reflect.Type, schema *huma.Schema) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			objectsOrNull(f.Type, schema)
		case f.Type.Kind() != reflect.Pointer || strings.Contains(options, "omitempty"):
		case schema.Properties[name] != nil && schema.Properties[name].Ref != "":
			p := schema.Properties[name]
			schema.Properties[name] = &huma.Schema{Description: p.Description, OneOf: []*huma.Schema{{Ref: p.Ref}, {Type: "null"}}}
		}
	}
}
