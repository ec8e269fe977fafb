package tarutil

import (
	"io/fs"
	"os"
)

// A rootDir is a directory handle made of os.Root, which every system has.
type rootDir struct{ root *os.Root }

type rootFile struct{ f *os.File }

// openRootTree opens the directory path, following links.
func openRootTree(path string) (dirHandle, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, cause(err)
	}
	return rootDir{root}, nil
}

// cause takes the name off an error of package os; the callers here add the whole path.
func cause(err error) error {
	if e, ok := err.(*fs.PathError); ok {
		return e.Err
	}
	return err
}

func (d rootDir) Close() error { return d.root.Close() }

func (d rootDir) info() (fileInfo, error) {
	fi, err := d.root.Stat(".")
	if err != nil {
		return fileInfo{}, cause(err)
	}
	return infoOf(fi), nil
}

func (d rootDir) list() ([]dirent, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	list := make([]dirent, len(entries))
	for i, e := range entries {
		list[i] = dirent{e.Name(), flagOfType(e.Type())}
	}
	return list, cause(err)
}

// openDir looks first, since os.Root waits for the writer of a fifo. It compares what was
// opened with what stands under the name, since os.Root follows links that stay inside.
func (d rootDir) openDir(name string) (dirHandle, error) {
	if fi, err := d.root.Lstat(name); err != nil {
		return nil, cause(err)
	} else if !fi.IsDir() {
		return nil, ErrChanged
	}
	root, err := d.root.OpenRoot(name)
	if err != nil {
		return nil, cause(err)
	}
	opened, err := root.Stat(".")
	if err == nil {
		err = d.same(name, opened)
	}
	if err != nil {
		root.Close()
		return nil, cause(err)
	}
	return rootDir{root}, nil
}

// same returns ErrChanged if name is no longer the file that was opened under it.
func (d rootDir) same(name string, opened fs.FileInfo) error {
	fi, err := d.root.Lstat(name)
	if err == nil && !os.SameFile(fi, opened) {
		err = ErrChanged
	}
	return err
}

func (d rootDir) openFile(name string) (fileHandle, error) {
	f, err := d.root.OpenFile(name, os.O_RDONLY|nonblockFlags, 0)
	if err != nil {
		return nil, cause(err)
	}
	opened, err := f.Stat()
	if err == nil {
		err = d.same(name, opened)
	}
	if err != nil {
		f.Close()
		return nil, cause(err)
	}
	return rootFile{f}, nil
}

func (d rootDir) lstat(name string, x Xattrs) (fileInfo, map[string]string, error) {
	fi, err := d.root.Lstat(name)
	if err != nil {
		return fileInfo{}, nil, cause(err)
	}
	info := infoOf(fi)
	if info.flag == typeSymlink {
		info.target, err = d.root.Readlink(name)
	}
	return info, nil, cause(err)
}

func (d rootDir) xattrs(x Xattrs) (map[string]string, error) {
	if x == XattrsAll {
		return nil, errNoXattrs
	}
	return nil, nil // other systems have no security.capability
}

func (f rootFile) Close() error               { return f.f.Close() }
func (f rootFile) Read(p []byte) (int, error) { return f.f.Read(p) }

func (f rootFile) info() (fileInfo, error) {
	fi, err := f.f.Stat()
	if err != nil {
		return fileInfo{}, cause(err)
	}
	return infoOf(fi), nil
}

func (f rootFile) xattrs(x Xattrs) (map[string]string, error) {
	return rootDir{}.xattrs(x)
}

// infoOf returns what a FileInfo tells on every system, and what this system adds.
func infoOf(fi fs.FileInfo) fileInfo {
	mode := fi.Mode()
	info := fileInfo{
		flag: flagOfType(mode.Type()),
		perm: int64(mode.Perm()),
		size: fi.Size(),
		sec:  fi.ModTime().Unix(), nano: int64(fi.ModTime().Nanosecond()),
		links: 1,
	}
	for bit, flag := range map[int64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if mode&flag != 0 {
			info.perm |= bit
		}
	}
	addSystemInfo(&info, fi)
	return info
}

func flagOfType(mode fs.FileMode) byte {
	switch {
	case mode.IsRegular():
		return typeReg
	case mode.IsDir():
		return typeDir
	case mode&fs.ModeSymlink != 0:
		return typeSymlink
	case mode&fs.ModeNamedPipe != 0:
		return typeFifo
	case mode&fs.ModeSocket != 0:
		return flagSocket
	case mode&fs.ModeCharDevice != 0:
		return typeChar
	case mode&fs.ModeDevice != 0:
		return typeBlock
	}
	return flagUnknown
}
