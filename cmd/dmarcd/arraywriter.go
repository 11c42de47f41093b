package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// An arrayWriter writes a JSON object that begins with an array, an element at
// a time, so that it may be of any length; or plain lines. It keeps the first
// error.
type arrayWriter struct {
	w   io.Writer
	n   int
	err error
}

func (a *arrayWriter) write(text []byte) {
	if a.err == nil {
		_, a.err = a.w.Write(text)
	}
}

// line writes a line for people.
func (a *arrayWriter) line(format string, args ...any) {
	a.write([]byte(inline(fmt.Sprintf(format, args...)) + "\n"))
}

// begin writes the start of the object, up to the array.
func (a *arrayWriter) begin(start string) { a.write([]byte(start + "[")) }

// add writes an element.
func (a *arrayWriter) add(element any) {
	text, err := json.Marshal(element)
	if err != nil && a.err == nil {
		a.err = err
	}
	if a.n++; a.n > 1 {
		text = append([]byte(",\n"), text...)
	}
	a.write(text)
}

// end writes the end of the array, and the fields of an object after it.
func (a *arrayWriter) end(fields any) {
	text, err := json.Marshal(fields)
	if err != nil && a.err == nil {
		a.err = err
	}
	text = bytes.TrimPrefix(text, []byte("{"))
	a.write(append(append([]byte("],"), text...), '\n'))
}
