package tarutil

import (
	"math"
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

// makesNodes says whether fifos and devices can be made here.
const makesNodes = true

const atNoFollow = 0x100 // AT_SYMLINK_NOFOLLOW

// onFD calls do with the descriptor of f.
func onFD(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = retry(func() error { return do(int(fd)) }) })
	if err == nil {
		err = inner
	}
	return err
}

// here calls do with the descriptor of the directory.
func (d *openedDir) here(do func(fd int) error) error {
	dir, err := d.handle()
	if err != nil {
		return err
	}
	return onFD(dir, do)
}

func (d *openedDir) chown(name string, f *os.File, a *attributes) error {
	if f != nil {
		return onFD(f, func(fd int) error { return syscall.Fchown(fd, int(a.uid), int(a.gid)) })
	}
	return d.here(func(fd int) error { return syscall.Fchownat(fd, name, int(a.uid), int(a.gid), atNoFollow) })
}

// chmod is for a name only if that is a fifo or a device: they were just made, and are no
// links.
func (d *openedDir) chmod(name string, f *os.File, mode int32) error {
	if f != nil {
		return onFD(f, func(fd int) error { return syscall.Fchmod(fd, uint32(mode)) })
	}
	return d.here(func(fd int) error {
		node, err := openat(fd, name, openPath|syscall.O_CLOEXEC|syscall.O_NOFOLLOW)
		if err != nil {
			return err
		}
		defer syscall.Close(node)
		return syscall.Chmod("/proc/self/fd/"+strconv.Itoa(node), uint32(mode))
	})
}

func (d *openedDir) makeNode(name string, flag byte, a *attributes) error {
	mode := uint32(0o600)
	switch flag {
	case typeFifo:
		mode |= syscall.S_IFIFO
	case typeChar:
		mode |= syscall.S_IFCHR
	default:
		mode |= syscall.S_IFBLK
	}
	major, minor := uint64(a.major), uint64(a.minor)
	dev := minor&0xff | major&0xfff<<8 | minor&^0xff<<12 | major&^0xfff<<32
	return d.here(func(fd int) error { return syscall.Mknodat(fd, name, mode, int(dev)) })
}

// setTime sets the modification time. One that the system does not take is brought into the
// range of 64-bit inodes.
func (d *openedDir) setTime(name string, f *os.File, a *attributes) error {
	set := func(sec int64) error {
		var times [2]syscall.Timespec
		for i := range times {
			times[i] = syscall.NsecToTimespec(int64(a.nano))
			setSeconds(&times[i].Sec, sec)
		}
		at := unsafe.Pointer(&times)
		if f != nil {
			return onFD(f, func(fd int) error { return utimensat(fd, nil, at, 0) })
		}
		path, err := syscall.BytePtrFromString(name)
		if err != nil {
			return err
		}
		return d.here(func(fd int) error { return utimensat(fd, path, at, atNoFollow) })
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
	_, _, errno := syscall.Syscall6(syscall.SYS_UTIMENSAT, uintptr(fd), uintptr(unsafe.Pointer(path)), uintptr(times), uintptr(flags), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// setXattr sets an extended attribute of a file or a directory; links, fifos and devices can
// have none of those that are written. It returns false if the file system has no such, or the
// user may not.
func (d *openedDir) setXattr(_ string, f *os.File, attr, value string) (bool, error) {
	if f == nil {
		return false, nil
	}
	name, err := syscall.BytePtrFromString(attr)
	if err != nil {
		return false, err
	}
	data := []byte(value)
	err = onFD(f, func(fd int) error {
		_, _, errno := syscall.Syscall6(syscall.SYS_FSETXATTR, uintptr(fd), uintptr(unsafe.Pointer(name)),
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
