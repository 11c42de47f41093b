package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// hidden stands where a secret would.
const hidden = "(hidden)"

// A secret is a text that no output shows: every way of printing it gives
// "(hidden)", or nothing for an empty one. Only reveal gives the text itself.
// It lies behind a pointer, because package fmt does not ask the methods of
// what is nested in a value that its verb does not fit.
type secret struct{ text *string }

func newSecret(text string) secret {
	if text == "" {
		return secret{}
	}
	return secret{&text}
}

func (s secret) empty() bool { return s.text == nil }

func (s secret) reveal() string {
	if s.empty() {
		return ""
	}
	return *s.text
}

func (s secret) String() string {
	if s.empty() {
		return ""
	}
	return hidden
}

// Format covers the verbs that would pass String by, such as %d.
func (s secret) Format(f fmt.State, _ rune)   { io.WriteString(f, s.String()) }
func (s secret) GoString() string             { return s.String() }
func (s secret) LogValue() slog.Value         { return slog.StringValue(s.String()) }
func (s secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// maxSecretFile is far more than any password or URL needs.
const maxSecretFile = 64 << 10

// readSecret reads a secret from a file: its text without the line end.
func readSecret(path string) (secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return secret{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return secret{}, err
	}
	s := strings.TrimRight(string(text), "\r\n")
	switch {
	case len(text) > maxSecretFile:
		return secret{}, fmt.Errorf("%s: more than %d bytes; a secret is shorter", path, maxSecretFile)
	case s == "":
		return secret{}, fmt.Errorf("%s: the file is empty", path)
	}
	return newSecret(s), nil
}
