package recipe

import (
	"math/rand/v2"
	"testing"
)

// What a matcher finds depends on nothing but what it was begun with and told since, also at places before
// those that it has entered, to which a wrong prediction leads back.
func TestMatchersForget(t *testing.T) {
	for _, st := range allStyles() {
		for seed := range uint64(2) {
			r := rand.New(rand.NewPCG(seed, 5))
			data, other := mixed(90_000), dataForChains(r, 60_000)
			used, fresh := st.newMatcher(), st.newMatcher()
			used.begin(other, 0, 10_000, len(other), 0)
			for pos, n := 10_000, 1; n > 0; pos += n {
				pos, n, _ = used.next(pos)
			}

			start := 20_000 + r.IntN(30_000)
			history := start - r.IntN(20_000)
			for _, m := range []matcher{used, fresh} {
				m.begin(data, history, start, len(data), history)
			}
			for pos, back := start, 0; ; {
				at, n, dist := used.next(pos)
				if a, k, d := fresh.next(pos); a != at || k != n || d != dist {
					t.Fatalf("%s, seed %d: at %d a match of %d bytes at a distance of %d, by a fresh one at %d %d, %d", st, seed, at, n, dist, a, k, d)
				}
				if n == 0 {
					break
				}
				if at < pos || at+n > len(data) || dist > at {
					t.Fatalf("%s, seed %d: from %d, at %d a match of %d bytes at a distance of %d", st, seed, pos, at, n, dist)
				}

				if pos = at + n; back < 8 && r.IntN(100) == 0 {
					back++
					pos = r.IntN(pos)
					used.follow(pos, 1, false)
					fresh.follow(pos, 1, false)
					pos++
				}
			}
		}
	}
}
