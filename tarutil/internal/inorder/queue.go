// Package inorder does jobs on several processors at once and finishes them one after the other, in the
// order in which they were started.
//
// A [Queue] has a number of tools, such as a coder with its tables. Each job has one of them while it
// runs, so that there are never more goroutines, and never more memory is taken, than there are tools.
// A Queue is for one goroutine.
package inorder

// A Queue has the jobs of type J that were started and are not finished.
type Queue[T, J any] struct {
	tools  chan T
	jobs   []*job[J]
	finish func(J) error
}

type job[J any] struct {
	what J
	done chan error
}

// New returns a queue with a number of tools, each the zero T, that hands the jobs which are done to
// finish.
func New[T, J any](tools int, finish func(J) error) *Queue[T, J] {
	q := &Queue[T, J]{tools: make(chan T, tools), finish: finish}
	for range tools {
		q.tools <- *new(T)
	}
	return q
}

// Take waits for a tool. It goes to [Queue.Start], or back by [Queue.Return].
func (q *Queue[T, J]) Take() T { return <-q.tools }

// Return gives back a tool that was taken for nothing.
func (q *Queue[T, J]) Return(tool T) { q.tools <- tool }

// Start begins a job in a goroutine. Work may put another tool in the place of the one that it has.
func (q *Queue[T, J]) Start(tool T, j J, work func(tool *T) error) {
	started := &job[J]{j, make(chan error, 1)}
	q.jobs = append(q.jobs, started)
	go func() {
		err := work(&tool)
		q.tools <- tool
		started.done <- err
	}()
}

// FinishDone finishes the oldest jobs as far as they are done, without waiting for any. Its errors are those
// of [Queue.Finish].
func (q *Queue[T, J]) FinishDone() error {
	for len(q.jobs) > 0 && len(q.jobs[0].done) > 0 {
		if err := q.Finish(len(q.jobs) - 1); err != nil {
			return err
		}
	}
	return nil
}

// Finish waits for the oldest jobs and finishes them, until no more than keep are left. It ends with the
// first error of a job or of finish.
func (q *Queue[T, J]) Finish(keep int) error {
	for len(q.jobs) > keep {
		oldest := q.jobs[0]
		q.jobs = q.jobs[1:]
		if err := <-oldest.done; err != nil {
			return err
		}
		if err := q.finish(oldest.what); err != nil {
			return err
		}
	}
	return nil
}

// Wait waits for the jobs that run after an error, and finishes none. What they read may be closed then.
func (q *Queue[T, J]) Wait() {
	for _, j := range q.jobs {
		<-j.done
	}
	q.jobs = nil
}
