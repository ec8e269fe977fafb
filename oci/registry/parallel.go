package registry

import (
	"context"
	"sync"
)

// A small blob costs a round trip, a large one bandwidth. Over a round trip of 50 ms, pushes and
// pulls get faster with up to 16 small blobs or 4 large ones at a time, and no faster with more.
const (
	slots       = 16
	largeWeight = 4
	smallSize   = 4 << 20
)

// Parallel calls f for 0 to n-1, begun in that order, up to jobs of them at a time. With jobs 0 it runs as
// many as is good for transfers of these sizes in bytes; a nil size means that all are small. The
// first error cancels the context of the other calls, and no more begin. Parallel returns that error
// when all calls have ended.
func Parallel(ctx context.Context, jobs, n int, size func(int) int64, f func(context.Context, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	weight := func(int) int { return 1 }
	if jobs <= 0 {
		jobs = slots
		weight = func(i int) int {
			if size == nil || size(i) <= smallSize {
				return 1
			}
			return largeWeight
		}
	}

	free := make(chan struct{}, jobs)
	var wg sync.WaitGroup
	for i := range n {
		// Only this goroutine takes slots, so a large transfer that needs several cannot hold
		// some while another holds the rest.
		for range weight(i) {
			select {
			case free <- struct{}{}:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			if err := f(ctx, i); err != nil {
				cancel(err) // only the first one counts
			}
			for range weight(i) {
				<-free
			}
		})
	}

	wg.Wait()
	return context.Cause(ctx)
}
