package exchange

import (
	"fmt"
	"path"
	"runtime"
	"strings"
)

// PanicText says what a handler panicked with, and in which functions it was then, the innermost
// first. It is for the function that recovers.
func PanicText(p any) string {
	const few = 5
	var where []string
	callers := make([]uintptr, 64)
	frames := runtime.CallersFrames(callers[:runtime.Callers(1, callers)])
	panicking := false
	for len(where) < few {
		frame, more := frames.Next()
		inRuntime := strings.HasPrefix(frame.Function, "runtime.")
		if panicking && !inRuntime {
			where = append(where, fmt.Sprintf("%s:%d", path.Base(frame.Function), frame.Line))
		}
		panicking = panicking || frame.Function == "runtime.gopanic"
		if !more {
			break
		}
	}

	return fmt.Sprintf("panic: %v in %s", p, strings.Join(where, ", "))
}
