package deflate

import (
	"slices"
	"testing"
)

// TestCodes compares symbols and extra bits with the tables of RFC 1951, section 3.2.5.
func TestCodes(t *testing.T) {
	lengths := []int{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	for n := MinMatch; n <= MaxMatch; n++ {
		sym, extra, value := LengthCode(n)
		base, more := LengthBase(sym)
		if base != lengths[sym-257] || base+value != n || more != extra || value>>extra != 0 {
			t.Errorf("length %d has symbol %d, from %d on, with %d and %d bits that say %d", n, sym, base, extra, more, value)
		}
	}
	if sym, extra, value := LengthCode(MaxMatch + 1); sym != 284 || lengths[sym-257]+value != MaxMatch || value>>extra != 0 {
		t.Errorf("the other way to write %d is %d with %d", MaxMatch, sym, value)
	}

	dists := []int{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	for d := 1; d <= 32<<10; d++ {
		sym, extra, value := DistCode(d)
		base, more := DistBase(sym)
		if base != dists[sym] || base+value != d || more != extra || value>>extra != 0 {
			t.Fatalf("distance %d has symbol %d, from %d on, with %d and %d bits that say %d", d, sym, base, extra, more, value)
		}
	}
}

// TestAssignCodes has the example of section 3.2.2, whose codes are written with their first bit first.
func TestAssignCodes(t *testing.T) {
	codes := make([]uint16, 9)
	AssignCodes(codes, []uint8{3, 3, 3, 3, 3, 2, 4, 4, 0})
	if want := []uint16{0b010, 0b110, 0b001, 0b101, 0b011, 0b00, 0b0111, 0b1111, 0}; !slices.Equal(codes, want) {
		t.Errorf("AssignCodes = %b, want %b", codes, want)
	}
}

// TestAppendRuns describes runs of every number of zeros and of others, up to what takes two symbols.
func TestAppendRuns(t *testing.T) {
	for n := range 2*138 + 4 {
		for _, v := range []uint8{0, 7} {
			lengths := append(slices.Repeat([]uint8{v}, n), 1)
			runs := AppendRuns([]uint16{99}, lengths)
			var got []uint8
			for _, r := range runs[1:] {
				switch sym, more := r&0xff, int(r>>8); {
				case sym < 16:
					got = append(got, uint8(sym))
				case more>>RunBits(int(sym)) != 0:
					t.Fatalf("%d of %d: symbol %d with %d", n, v, sym, more)
				case sym == 16:
					got = append(got, slices.Repeat(got[len(got)-1:], 3+more)...)
				case sym == 17:
					got = append(got, make([]uint8, 3+more)...)
				case sym == 18:
					got = append(got, make([]uint8, 11+more)...)
				}
			}
			if most := 6 + n/6; !slices.Equal(got, lengths) || v == 0 && len(runs) > 6 || len(runs) > most {
				t.Errorf("%d of %d: %d symbols, that say %v", n, v, len(runs)-1, got)
			}
		}
	}
}
