package stack

import (
	"archive/tar"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"ocikit/tarutil"
	"ocikit/tarutil/internal/handle"
)

// makesNodes says whether fifos and devices can be made here.
const makesNodes = true

const atNoFollow = 0x100 // AT_SYMLINK_NOFOLLOW

// A dirHandle is a file descriptor of a directory. Its calls go to the kernel directly: with
// os.Root and os.File each file costs twice the system calls.
type dirHandle struct {
	fd  int
	top *os.File // that fd belongs to, if the handle is of the root
}

// An outFile is a file, or a directory, that is open.
type outFile struct {
	fd   int
	lent bool // it is the descriptor of a handle
}

// openTop returns a handle of the root itself.
func openTop(root *os.Root) (dirHandle, error) {
	f, err := root.Open(".")
	if err != nil {
		return dirHandle{}, err
	}
	return dirHandle{int(f.Fd()), f}, nil
}

func (d dirHandle) close() {
	if d.top != nil {
		d.top.Close() // it was not written to
	} else {
		syscall.Close(d.fd)
	}
}

// self returns the directory as a file; the handle stays open when that is closed.
func (d dirHandle) self() (*outFile, error) { return &outFile{fd: d.fd, lent: true}, nil }

// openDir opens a directory in this one; a link is none.
func (d dirHandle) openDir(name string) (dirHandle, error) {
	if err := oneName(name); err != nil {
		return dirHandle{}, err
	}
	fd, err := handle.Openat(d.fd, name, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC)
	return dirHandle{fd: fd}, err
}

func (d dirHandle) mkdir(name string, mode int32) error {
	if err := oneName(name); err != nil {
		return err
	}
	return handle.Retry(func() error { return syscall.Mkdirat(d.fd, name, uint32(mode)) })
}

// create makes a file, only where nothing is: a link, too, is something.
func (d dirHandle) create(name string, mode int32) (*outFile, error) {
	if err := oneName(name); err != nil {
		return nil, err
	}
	f := new(outFile)
	err := handle.Retry(func() (err error) {
		f.fd, err = syscall.Openat(d.fd, name, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, uint32(mode))
		return err
	})
	return f, err
}

// openFile opens a file for reading; a link is none.
func (d dirHandle) openFile(name string) (*outFile, error) {
	if err := oneName(name); err != nil {
		return nil, err
	}
	fd, err := handle.Openat(d.fd, name, syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC)
	return &outFile{fd: fd}, err
}

// removeFile removes what is not a directory.
func (d dirHandle) removeFile(name string) error {
	if err := oneName(name); err != nil {
		return err
	}
	return handle.Retry(func() error { return syscall.Unlinkat(d.fd, name) })
}

// take moves a file of another directory here, only where nothing is. Where the system or the file
// system cannot do that, the error is errors.ErrUnsupported.
func (d dirHandle) take(from dirHandle, old, name string) error {
	if err := errors.Join(oneName(old), oneName(name)); err != nil {
		return err
	}

	oldPath, err := syscall.BytePtrFromString(old)
	if err != nil {
		return err
	}

	newPath, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}

	return handle.Retry(func() error {
		_, _, errno := syscall.Syscall6(renameat2(), uintptr(from.fd), uintptr(unsafe.Pointer(oldPath)),
			uintptr(d.fd), uintptr(unsafe.Pointer(newPath)), renameNoReplace, 0)
		switch errno {
		case 0:
			return nil
		case syscall.EINVAL, syscall.ENOSYS:
			return errors.ErrUnsupported
		}
		return errno
	})
}

const renameNoReplace = 1 // RENAME_NOREPLACE

// renameat2 returns the number of that system call, which package syscall does not have everywhere.
func renameat2() uintptr {
	switch runtime.GOARCH {
	case "amd64":
		return 316
	case "386":
		return 353
	case "arm":
		return 382
	case "arm64", "loong64", "riscv64":
		return 276
	case "ppc64", "ppc64le":
		return 357
	case "s390x":
		return 347
	}
	return math.MaxUint32 // there is no such call
}

func (d dirHandle) symlink(target, name string) error {
	if err := oneName(name); err != nil {
		return err
	}

	from, err := syscall.BytePtrFromString(target)
	if err != nil {
		return err
	}

	to, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}

	return handle.Retry(func() error {
		_, _, errno := syscall.Syscall(syscall.SYS_SYMLINKAT, uintptr(unsafe.Pointer(from)), uintptr(d.fd), uintptr(unsafe.Pointer(to)))
		if errno != 0 {
			return errno
		}
		return nil
	})
}

// oneName refuses what a directory cannot have as the name of a file in it. No layer gets so
// far with such a name; it is refused once more where the kernel would take it for a path.
func oneName(name string) error {
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return fmt.Errorf("%w: %q is not one name", tarutil.ErrBadPath, name)
	}
	return nil
}

// Write implements io.Writer.
func (f *outFile) Write(p []byte) (n int, err error) {
	for n < len(p) {
		k := 0
		if err := handle.Retry(func() (err error) { k, err = syscall.Write(f.fd, p[n:]); return err }); err != nil {
			return n, err
		}
		n += k
	}
	return n, nil
}

