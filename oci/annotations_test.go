package oci

import (
	"fmt"
	"slices"
	"testing"
)

func TestAnnotations(t *testing.T) {
	a := AnnotationsOf(map[string]string{"b": "2", "a": "1", "empty": ""})
	before := slices.Clone(a)
	for _, tt := range []struct {
		name string
		got  Annotations
		want string
	}{
		{"sorted", a, "[{a 1} {b 2} {empty }]"},
		{"set", a.With("ab", "x"), "[{a 1} {ab x} {b 2} {empty }]"},
		{"set anew", a.With("b", "x"), "[{a 1} {b x} {empty }]"},
		{"removed", a.With("b", ""), "[{a 1} {empty }]"},
		{"an empty one removed", a.With("empty", ""), "[{a 1} {b 2}]"},
		{"absent", a.With("c", ""), "[{a 1} {b 2} {empty }]"},
		{"merged", a.Merge(map[string]string{"b": "", "c": "3"}), "[{a 1} {b } {c 3} {empty }]"},
	} {
		if got := fmt.Sprint(tt.got); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if !slices.Equal(a, before) {
			t.Fatalf("%s: a was changed to %v", tt.name, a)
		}
	}

	if left := AnnotationsOf(map[string]string{"a": "1"}).With("a", ""); left != nil {
		t.Errorf("nothing is left, and not nil: %v", left)
	}
	if _, ok := a.Find("empty"); !ok || a.Get("a") != "1" || a.Get("z") != "" {
		t.Errorf("Find and Get of %v", a)
	}

	data, err := Encode(a)
	var back Annotations
	if err == nil {
		err = back.UnmarshalJSON(data)
	}
	if err != nil || string(data) != `{"a":"1","b":"2","empty":""}` || !slices.Equal(a, back) {
		t.Errorf("%s became %v, %v", data, back, err)
	}
}
