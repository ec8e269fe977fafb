package tarutil

import (
	"bytes"
	"encoding/binary"
	"io"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// openPath is O_PATH: a handle of a file, of whatever type, that does not open it.
const openPath = 0x200000

const openFlags = syscall.O_CLOEXEC | syscall.O_NOFOLLOW | syscall.O_NONBLOCK | syscall.O_NOCTTY

// A linuxDir is a file descriptor of a directory. Its calls go to the kernel directly:
// with os.Root each file costs about twice the system calls and a dozen allocations.
type linuxDir int

// A linuxFile is a file descriptor.
type linuxFile int

// openTree opens the directory path, following links.
func openTree(path string) (dirHandle, error) {
	fd, err := openat(atCWD, path, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return linuxDir(fd), nil
}

const atCWD = -100 // AT_FDCWD

func openat(dir int, name string, flags int) (fd int, err error) {
	err = retry(func() error {
		fd, err = syscall.Openat(dir, name, flags, 0)
		return err
	})
	return fd, err
}

// retry repeats a call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != syscall.EINTR {
			return err
		}
	}
}

func (d linuxDir) Close() error            { return syscall.Close(int(d)) }
func (d linuxDir) info() (fileInfo, error) { return linuxFile(d).info() }

func (d linuxDir) openDir(name string) (dirHandle, error) {
	fd, err := openat(int(d), name, syscall.O_RDONLY|syscall.O_DIRECTORY|openFlags)
	if err != nil {
		return nil, err
	}
	return linuxDir(fd), nil
}

func (d linuxDir) openFile(name string) (fileHandle, error) {
	fd, err := openat(int(d), name, syscall.O_RDONLY|openFlags)
	if err == syscall.ELOOP || err == syscall.ENXIO {
		err = ErrChanged // a link, or a socket, where a regular file was listed
	}
	if err != nil {
		return nil, err
	}
	return linuxFile(fd), nil
}

func (d linuxDir) lstat(name string, x Xattrs) (fileInfo, map[string]string, error) {
	fd, err := openat(int(d), name, openPath|syscall.O_CLOEXEC|syscall.O_NOFOLLOW)
	if err != nil {
		return fileInfo{}, nil, err
	}
	defer syscall.Close(fd)
	info, err := linuxFile(fd).info()
	if err != nil {
		return info, nil, err
	}
	if info.flag == typeSymlink {
		if info.target, err = readlink(fd); err != nil {
			return info, nil, err
		}
	}
	if x != XattrsAll { // only regular files have capabilities
		return info, nil, nil
	}
	attrs, err := allXattrs(x, xattrPath("/proc/self/fd/"+strconv.Itoa(fd)))
	return info, attrs, err
}

// readlink returns the target of the symbolic link that fd stands for.
func readlink(fd int) (string, error) {
	var empty [1]byte
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, _, errno := syscall.Syscall6(syscall.SYS_READLINKAT, uintptr(fd), uintptr(unsafe.Pointer(&empty[0])),
			uintptr(unsafe.Pointer(&buf[0])), uintptr(size), 0, 0)
		if errno != 0 {
			return "", errno
		}
		if int(n) < size {
			return string(buf[:n]), nil
		}
	}
}

// list reads the directory with getdents64, for the types that it tells.
func (d linuxDir) list() ([]dirent, error) {
	const (
		atLength, atType, atEntryName = 16, 18, 19 // in struct linux_dirent64
	)
	var list []dirent
	buf := make([]byte, 32<<10)
	for {
		var n int
		err := retry(func() (err error) {
			n, err = syscall.ReadDirent(int(d), buf)
			return err
		})
		if err != nil || n == 0 {
			return list, err
		}
		for rest := buf[:n]; len(rest) > atEntryName; {
			size := int(binary.NativeEndian.Uint16(rest[atLength:]))
			if size <= atEntryName || size > len(rest) {
				return list, syscall.EIO
			}
			name := rest[atEntryName:size]
			if i := bytes.IndexByte(name, 0); i >= 0 {
				name = name[:i]
			}
			if s := string(name); s != "." && s != ".." {
				e := dirent{s, flagOfDirent(rest[atType])}
				if e.flag == flagUnknown {
					info, _, err := d.lstat(s, XattrsNone)
					if err != nil {
						return list, err
					}
					e.flag = info.flag
				}
				list = append(list, e)
			}
			rest = rest[size:]
		}
	}
}

