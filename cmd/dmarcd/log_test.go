package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// hostile is what a report may hold to mislead whoever reads a log.
const hostile = "x\n2026-01-01 level=ERROR msg=forged \x1b[2J\r\u202e\u009b31m\x00\x7f\xff"

func TestLogLinesStayLines(t *testing.T) {
	for _, format := range []string{"text", "auto", "json"} {
		var b bytes.Buffer
		log := newLogger(&b, &config{LogLevel: "info", LogFormat: format})
		log.Debug("too little")
		log.Info(hostile, hostile, hostile, "error", errors.New(hostile), "list", []string{hostile})
		text := b.String()
		if strings.Count(text, "\n") != 1 || strings.ContainsAny(text, "\x1b\r\x00") {
			t.Errorf("%s: %q", format, text)
		}
		if isJSON := json.Valid(b.Bytes()); isJSON != (format != "text") {
			t.Errorf("%s: JSON is %v", format, isJSON)
		}
		if format == "text" && strings.ContainsAny(text, "\u202e\u009b\x7f") {
			t.Errorf("%q", text)
		}
	}
}

func TestTextThatIsPrintedStaysInItsLine(t *testing.T) {
	want := `x\n2026-01-01 level=ERROR msg=forged \x1b[2J\r\u202e\u009b31m\x00\x7f` + "\ufffd"
	if got := inline(hostile); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := inline("Ünïcode 🙂 a\u00a0b"); got != "Ünïcode 🙂 a b" {
		t.Errorf("%q", got)
	}
	if got := printable("a\nb\x1b"); got != "a\nb\\x1b" {
		t.Errorf("%q", got)
	}
}
