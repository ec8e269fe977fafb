package operands

import "testing"

// Each place has one line in the table, and is told in words.
func TestEachPlaceIsInTheTable(t *testing.T) {
	lines := map[Place]int{}
	for _, k := range kinds() {
		lines[k.at]++
		if k.is == "" || k.said == nil || k.found == nil || k.open == nil || k.target == nil {
			t.Errorf("place %d: a field is missing", k.at)
		}
	}
	for at := range Place(len(lines)) {
		if lines[at] != 1 || at.Is() == "" {
			t.Errorf("place %d has %d lines and is called %q", at, lines[at], at.Is())
		}
	}
	if got := Place(len(lines)).Is(); got != "" {
		t.Errorf("what is no place is called %q", got)
	}
}