// Seek implements io.Seeker.
func (f *outFile) Seek(offset int64, whence int) (int64, error) {
	return syscall.Seek(f.fd, offset, whence)
}

// Truncate gives the file a size; what it gets is a hole.
func (f *outFile) Truncate(size int64) error {
	return handle.Retry(func() error { return syscall.Ftruncate(f.fd, size) })
}

func (f *outFile) Close() error {
	if f.lent {
		return nil
	}
	return syscall.Close(f.fd)
}

// asMade returns the owner and the permissions of a file that was just made.
func (f *outFile) asMade() (uid, gid int64, mode int32, ok bool) {
	info, err := handle.InfoOfFD(f.fd)
	return int64(info.UID), int64(info.GID), int32(info.Perm), err == nil
}

func (d dirHandle) chown(name string, f *outFile, a *attributes) error {
	return handle.Retry(func() error {
		if f != nil {
			return syscall.Fchown(f.fd, int(a.uid), int(a.gid))
		}
		return syscall.Fchownat(d.fd, name, int(a.uid), int(a.gid), atNoFollow)
	})
}

// chmod is for a name only if that is a fifo or a device: they were just made, and are no
// links. A name goes through a handle, since fchmodat follows links.
func (d dirHandle) chmod(name string, f *outFile, mode int32) error {
	if f != nil {
		return handle.Retry(func() error { return syscall.Fchmod(f.fd, uint32(mode)) })
	}
	node, err := handle.Openat(d.fd, name, handle.OPath|syscall.O_CLOEXEC|syscall.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer syscall.Close(node)
	return syscall.Chmod("/proc/self/fd/"+strconv.Itoa(node), uint32(mode))
}

// makeNode makes a fifo or a device that only its owner may use. Its permissions are set later, with
// its other attributes.
func (d dirHandle) makeNode(name string, flag byte, a *attributes) error {
	mode := uint32(0o600)
	switch flag {
	case tar.TypeFifo:
		mode |= syscall.S_IFIFO
	case tar.TypeChar:
		mode |= syscall.S_IFCHR
	default:
		mode |= syscall.S_IFBLK
	}

	// A dev_t is 8 bits of the minor and 12 of the major number, then the rest of each.
	major, minor := uint64(a.more().major), uint64(a.more().minor)
	dev := minor&0xff | major&0xfff<<8 | minor&^0xff<<12 | major&^0xfff<<32

	if err := oneName(name); err != nil {
		return err
	}

	return handle.Retry(func() error { return syscall.Mknodat(d.fd, name, mode, int(dev)) })
}

// setTime sets the modification time. One that the system does not take is brought into the
// range of 64-bit inodes.
func (d dirHandle) setTime(name string, f *outFile, a *attributes) error {
	set := func(sec int64) error {
		var times [2]syscall.Timespec
		for i := range times {
			times[i] = syscall.NsecToTimespec(int64(a.nano))
			setSeconds(&times[i].Sec, sec)
		}

		// Without a path, the descriptor is the file itself.
		at := unsafe.Pointer(&times)
		if f != nil {
			return utimensat(f.fd, nil, at, 0)
		}

		path, err := syscall.BytePtrFromString(name)
		if err != nil {
			return err
		}
		return utimensat(d.fd, path, at, atNoFollow)
	}

	err := set(a.sec)
	if err == syscall.EINVAL || err == syscall.EOVERFLOW {
		err = set(min(max(a.sec, math.MinInt32), 1<<34-1))
	}

	return err
}

func setSeconds[T int32 | int64](p *T, sec int64) {
	*p = T(sec)
	if int64(*p) != sec { // a system whose times have 32 bits
		*p = T(min(max(sec, math.MinInt32), math.MaxInt32))
	}
}

func utimensat(fd int, path *byte, times unsafe.Pointer, flags int) error {
	return handle.Retry(func() error {
		_, _, errno := syscall.Syscall6(syscall.SYS_UTIMENSAT, uintptr(fd), uintptr(unsafe.Pointer(path)), uintptr(times), uintptr(flags), 0, 0)
		if errno != 0 {
			return errno
		}
		return nil
	})
}

// setXattr sets an extended attribute of a file or a directory; links, fifos and devices can
// have none of those that are written. It returns false if the file system has no such, or the
// user may not.
func (d dirHandle) setXattr(_ string, f *outFile, attr, value string) (bool, error) {
	if f == nil {
		return false, nil
	}

	name, err := syscall.BytePtrFromString(attr)
	if err != nil {
		return false, err
	}

	data := []byte(value)
	err = handle.Retry(func() error {
		_, _, errno := syscall.Syscall6(syscall.SYS_FSETXATTR, uintptr(f.fd), uintptr(unsafe.Pointer(name)),
			uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(len(data)), 0, 0)
		if errno != 0 {
			return errno
		}
		return nil
	})
	switch err {
	case nil:
		return true, nil
	case syscall.ENOTSUP, syscall.EPERM, syscall.EACCES, syscall.EINVAL, syscall.ERANGE, syscall.E2BIG:
		return false, nil
	}

	return false, err
}
