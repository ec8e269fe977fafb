package source

import (
	"errors"
	"strings"
	"testing"
)

type passing struct{ error }

func (passing) Retryable() bool { return true }

// Of one image its own error is told, of several how many failed and the first; errors.Is finds each.
func TestFailures(t *testing.T) {
	a, b := errors.New("a is bad"), errors.New("b is bad")
	for _, c := range []struct {
		name  string
		total int
		errs  []error
		want  string // "" if nothing failed
	}{
		{"none", 2, []error{nil, nil}, ""},
		{"the only one", 1, []error{a}, "a is bad"},
		{"one of two", 2, []error{nil, a}, "1 of 2 images failed; name: a is bad"},
		{"two of three", 3, []error{b, nil, a}, "2 of 3 images failed; name: b is bad; and 1 more"},
	} {
		f := &Failures{Total: c.total}
		for _, err := range c.errs {
			f.Add("name", err)
		}
		err := f.Err()
		if err == nil {
			if c.want != "" {
				t.Errorf("%s: no error, want %q", c.name, c.want)
			}
			continue
		}
		if err.Error() != c.want {
			t.Errorf("%s: %q, want %q", c.name, err, c.want)
		}
		for _, cause := range c.errs {
			if cause != nil && !errors.Is(err, cause) {
				t.Errorf("%s: %v hides %v", c.name, err, cause)
			}
		}
	}
}

// Work ends early where the next images would only be waited for: behind three that failed in a row
// with what may pass, or behind the first if that was asked for.
func TestHopeless(t *testing.T) {
	const passes, bad, good = 'p', 'b', 'g'
	for _, c := range []struct {
		images string
		fast   bool
		want   bool
	}{
		{"", false, false}, {"", true, false}, {"g", true, false}, {"b", true, true}, {"bg", true, true},
		{"pp", false, false}, {"ppp", false, true}, {"bppp", false, true}, {"gppp", false, true},
		{"ppgp", false, false}, {"bpp", false, false}, {"ppb", false, false}, {"bbb", false, false},
		{"pppg", false, false},
	} {
		f := &Failures{Total: 10, Fast: c.fast}
		for _, image := range c.images {
			f.Add("name", map[rune]error{passes: passing{errors.New("busy")}, bad: errors.New("bad"), good: nil}[image])
		}
		if got := f.Hopeless(); got != c.want {
			t.Errorf("%s, fast %t: Hopeless = %t, want %t", strings.ToUpper(c.images), c.fast, got, c.want)
		}
	}
}
