package oci

import (
	"errors"
	"io/fs"
	"os"
)

// Pathless strips the operation and the path that package os puts around an error: the layers above
// say them in their own words.
func Pathless(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	if le, ok := errors.AsType[*os.LinkError](err); ok {
		return le.Err
	}
	return err
}