func flagOfDirent(t byte) byte {
	return flagOfMode(uint32(t) << 12)
}

func (f linuxFile) Close() error { return syscall.Close(int(f)) }

func (f linuxFile) Read(p []byte) (n int, err error) {
	err = retry(func() error {
		n, err = syscall.Read(int(f), p)
		return err
	})
	if err != nil {
		return 0, err
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (f linuxFile) info() (fileInfo, error) {
	var st syscall.Stat_t
	if err := retry(func() error { return syscall.Fstat(int(f), &st) }); err != nil {
		return fileInfo{}, err
	}
	return infoOfStat(&st), nil
}

func infoOfStat(st *syscall.Stat_t) fileInfo {
	dev := uint64(st.Rdev)
	return fileInfo{
		flag: flagOfMode(uint32(st.Mode)),
		perm: int64(st.Mode & 0o7777),
		uid:  int(st.Uid), gid: int(st.Gid),
		size: st.Size,
		sec:  int64(st.Mtim.Sec), nano: int64(st.Mtim.Nsec),
		id:    fileID{uint64(st.Dev), uint64(st.Ino)},
		links: uint64(st.Nlink),
		major: int64(dev>>8&0xfff | dev>>32&^0xfff),
		minor: int64(dev&0xff | dev>>12&0xffffff00),
	}
}

func (d linuxDir) xattrs(x Xattrs) (map[string]string, error) { return linuxFile(d).xattrs(x) }
func (f linuxFile) xattrs(x Xattrs) (map[string]string, error) {
	if x != XattrsSecurity {
		return allXattrs(x, xattrFD(f))
	}
	var buf [64]byte
	n, err := xattrFD(f).get(capabilityXattr, buf[:])
	if err == syscall.ENODATA || err == syscall.ENOTSUP {
		return nil, nil
	}
	if err == syscall.ERANGE {
		return allXattrs(x, xattrFD(f))
	}
	if err != nil {
		return nil, err
	}
	return map[string]string{capabilityXattr: imageXattr(capabilityXattr, string(buf[:n]))}, nil
}

// An xattrSource gives the extended attributes of one file; with an empty buffer, the
// size that is needed.
type xattrSource interface {
	list(buf []byte) (int, error)
	get(name string, buf []byte) (int, error)
}

// allXattrs returns those extended attributes that x keeps.
func allXattrs(x Xattrs, src xattrSource) (map[string]string, error) {
	if x == XattrsNone {
		return nil, nil
	}
	names, err := sized(src.list)
	if err == syscall.ENOTSUP {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var attrs map[string]string
	for name := range strings.SplitSeq(string(names), "\x00") {
		if name == "" || !x.keeps(name) {
			continue
		}
		value, err := sized(func(buf []byte) (int, error) { return src.get(name, buf) })
		if err == syscall.ENODATA {
			continue
		}
		if err != nil {
			return nil, err
		}
		if attrs == nil {
			attrs = make(map[string]string)
		}
		attrs[name] = imageXattr(name, string(value))
	}
	return attrs, nil
}

// sized calls get with a buffer of the size that it asks for.
func sized(get func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := get(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		buf := make([]byte, n)
		if n, err = get(buf); err != syscall.ERANGE {
			return buf[:max(n, 0)], err
		}
	}
}

type xattrPath string // followed, if it is a link

func (p xattrPath) list(buf []byte) (int, error) { return syscall.Listxattr(string(p), buf) }
func (p xattrPath) get(name string, buf []byte) (int, error) {
	return syscall.Getxattr(string(p), name, buf)
}

type xattrFD int

func (f xattrFD) list(buf []byte) (int, error) {
	n, _, errno := syscall.Syscall(syscall.SYS_FLISTXATTR, uintptr(f),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func (f xattrFD) get(name string, buf []byte) (int, error) {
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	n, _, errno := syscall.Syscall6(syscall.SYS_FGETXATTR, uintptr(f), uintptr(unsafe.Pointer(p)),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
