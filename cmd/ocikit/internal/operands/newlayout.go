package operands

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/oci"
	"ocikit/oci/layout"
)

// CheckNewDir returns a usage error if dir is not there and has the name of an archive: an archive
// was meant, not a directory.
func CheckNewDir(dir string) error {
	if !isArchiveName(dir) || cli.Exists(dir) {
		return nil
	}
	err := cli.Usagef("%q: want a layout, which is a directory; the name is that of an archive", dir)
	return cli.WithHint(err, "`ocikit save IMAGE -o FILE` makes an archive of what is in a layout")
}

// LayoutIfThere opens the layout in dir for a command that may make it later. One that is still to be
// made is nil, without an error. The caller closes the layout.
func LayoutIfThere(dir string) (*layout.Layout, error) {
	if err := CheckNewDir(dir); err != nil {
		return nil, err
	}

	l, err := layout.Open(dir)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, fs.ErrNotExist), IsEmptyDir(dir):
		return nil, nil
	}

	// OpenDir fails the same way, with the hint that fits.
	_, err = OpenDir(dir)
	return nil, err
}

// IfThere runs plan on the layout in dir, or on nil if it is still to be made.
func IfThere(dir string, plan func(*layout.Layout) error) error {
	l, err := LayoutIfThere(dir)
	if err != nil {
		return err
	}
	if l != nil {
		defer l.Close()
	}
	return plan(l)
}

// TargetLayout opens a layout, which is made if need be. If it was made by this call, and still
// names nothing and waits for nothing, undo removes it. A dry run makes none: l is nil then.
func TargetLayout(dir string, dryRun bool) (l *layout.Layout, undo func(), err error) {
	if dryRun {
		l, err = LayoutIfThere(dir)
		return l, func() {}, err
	}

	if err := CheckNewDir(dir); err != nil {
		return nil, nil, err
	}

	_, statErr := os.Stat(dir)
	made := errors.Is(statErr, fs.ErrNotExist)
	if l, err = layout.Init(dir); err != nil {
		return nil, nil, err
	}

	return l, func() {
		if made && isUnused(l) {
			os.RemoveAll(dir)
		}
	}, nil
}

// isUnused reports whether a layout names nothing and waits for nothing.
func isUnused(l *layout.Layout) bool {
	x, err := l.Index()
	w, waitErr := l.Waiting()
	return err == nil && waitErr == nil && len(x.Manifests) == 0 && len(w.Images) == 0
}

// InLayout opens a layout and runs fill on it. A layout that is not there is made beside its
// place, and gets its name when fill has succeeded.
func InLayout(dir string, fill func(*layout.Layout) error) error {
	l, err := LayoutIfThere(dir)
	if err != nil {
		return err
	}

	if l != nil {
		defer l.Close()
		return fill(l)
	}

	var random [6]byte
	rand.Read(random[:])
	dir = filepath.Clean(dir)
	tmp := filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".ocikit-"+hex.EncodeToString(random[:]))
	if l, err = layout.Init(tmp); err != nil {
		return err
	}

	err = fill(l)
	if err = errors.Join(err, l.Close()); err == nil {
		err = publishDir(tmp, dir)
	}

	if err != nil {
		os.RemoveAll(tmp)
	}

	return err
}

// IsEmptyDir reports whether dir is a directory without anything in it.
func IsEmptyDir(dir string) bool {
	names, err := os.ReadDir(dir)
	return err == nil && len(names) == 0
}

// publishDir gives a directory its name, durably where the system can.
func publishDir(tmp, dir string) error {
	// os.Rename replaces no directory, not even an empty one.
	if IsEmptyDir(dir) {
		os.Remove(dir)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("%q: %w", dir, oci.Pathless(err))
	}
	oci.SyncDir(filepath.Dir(dir))
	return nil
}
