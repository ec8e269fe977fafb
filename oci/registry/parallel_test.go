package registry_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ocikit/oci/registry"
)

func TestParallel(t *testing.T) {
	large := func(int) int64 { return 1 << 30 }
	first := func(i int) int64 { return int64(max(1-i, 0)) << 30 }
	half := func(i int) int64 { return int64(max(20-i, 0)) << 30 }
	for _, c := range []struct {
		name  string
		n     int
		slots registry.Slots
		most  int
	}{
		{"small ones", 40, registry.Slots{}, 16},
		{"large ones", 20, registry.Slots{Size: large}, 4},
		{"more large ones", 20, registry.Slots{Size: large, Large: 7}, 7},
		{"more large ones than the user's number", 20, registry.Slots{Jobs: 3, Size: large, Large: 7}, 3},
		{"a large one and small ones", 20, registry.Slots{Size: first}, 16},
		{"large ones before small ones", 40, registry.Slots{Size: half}, 16},
		{"few", 3, registry.Slots{Size: large}, 3},
		{"none", 0, registry.Slots{}, 0},
		{"the user's number", 40, registry.Slots{Jobs: 6, Size: large}, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var running, most, done int
				add := func(n int) {
					mu.Lock()
					defer mu.Unlock()
					running += n
					most = max(most, running)
					done += max(-n, 0)
				}
				err := registry.Parallel(t.Context(), c.n, c.slots, func(context.Context, int) error {
					add(1)
					time.Sleep(time.Second) // of a clock that waits for all
					add(-1)
					return nil
				})
				if err != nil || done != c.n || most != c.most {
					t.Errorf("Parallel(%d) = %v: %d calls, %d at a time, want %d", c.n, err, done, most, c.most)
				}
			})
		})
	}
}

func TestParallelStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		var calls atomic.Int32
		err := registry.Parallel(t.Context(), 10, registry.Slots{Jobs: 2}, func(ctx context.Context, i int) error {
			calls.Add(1)
			if i == 1 {
				return broken
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if err != broken || calls.Load() != 2 {
			t.Errorf("Parallel() = %v after %d calls, want the first error after 2", err, calls.Load())
		}
	})
}
