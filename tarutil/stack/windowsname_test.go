package stack

import "testing"

// What Windows makes of a name is its own rule; the names of an image are others.
func TestWindowsNames(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, ".profile": true, "a.b.c": true, "com": true, "COM10": true, "nulls": true, "ünï": true, "a b": true,
		"": false, "a:b": false, `a\b`: false, "a?": false, "a\tb": false, "a.": false, "a ": false, "..": false,
		"con": false, "AUX": false, "nul.txt": false, "Com1": false, "lpt9.x.y": false, "COM²": false, "con .txt": false,
	} {
		if got := isWindowsName(name); got != want {
			t.Errorf("isWindowsName(%q) = %t, want %t", name, got, want)
		}
	}
}
