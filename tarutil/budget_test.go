package tarutil

import (
	"errors"
	"strings"
	"testing"
)

// The error names the limit of this budget, whatever was taken and given back.
func TestBudget(t *testing.T) {
	for n, want := range map[int]string{0: "over 201326592 bytes", 1000: "over 1000 bytes"} {
		b := NewBudget(n)
		if err := b.Take(900); err != nil {
			t.Error(err)
		}

		b.Give(400)
		if err := b.Take(DefaultMaxMemory); !errors.Is(err, ErrTooMany) || !strings.Contains(err.Error(), want) {
			t.Errorf("NewBudget(%d): %v, want %s", n, err, want)
		}
	}
}
