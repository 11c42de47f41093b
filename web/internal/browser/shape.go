package browser

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

var number = regexp.MustCompile(`^[0-9]+([-.][0-9]+)*$`)

// Shape is what pages of one kind have in common: their path without numbers,
// and what their addresses tell beside a period, a filter and a place in a list.
func Shape(u *url.URL) string {
	parts := strings.Split(u.Path, "/")
	for i := range parts {
		if number.MatchString(parts[i]) {
			parts[i] = "#"
		}
	}
	var told []string
	for name := range u.Query() {
		if !slices.Contains([]string{"days", "from", "to", "after", "sort", "outcome", "class", "reporter", "by", "result", "mailbox", "group", "label"}, name) {
			told = append(told, name)
		}
	}
	slices.Sort(told)
	return strings.Join(parts, "/") + "?" + strings.Join(told, "&")
}
