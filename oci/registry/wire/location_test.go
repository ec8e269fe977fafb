package wire

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestParseRange(t *testing.T) {
	for _, c := range []struct {
		in        string
		n         int64
		ambiguous bool
		ok        bool
	}{
		{"0-99", 100, false, true}, {"bytes=0-99", 100, false, true}, {"bytes 0-99", 100, false, true},
		{"0-0", 1, true, true}, {"0--1", 0, false, true}, {" 0-1 ", 2, false, true},
		{"", 0, false, false}, {"5-9", 0, false, false}, {"0", 0, false, false}, {"0-", 0, false, false}, {"-1", 0, false, false},
		{"0--2", 0, false, false}, {"0-9223372036854775807", 0, false, false}, {"0-99999999999999999999", 0, false, false},
		{"0-+1", 0, false, false}, {"a-b", 0, false, false}, {"0-1/2", 0, false, false}, {"0-1-2", 0, false, false},
	} {
		n, ambiguous, ok := ParseRange(c.in)
		if n != c.n || ambiguous != c.ambiguous || ok != c.ok {
			t.Errorf("parseRange(%q) = %d, %t, %t, want %d, %t, %t", c.in, n, ambiguous, ok, c.n, c.ambiguous, c.ok)
		}
	}
}

func FuzzParseRange(f *testing.F) {
	f.Add("0-1")
	f.Add("bytes=0--1")
	f.Fuzz(func(t *testing.T, s string) {
		if n, _, ok := ParseRange(s); n < 0 || n > 0 && !ok {
			t.Errorf("parseRange(%q) = %d, %t", s, n, ok)
		}
		if start, size, ok := ParseContentRange(s); ok && (start < 0 || size >= 0 && size <= start) {
			t.Errorf("ParseContentRange(%q) = %d, %d", s, start, size)
		}
	})
}

func TestScopes(t *testing.T) {
	list := MergeScopes([]Scope{PushScope("a")}, ParseScopes("repository:a:push,pull repository:b:pull registry::pull")...)
	var got []string
	for _, s := range list {
		got = append(got, s.String())
	}
	if want := "repository:a:pull,push repository:b:pull registry::pull"; strings.Join(got, " ") != want {
		t.Errorf("merged = %s, want %s", got, want)
	}
	if !Covers(list, []Scope{{"repository:a", []string{"push", "pull"}}}) || Covers(list, []Scope{DeleteScope("a")}) || Covers(list, []Scope{PullScope("c")}) {
		t.Error("covers is wrong")
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		name, value string
		want        time.Duration
	}{
		{"Retry-After", "1", time.Second}, {"Retry-After", "1800000030", 30 * time.Second},
		{"Retry-After", now.Add(5 * time.Second).UTC().Format(http.TimeFormat), 5 * time.Second},
		{"Ratelimit-Reset", "2", 2 * time.Second}, {"Retry-After", "soon", 0}, {"Retry-After", "-5", 0}, {"X", "1", 0},
	} {
		if got := retryAfter(http.Header{c.name: {c.value}}, now); got != c.want {
			t.Errorf("retryAfter(%s: %s) = %s, want %s", c.name, c.value, got, c.want)
		}
	}
}

func TestParseContentRange(t *testing.T) {
	for in, want := range map[string][2]int64{
		"bytes 5-9/10": {5, 10}, "5-9/10": {5, 10}, "bytes 0-0/*": {0, -1}, "bytes 5-9": {5, -1},
	} {
		if start, size, ok := ParseContentRange(in); !ok || start != want[0] || size != want[1] {
			t.Errorf("ParseContentRange(%q) = %d, %d, %t", in, start, size, ok)
		}
	}
	for _, in := range []string{"", "bytes */10", "bytes 9-5/10", "bytes -5/10"} {
		if _, _, ok := ParseContentRange(in); ok {
			t.Errorf("ParseContentRange(%q) is ok", in)
		}
	}
}
