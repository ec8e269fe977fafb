package handle

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"io"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"ocikit/tarutil"
)

// OPath is O_PATH: a handle of a file, of whatever type, that does not open it.
const OPath = 0x200000

const openFlags = syscall.O_CLOEXEC | syscall.O_NOFOLLOW | syscall.O_NONBLOCK | syscall.O_NOCTTY

// A linuxDir is a file descriptor of a directory. Its calls go to the kernel directly:
// with os.Root each file costs about twice the system calls and a dozen allocations.
type linuxDir int

// A linuxFile is a file descriptor.
type linuxFile int

// Open opens the directory path, following links.
func Open(path string) (Dir, error) {
	fd, err := Openat(atCWD, path, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return linuxDir(fd), nil
}

const atCWD = -100 // AT_FDCWD

// Openat opens name in the directory with the descriptor dir. The caller closes fd. The flags decide
// whether links are followed.
func Openat(dir int, name string, flags int) (fd int, err error) {
	err = Retry(func() error {
		fd, err = syscall.Openat(dir, name, flags, 0)
		return err
	})
	return fd, err
}

// Retry repeats a call that a signal interrupted.
func Retry(call func() error) error {
	for {
		if err := call(); err != syscall.EINTR {
			return err
		}
	}
}

func (d linuxDir) Close() error        { return syscall.Close(int(d)) }
func (d linuxDir) Info() (Info, error) { return linuxFile(d).Info() }

func (d linuxDir) OpenDir(name string) (Dir, error) {
	fd, err := Openat(int(d), name, syscall.O_RDONLY|syscall.O_DIRECTORY|openFlags)
	if err != nil {
		return nil, err
	}
	return linuxDir(fd), nil
}

func (d linuxDir) OpenFile(name string) (File, error) {
	fd, err := Openat(int(d), name, syscall.O_RDONLY|openFlags)
	if err == syscall.ELOOP || err == syscall.ENXIO {
		err = tarutil.ErrChanged // a link, or a socket, where a regular file was listed
	}
	if err != nil {
		return nil, err
	}
	return linuxFile(fd), nil
}

func (d linuxDir) Lstat(name string, x tarutil.Xattrs) (Info, map[string]string, error) {
	fd, err := Openat(int(d), name, OPath|syscall.O_CLOEXEC|syscall.O_NOFOLLOW)
	if err != nil {
		return Info{}, nil, err
	}
	defer syscall.Close(fd)

	// One handle for all that is asked, so that it is about one file.
	info, err := linuxFile(fd).Info()
	if err != nil {
		return info, nil, err
	}

	if info.Flag == tar.TypeSymlink {
		if info.Target, err = readlink(fd); err != nil {
			return info, nil, err
		}
	}

	if x != tarutil.XattrsAll { // only regular files have capabilities
		return info, nil, nil
	}

	// A handle made with O_PATH cannot be asked for attributes. Its path in /proc leads to the file
	// itself, also if that is a link.
	attrs, err := allXattrs(x, xattrPath("/proc/self/fd/"+strconv.Itoa(fd)))
	return info, attrs, err
}

// readlink returns the target of the symbolic link that fd stands for.
func readlink(fd int) (string, error) {
	var empty [1]byte
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := called(syscall.Syscall6(syscall.SYS_READLINKAT, uintptr(fd), uintptr(unsafe.Pointer(&empty[0])),
			uintptr(unsafe.Pointer(&buf[0])), uintptr(size), 0, 0))
		if err != nil || n < size {
			return string(buf[:n]), err
		}
	}
}

