package disk

import (
	"context"
	"io/fs"
	"os"
	"time"
)

// Open opens a file as [os.OpenFile] does. A pipe or a device may wait for whoever is at its other end:
// opening it, reading it and writing it end with the context.
func Open(ctx context.Context, name string, flag int, mode fs.FileMode) (*os.File, error) {
	info, err := os.Stat(name)
	if err != nil || info.Mode()&(fs.ModeNamedPipe|fs.ModeDevice) == 0 {
		return os.OpenFile(name, flag, mode)
	}

	// Opening a pipe waits for its other end and cannot be stopped, so it is left to a goroutine.
	type opened struct {
		f   *os.File
		err error
	}
	result := make(chan opened, 1)
	go func() {
		f, err := os.OpenFile(name, flag, mode)
		result <- opened{f, err}
	}()

	select {
	case <-ctx.Done(): // the goroutine ends with the process
		return nil, context.Cause(ctx)
	case o := <-result:
		if o.err == nil {
			context.AfterFunc(ctx, func() { o.f.SetDeadline(time.Unix(1, 0)) })
		}
		return o.f, o.err
	}
}
