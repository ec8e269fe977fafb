//go:build !linux

package disk

import (
	"errors"
	"os"
)

// Clone says that it cannot: there is no call for it here.
func Clone(*os.File, *os.File) error { return errors.ErrUnsupported }
