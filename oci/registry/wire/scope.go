package wire

import (
	"slices"
	"strings"
)

// A Scope is what a token allows on one resource: "repository:NAME:pull,push".
type Scope struct {
	Resource string // type and name
	Actions  []string
}

// PullScope is the scope of reading a repository.
func PullScope(repo string) Scope { return Scope{"repository:" + repo, []string{"pull"}} }

// PushScope is the scope of writing to a repository, which includes reading: a push asks for what is
// there.
func PushScope(repo string) Scope { return Scope{"repository:" + repo, []string{"pull", "push"}} }

// DeleteScope is the scope of removing from a repository.
func DeleteScope(repo string) Scope {
	return Scope{"repository:" + repo, []string{"pull", "delete"}}
}

// String returns the scope as it stands in a challenge and in a token request.
func (s Scope) String() string { return s.Resource + ":" + strings.Join(s.Actions, ",") }

// ParseScopes reads the scopes of a challenge, split by blanks, and merges those on the same resource.
// A word that is not a scope is left out.
func ParseScopes(s string) []Scope {
	var list []Scope
	for f := range strings.FieldsSeq(s) {
		i := strings.LastIndexByte(f, ':')
		if i < 0 {
			continue
		}
		list = MergeScopes(list, Scope{f[:i], strings.Split(f[i+1:], ",")})
	}
	return list
}

// MergeScopes returns list with the scopes of more, those on the same resource merged. list stays as it
// is. The order of resources is kept, because some token servers look at the first one alone.
func MergeScopes(list []Scope, more ...Scope) []Scope {
	list = slices.Clone(list)
	for _, m := range more {
		i := slices.IndexFunc(list, func(s Scope) bool { return s.Resource == m.Resource })
		if i < 0 {
			list = append(list, Scope{m.Resource, sortedSet(m.Actions)})
			continue
		}
		list[i].Actions = sortedSet(append(slices.Clone(list[i].Actions), m.Actions...))
	}
	return list
}

func sortedSet(words []string) []string {
	words = slices.Clone(words)
	slices.Sort(words)
	return slices.Compact(words)
}

// Covers reports whether list allows every action that want asks for. The action "*" allows all.
func Covers(list, want []Scope) bool {
	for _, w := range want {
		i := slices.IndexFunc(list, func(s Scope) bool { return s.Resource == w.Resource })
		if i < 0 {
			return false
		}
		for _, a := range w.Actions {
			if !slices.Contains(list[i].Actions, a) && !slices.Contains(list[i].Actions, "*") {
				return false
			}
		}
	}
	return true
}
