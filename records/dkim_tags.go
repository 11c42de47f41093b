package records

import (
	"fmt"
	"strings"
)

// A tagValue is one tag of a tag list.
type tagValue struct {
	name, value string
	at          int // of its name in the text, from 1
}

// A tagError says what is wrong in a text, and where.
type tagError struct {
	at  int // from 1
	why string
}

// maxTags are more than any record has a use for.
const maxTags = 100

// parseTagList reads a tag list (RFC 6376, section 3.2). White space around
// names and values is not part of them. It returns every tag that can be read,
// one that is given twice only the first time, and everything that makes the
// text no tag list.
func parseTagList(text string) (tags []tagValue, errs []tagError) {
	parts := strings.Split(text, ";")
	if last := len(parts) - 1; last > 0 && strings.Trim(parts[last], foldingSpace) == "" {
		parts = parts[:last]
	}
	at := 1
	for i, part := range parts {
		if i == maxTags {
			return tags, append(errs, tagError{at, "there are too many tags"})
		}
		start := at
		at += len(part) + 1
		start += len(part) - len(strings.TrimLeft(part, foldingSpace))
		name, value, ok := strings.Cut(part, "=")
		name, value = strings.Trim(name, foldingSpace), strings.Trim(value, foldingSpace)
		switch {
		case name == "" && !ok:
			errs = append(errs, tagError{start, "nothing stands between two semicolons"})
			continue
		case !ok:
			errs = append(errs, tagError{start, fmt.Sprintf("%q has no =", excerpt(name))})
			continue
		case !isDKIMTag(name):
			errs = append(errs, tagError{start, fmt.Sprintf("%q is not a name of a tag", excerpt(name))})
			continue
		}
		if strings.ContainsFunc(value, func(r rune) bool { return (r < '!' || r > '~') && !strings.ContainsRune(foldingSpace, r) }) {
			errs = append(errs, tagError{start, fmt.Sprintf("the value of %s holds a character that is not allowed", name)})
		}
		if _, twice := tagOf(tags, name); twice {
			errs = append(errs, tagError{start, fmt.Sprintf("the tag %s stands twice", name)})
			continue
		}
		tags = append(tags, tagValue{name, value, start})
	}
	return tags, errs
}

// foldingSpace are folding white space.
const foldingSpace = " \t\r\n"

// tagOf returns the value of a tag. Names are compared with case.
func tagOf(tags []tagValue, name string) (value string, ok bool) {
	for _, t := range tags {
		if t.name == name {
			return t.value, true
		}
	}
	return "", false
}

func isDKIMTag(s string) bool {
	for i, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return s != ""
}
