package disk

import (
	"errors"
	"io/fs"
	"os"
)

// A TempFile is gone when it is closed, and with the process, however that ends, where the system
// lets a file that is open give up its name.
type TempFile struct {
	*os.File
	named bool // it still has its name; one that it gave up may be that of another file by now
}

// CreateTemp makes a file as [os.CreateTemp] does.
func CreateTemp(dir, pattern string) (*TempFile, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, err
	}
	return &TempFile{File: f, named: os.Remove(f.Name()) != nil}, nil
}

// Close closes the file, and removes it if it still has its name.
func (f *TempFile) Close() error {
	err := f.File.Close()
	if !f.named {
		return err
	}
	if removeErr := os.Remove(f.Name()); !errors.Is(removeErr, fs.ErrNotExist) {
		err = errors.Join(err, removeErr)
	}
	return err
}
