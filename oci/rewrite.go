package oci

import (
	"fmt"
	"strings"
)

// A Rewrite puts New in the place of Old where a full name begins with Old, up to the end of one of
// its parts.
type Rewrite struct{ Old, New string }

// Rewrites are all rewrites of a set. If several fit a name, the one with the longest Old counts.
type Rewrites []Rewrite

// ParseRewrites reads pairs of the form OLD=NEW; a slash at the end of either is dropped. One OLD
// with two NEW is an error.
func ParseRewrites(pairs []string) (Rewrites, error) {
	var all Rewrites
	for _, pair := range pairs {
		from, to, ok := strings.Cut(pair, "=")
		from, to = strings.TrimSuffix(from, "/"), strings.TrimSuffix(to, "/")
		if !ok || from == "" || to == "" || strings.Contains(to, "=") {
			return nil, fmt.Errorf("%q: want OLD=NEW, the beginning of full names and what takes its place", pair)
		}

		for _, r := range all {
			if r.Old == from && r.New != to {
				return nil, fmt.Errorf("%q is rewritten to %q and to %q", from, r.New, to)
			}
		}

		all = append(all, Rewrite{from, to})
	}

	return all, nil
}

// Apply returns the name that takes the place of a full name, which may be the same.
func (rs Rewrites) Apply(name string) string {
	best := Rewrite{}
	for _, r := range rs {
		rest, ok := strings.CutPrefix(name, r.Old)
		if ok && len(r.Old) > len(best.Old) && (rest == "" || strings.ContainsAny(rest[:1], "/:@")) {
			best = r
		}
	}
	return best.New + strings.TrimPrefix(name, best.Old)
}
