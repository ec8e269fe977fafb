//go:build !linux

package layout

import (
	"errors"
	"os"
)

// cloneFile says that it cannot: there is no call for it here.
func cloneFile(*os.File, *os.File) error { return errors.ErrUnsupported }
