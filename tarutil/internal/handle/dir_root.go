package handle

import (
	"archive/tar"
	"io/fs"
	"os"
	"runtime"

	"ocikit/tarutil"
)

// A rootDir is a directory handle made of os.Root, which every system has.
type rootDir struct{ root *os.Root }

type rootFile struct{ f *os.File }

// openRoot opens the directory path, following links.
func openRoot(path string) (Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, Cause(err)
	}
	return rootDir{root}, nil
}

// FileOf returns f as a handle, which closes it.
func FileOf(f *os.File) File { return rootFile{f} }

// Cause takes the names off an error of package os, for callers that add a whole path.
func Cause(err error) error {
	switch e := err.(type) {
	case *fs.PathError:
		return e.Err
	case *os.LinkError:
		return e.Err
	}
	return err
}

func (d rootDir) Close() error { return d.root.Close() }

func (d rootDir) Info() (Info, error) {
	fi, err := d.root.Stat(".")
	if err != nil {
		return Info{}, Cause(err)
	}
	return infoOf(fi), nil
}

func (d rootDir) List() ([]Entry, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, Cause(err)
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	list := make([]Entry, len(entries))
	for i, e := range entries {
		list[i] = Entry{e.Name(), flagOfType(e.Type())}
	}
	return list, Cause(err)
}

// OpenDir looks first, since os.Root waits for the writer of a fifo. It compares what was
// opened with what stands under the name, since os.Root follows links that stay inside.
func (d rootDir) OpenDir(name string) (Dir, error) {
	if fi, err := d.root.Lstat(name); err != nil {
		return nil, Cause(err)
	} else if !fi.IsDir() {
		return nil, tarutil.ErrChanged
	}

	root, err := d.root.OpenRoot(name)
	if err != nil {
		return nil, Cause(err)
	}

	opened, err := root.Stat(".")
	if err == nil {
		err = d.same(name, opened)
	}
	if err != nil {
		root.Close()
		return nil, Cause(err)
	}

	return rootDir{root}, nil
}

// same returns ErrChanged if name is no longer the file that was opened under it.
func (d rootDir) same(name string, opened fs.FileInfo) error {
	fi, err := d.root.Lstat(name)
	if err == nil && !os.SameFile(fi, opened) {
		err = tarutil.ErrChanged
	}
	return err
}

// OpenFile compares, as OpenDir does. NonblockFlags keep it from waiting.
func (d rootDir) OpenFile(name string) (File, error) {
	f, err := d.root.OpenFile(name, os.O_RDONLY|NonblockFlags, 0)
	if err != nil {
		return nil, Cause(err)
	}
	opened, err := f.Stat()
	if err == nil {
		err = d.same(name, opened)
	}
	if err != nil {
		f.Close()
		return nil, Cause(err)
	}
	return rootFile{f}, nil
}

func (d rootDir) Lstat(name string, x tarutil.Xattrs) (Info, map[string]string, error) {
	fi, err := d.root.Lstat(name)
	if err != nil {
		return Info{}, nil, Cause(err)
	}
	info := infoOf(fi)
	if info.Flag == tar.TypeSymlink {
		info.Target, err = d.root.Readlink(name)
	}
	return info, nil, Cause(err)
}

func (d rootDir) Xattrs(x tarutil.Xattrs) (map[string]string, error) {
	if x == tarutil.XattrsAll {
		return nil, errNoXattrs
	}
	return nil, nil // other systems have no security.capability
}

func (d rootDir) OverlayMark() string { return "" } // overlays are Linux's

func (f rootFile) Close() error               { return f.f.Close() }
func (f rootFile) Read(p []byte) (int, error) { return f.f.Read(p) }

func (f rootFile) Info() (Info, error) {
	fi, err := f.f.Stat()
	if err != nil {
		return Info{}, Cause(err)
	}
	return infoOf(fi), nil
}

func (f rootFile) Xattrs(x tarutil.Xattrs) (map[string]string, error) {
	return rootDir{}.Xattrs(x)
}

// infoOf returns what a FileInfo tells on every system, and what this system adds.
func infoOf(fi fs.FileInfo) Info {
	mode := fi.Mode()
	info := Info{
		Flag: flagOfType(mode.Type()),
		Perm: int64(mode.Perm()),
		Size: fi.Size(),
		Sec:  fi.ModTime().Unix(), Nano: int64(fi.ModTime().Nanosecond()),
		Links: 1,
	}

	for bit, flag := range map[int64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if mode&flag != 0 {
			info.Perm |= bit
		}
	}

	if runtime.GOOS == "windows" && (info.Flag == tar.TypeReg || info.Flag == tar.TypeDir) {
		info.Perm = 0o755 // there are no such permissions: as Docker has it
	}

	addSystemInfo(&info, fi)
	return info
}

// flagOfType turns a type of package fs into a type flag of tar.
func flagOfType(mode fs.FileMode) byte {
	switch {
	case mode.IsRegular():
		return tar.TypeReg
	case mode.IsDir():
		return tar.TypeDir
	case mode&fs.ModeSymlink != 0:
		return tar.TypeSymlink
	case mode&fs.ModeNamedPipe != 0:
		return tar.TypeFifo
	case mode&fs.ModeSocket != 0:
		return FlagSocket
	case mode&fs.ModeCharDevice != 0:
		return tar.TypeChar
	case mode&fs.ModeDevice != 0:
		return tar.TypeBlock
	}

	return flagUnknown
}
