package registry

import (
	"cmp"
	"context"
	"sync"
)

// A small blob costs round trips, a large one bandwidth. Over a round trip of 50 ms, small ones get faster
// with up to 16 at a time, and 4 large ones fill a line. The two kinds do not wait for one another, so that
// the round trips of small ones pass while large ones move.
const (
	slots      = 16
	largeSlots = 4 // of these, at most
	smallSize  = 4 << 20
)

// Slots say how many calls run at a time. The zero value is good for small transfers.
type Slots struct {
	Jobs  int             // how many the user wants; 0 is as many as is good for transfers of these sizes
	Size  func(int) int64 // of a transfer, in bytes; nil means that all are small
	Large int             // large ones at a time without Jobs; 0 is 4
}

// Parallel calls f for 0 to n-1, begun in that order, as many at a time as s says. Without s.Jobs small and
// large transfers are begun each in their order. The first error cancels the context of the other calls,
// and no more begin. Parallel returns that error when all calls have ended.
func Parallel(ctx context.Context, n int, s Slots, f func(context.Context, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	// The number that a user sets is for all of them together.
	var small, large []int
	for i := range n {
		if s.Jobs <= 0 && s.Size != nil && s.Size(i) > smallSize {
			large = append(large, i)
		} else {
			small = append(small, i)
		}
	}

	// Small ones get what the large ones leave of the connections.
	many := min(len(large), cmp.Or(s.Large, largeSlots))
	most := s.Jobs
	if most <= 0 {
		most = slots - many
	}

	call := func(i int) {
		if err := f(ctx, i); err != nil {
			cancel(err) // only the first one counts
		}
	}

	var wg sync.WaitGroup
	wg.Go(func() { lane(ctx, many, large, call) })
	wg.Go(func() { lane(ctx, most, small, call) })
	wg.Wait()
	return context.Cause(ctx)
}

// lane calls f for all of list, begun in that order, most of them at a time, until ctx ends.
func lane(ctx context.Context, most int, list []int, f func(int)) {
	free := make(chan struct{}, most)
	var wg sync.WaitGroup
	for _, i := range list {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			f(i)
			<-free
		})
	}

	wg.Wait()
}
