package inorder

import (
	"errors"
	"runtime"
	"slices"
	"testing"
)

// Jobs that end in the opposite order are finished in that of their start, and as many stay as are to be
// kept.
func TestOrder(t *testing.T) {
	const jobs = 4
	var finished []int
	q := New[int](jobs, func(n int) error { finished = append(finished, n); return nil })
	ended := make([]chan struct{}, jobs+1)
	for n := range ended {
		ended[n] = make(chan struct{})
	}
	close(ended[jobs])

	for n := range jobs {
		q.Start(q.Take(), n, func(*int) error {
			<-ended[n+1]
			close(ended[n])
			return nil
		})
	}
	if err := q.Finish(1); err != nil || !slices.Equal(finished, []int{0, 1, 2}) {
		t.Fatalf("Finish(1) = %v, finished %v", err, finished)
	}
	if err := q.Finish(0); err != nil || !slices.Equal(finished, []int{0, 1, 2, 3}) {
		t.Fatalf("Finish(0) = %v, finished %v", err, finished)
	}
}

// A tool is with one job at a time, and the next job has what the one before has made of it.
func TestTools(t *testing.T) {
	q := New[int](1, func(int) error { return nil })
	for n := range 5 {
		q.Start(q.Take(), n, func(tool *int) error {
			if *tool != n {
				t.Errorf("job %d has the tool of job %d", n, *tool)
			}
			*tool++
			return nil
		})
	}
	tool := q.Take()
	if tool != 5 {
		t.Errorf("five jobs made %d of the tool", tool)
	}
	q.Return(tool)
	if again := q.Take(); again != tool {
		t.Errorf("returned %d, took %d", tool, again)
	}
}

// FinishDone waits for no job, and leaves those that are done behind one that is not.
func TestFinishDone(t *testing.T) {
	var finished []int
	q := New[int](3, func(n int) error { finished = append(finished, n); return nil })
	end := []chan struct{}{make(chan struct{}), make(chan struct{}), make(chan struct{})}
	for n := range end {
		q.Start(q.Take(), n, func(*int) error { <-end[n]; return nil })
	}

	close(end[2])
	q.Take() // of the job that is done
	if err := q.FinishDone(); err != nil || len(finished) > 0 {
		t.Errorf("with the oldest under way FinishDone = %v, finished %v", err, finished)
	}

	close(end[0])
	for len(finished) == 0 { // a job is done a little after its tool is free
		if err := q.FinishDone(); err != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
	if !slices.Equal(finished, []int{0}) {
		t.Errorf("finished %v, want the oldest alone", finished)
	}

	close(end[1])
	if err := q.Finish(0); err != nil || !slices.Equal(finished, []int{0, 1, 2}) {
		t.Errorf("Finish = %v, finished %v", err, finished)
	}
}

// The first error ends it: of a job, or of finishing one. Wait then waits for the others.
func TestErrors(t *testing.T) {
	bad := errors.New("bad")
	for _, where := range []string{"job", "finish"} {
		var finished []int
		q := New[int](3, func(n int) error {
			finished = append(finished, n)
			if where == "finish" && n == 1 {
				return bad
			}
			return nil
		})
		release := make(chan struct{})
		last := false
		for n := range 3 {
			q.Start(q.Take(), n, func(*int) error {
				if where == "job" && n == 1 {
					return bad
				}
				if n == 2 {
					<-release
					last = true
				}
				return nil
			})
		}

		want := []int{0}
		if where == "finish" {
			want = []int{0, 1}
		}
		if err := q.Finish(0); err != bad || !slices.Equal(finished, want) {
			t.Errorf("%s: Finish = %v, finished %v, want %v", where, err, finished, want)
		}
		close(release)
		if q.Wait(); !last {
			t.Errorf("%s: Wait did not wait", where)
		}
		if err := q.Finish(0); err != nil || !slices.Equal(finished, want) {
			t.Errorf("%s: after Wait: %v, finished %v", where, err, finished)
		}
	}
}
