package main

import "strings"

// didYouMean returns a question that names the nearest of some words, or ""
// if none is near.
func didYouMean(word string, words []string) string {
	if best := nearest(word, words); best != "" {
		return "; did you mean " + best + "?"
	}
	return ""
}

// nearest returns the word that takes the fewest edits, or "" if all of them
// are so far away that nobody can have meant them.
func nearest(word string, words []string) string {
	best, least := "", max(len(word)/3, 1)+1
	for _, w := range words {
		if d := distance(strings.ToLower(word), strings.ToLower(w)); d < least {
			best, least = w, d
		}
	}
	return best
}

// distance counts the letters that must be changed, added, removed or swapped
// with their neighbour to turn one word into another.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	var before, last, row [65]int
	for j := range len(b) + 1 {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			d := last[j]
			if a[i] != b[j] {
				d++
			}
			d = min(d, row[j]+1, last[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				d = min(d, before[j-1]+1)
			}
			row[j+1] = d
		}
		before, last = last, row
	}
	return last[len(b)]
}
