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
	for _, c := range []struct {
		name    string
		jobs, n int
		size    func(int) int64
		most    int
	}{
		{"small ones", 0, 40, nil, 16},
		{"large ones", 0, 9, large, 4},
		{"a large one and small ones", 0, 20, first, 13},
		{"few", 0, 3, large, 3},
		{"none", 0, 0, nil, 0},
		{"the user's number", 6, 40, large, 6},
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
				err := registry.Parallel(t.Context(), c.jobs, c.n, c.size, func(context.Context, int) error {
					add(1)
					time.Sleep(time.Second) // of a clock that waits for all
					add(-1)
					return nil
				})
				if err != nil || done != c.n || most != c.most {
					t.Errorf("Parallel(%d, %d) = %v: %d calls, %d at a time, want %d", c.jobs, c.n, err, done, most, c.most)
				}
			})
		})
	}
}

func TestParallelStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		var calls atomic.Int32
		err := registry.Parallel(t.Context(), 2, 10, nil, func(ctx context.Context, i int) error {
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
