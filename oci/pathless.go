package oci

import (
	"errors"
	"io/fs"
	"os"
)

// Pathless strips the operation and the path that package os puts around an error: the layers above
// say them in their own words.
func Pathless(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	var le *os.LinkError
	if errors.As(err, &le) {
		return le.Err
	}
	return err
}