// List reads the directory with getdents64, for the types that it tells.
func (d linuxDir) List() ([]Entry, error) {
	const (
		atLength, atType, atEntryName = 16, 18, 19 // in struct linux_dirent64
	)
	var list []Entry
	buf := make([]byte, 32<<10)
	for {
		var n int
		err := Retry(func() (err error) {
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

			// Some file systems do not tell types.
			if s := string(name); s != "." && s != ".." {
				e := Entry{s, flagOfDirent(rest[atType])}
				if e.Flag == flagUnknown {
					info, _, err := d.Lstat(s, tarutil.XattrsNone)
					if err != nil {
						return list, err
					}
					e.Flag = info.Flag
				}
				list = append(list, e)
			}
			rest = rest[size:]
		}
	}
}

// flagOfDirent turns the type in a directory entry, which is the upper bits of st_mode, into a type
// flag of tar.
func flagOfDirent(t byte) byte {
	return flagOfMode(uint32(t) << 12)
}

func (f linuxFile) Close() error { return syscall.Close(int(f)) }

func (f linuxFile) Read(p []byte) (n int, err error) {
	err = Retry(func() error {
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

// InfoOfFD returns what is known about an open file.
func InfoOfFD(fd int) (Info, error) { return linuxFile(fd).Info() }

func (f linuxFile) Info() (Info, error) {
	var st syscall.Stat_t
	if err := Retry(func() error { return syscall.Fstat(int(f), &st) }); err != nil {
		return Info{}, err
	}
	return infoOfStat(&st), nil
}

// infoOfStat returns what st says. A device number is the low 8 bits of the minor and 12 of the major
// number, then the rest of each.
func infoOfStat(st *syscall.Stat_t) Info {
	dev := uint64(st.Rdev)
	return Info{
		Flag: flagOfMode(uint32(st.Mode)),
		Perm: int64(st.Mode & 0o7777),
		UID:  int(st.Uid), GID: int(st.Gid),
		Size: st.Size, Hole: max(0, st.Size-512*st.Blocks),
		Sec: int64(st.Mtim.Sec), Nano: int64(st.Mtim.Nsec),
		ID:    ID{uint64(st.Dev), uint64(st.Ino)},
		Links: uint64(st.Nlink),
		Major: int64(dev>>8&0xfff | dev>>32&^0xfff),
		Minor: int64(dev&0xff | dev>>12&0xffffff00),
	}
}

func (d linuxDir) Xattrs(x tarutil.Xattrs) (map[string]string, error) { return linuxFile(d).Xattrs(x) }
func (f linuxFile) Xattrs(x tarutil.Xattrs) (map[string]string, error) {
	if x != tarutil.XattrsSecurity {
		return allXattrs(x, xattrFD(f))
	}

	// A capability takes 24 bytes at most. Asking for it alone spares most files the list.
	var buf [64]byte
	n, err := xattrFD(f).get(tarutil.CapabilityXattr, buf[:])
	if err == syscall.ENODATA || err == syscall.ENOTSUP {
		return nil, nil
	}
	if err == syscall.ERANGE {
		return allXattrs(x, xattrFD(f))
	}
	if err != nil {
		return nil, err
	}

	return map[string]string{tarutil.CapabilityXattr: tarutil.ImageXattr(tarutil.CapabilityXattr, string(buf[:n]))}, nil
}

func (d linuxDir) OverlayMark() string {
	names, _ := sized(xattrFD(d).list) // whoever cannot list them sees no mark
	for name := range strings.SplitSeq(string(names), "\x00") {
		if tarutil.IsOverlayXattr(name) && (strings.HasSuffix(name, ".opaque") || strings.HasSuffix(name, ".redirect")) {
			return name
		}
	}
	return ""
}

// An xattrSource gives the extended attributes of one file; with an empty buffer, the
// size that is needed.
type xattrSource interface {
	list(buf []byte) (int, error)
	get(name string, buf []byte) (int, error)
}

// allXattrs returns those extended attributes that x keeps.
func allXattrs(x tarutil.Xattrs, src xattrSource) (map[string]string, error) {
	if x == tarutil.XattrsNone {
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
		if name == "" || !x.Keeps(name) {
			continue
		}

		value, err := sized(func(buf []byte) (int, error) { return src.get(name, buf) })
		if err == syscall.ENODATA { // it was removed since
			continue
		}
		if err != nil {
			return nil, err
		}

		if attrs == nil {
			attrs = make(map[string]string)
		}
		attrs[name] = tarutil.ImageXattr(name, string(value))
	}

	return attrs, nil
}

// sized calls get with a buffer of the size that it asks for, again if it wants more by then.
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
	return called(syscall.Syscall(syscall.SYS_FLISTXATTR, uintptr(f),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf))))
}

// called returns what a system call gave.
func called(n, _ uintptr, errno syscall.Errno) (int, error) {
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
	return called(syscall.Syscall6(syscall.SYS_FGETXATTR, uintptr(f), uintptr(unsafe.Pointer(p)),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), 0, 0))
}
