package oci

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile writes a file under a temporary name beside it, syncs and renames it. After a crash
// there is the old file or the new one, after an error the old one. If name is a symbolic link, the
// file it leads to is replaced. An error of write is returned as it is.
func WriteFile(name string, mode fs.FileMode, write func(io.Writer) error) (err error) {
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target // the link stays, what it names is replaced
	}

	var random [6]byte
	rand.Read(random[:])
	dir, base := filepath.Split(name)
	tmp := filepath.Join(dir, "."+base+".ocikit-"+hex.EncodeToString(random[:]))
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("%q: %w", name, Pathless(err))
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(tmp)
		}
	}()

	if err := write(f); err != nil {
		return err
	}

	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("%q: %w", name, Pathless(err))
	}

	if err := os.Rename(tmp, name); err != nil {
		return fmt.Errorf("%q: %w", name, Pathless(err))
	}

	SyncDir(filepath.Dir(name))
	return nil
}

// SyncDir makes the names in a directory durable, where the system can. It does not sync the files
// themselves; the caller has done that before naming them.
func SyncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		d.Sync()
		d.Close()
	}
}

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
