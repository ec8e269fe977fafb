package registry

import (
	"context"
	"sync"
)

// What is small costs a round trip, what is large costs bandwidth. Pushes and pulls over a
// round trip of 50 ms gain up to 16 small blobs and up to 4 large ones at a time, not more.
const (
	slots       = 16
	largeWeight = 4
	smallSize   = 4 << 20
)

// Parallel calls f for 0 to n-1: jobs at a time, or with jobs 0 as many as is good for
// transfers of these sizes. A nil size means that all are small. The first error cancels the
// context of the other calls; Parallel returns it when all have ended.
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
