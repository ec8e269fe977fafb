package stack

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"

	"ocikit/tarutil"
)

// A creation is what files are like when they are just made, in this tree by this user: owner and
// group, which may be that of the directory, and the permissions that the umask and access lists
// leave. It is found out from the first files, and saves two system calls for each of the others.
type creation struct {
	uid, gid       int64
	tried, granted int32 // permissions that were asked for, and those that were given
}

// owner reports whether a file that is made gets the owner in a without further ado.
func (c *creation) owner(a *attributes) bool {
	return c != nil && c.uid == int64(a.uid) && c.gid == int64(a.gid)
}

// mode reports whether a file that is made with mode gets it.
func (c *creation) mode(mode int32) bool { return c != nil && mode&^c.granted == 0 }

// have says which attributes a file has already.
type have struct{ owner, mode bool }

// A lack says which attributes a file did not get.
type lack struct {
	setID  bool   // a setuid or setgid bit
	xattrs uint16 // so many extended attributes
}

const setIDBits = 0o6000

// mode returns the permissions that a file gets.
func (o ExtractOptions) mode(a *attributes, flag byte) int32 {
	if !o.Owners && flag == tar.TypeReg {
		return a.mode &^ setIDBits
	}
	return a.mode
}

// privileges returns what in a lets others act with rights that are not theirs, if a regular file
// has it: its setuid and setgid bits with the other permissions, and its capability.
func (o ExtractOptions) privileges(a *attributes) *attributes {
	const key = tarutil.XattrPrefix + tarutil.CapabilityXattr
	capability, capable := a.more().records[key]
	if !capable && o.mode(a, tar.TypeReg)&setIDBits == 0 {
		return nil
	}

	p := &attributes{mode: a.mode}
	if capable {
		p.rare = &rareAttributes{records: map[string]string{key: capability}}
	}
	return p
}

// A spot is where a file is that gets attributes: f, if it is open, else the name in d.
type spot struct {
	d    dirHandle
	name string
	f    *outFile
}

// setAttributes gives a file the attributes that it does not have. Privileges of regular files are left to
// setPrivileges. The owner comes first, since that takes capabilities and setuid bits away.
func (o ExtractOptions) setAttributes(at spot, a *attributes, flag byte, had have) (lacks lack, err error) {
	if o.Owners && !had.owner {
		if err := at.d.chown(at.name, at.f, a); err != nil {
			return lacks, err
		}
	}

	// The user may write to the file now, which user attributes need. Its permissions may forbid it.
	user := func(attr string) bool { return strings.HasPrefix(attr, userXattr) }
	refused, err := setXattrs(at, a, user)
	if err != nil {
		return lacks, err
	}

	// Symbolic links have no permissions of their own.
	if flag != tar.TypeSymlink {
		mode := o.mode(a, flag)
		lacks.setID = mode != a.mode
		if flag == tar.TypeReg {
			mode &^= setIDBits
		}
		if !had.mode {
			if err := at.d.chmod(at.name, at.f, mode); err != nil {
				return lacks, err
			}
		}
	}

	// The permissions would change access lists.
	others := func(attr string) bool {
		return !user(attr) && !(flag == tar.TypeReg && attr == tarutil.CapabilityXattr)
	}
	more, err := setXattrs(at, a, others)
	if err != nil {
		return lacks, err
	}

	lacks.xattrs = uint16(min(refused+more, math.MaxUint16))
	return lacks, at.d.setTime(at.name, at.f, a)
}

// setPrivileges gives the regular file name, which has all other attributes, the setuid and setgid
// bits and the capability in a. It returns how many extended attributes were refused.
func (o ExtractOptions) setPrivileges(d dirHandle, name string, a *attributes) (refused int, err error) {
	f, err := d.openFile(name)
	if errors.Is(err, fs.ErrPermission) && !o.Owners {
		return 1, nil // without rights nobody gets a capability, whether the file can be opened or not
	}
	if err != nil {
		return 0, err
	}
	defer f.Close() // it was not written to

	if mode := o.mode(a, tar.TypeReg); mode&setIDBits != 0 {
		if err := d.chmod(name, f, mode); err != nil {
			return 0, err
		}
	}

	return setXattrs(spot{d, name, f}, a, func(attr string) bool { return attr == tarutil.CapabilityXattr })
}

// userXattr begins the names of those attributes that everybody with write access to the file may
// set.
const userXattr = "user."

// setXattrs sets those extended attributes that are wanted. One that this file system or this user
// cannot have is counted, and no error: most files are used without.
func setXattrs(at spot, a *attributes, wanted func(attr string) bool) (refused int, err error) {
	for key, value := range a.more().records {
		attr, ok := strings.CutPrefix(key, tarutil.XattrPrefix)
		if !ok || !wanted(attr) {
			continue
		}

		set := false
		if writesXattr(attr) {
			if set, err = at.d.setXattr(at.name, at.f, attr, value); err != nil {
				return refused, fmt.Errorf("extended attribute %q: %w", attr, err)
			}
		}

		if !set {
			refused++
		}
	}

	return refused, nil
}

// writesXattr says whether an extended attribute belongs to the image, and not to a program
// that looks after files of the machine.
func writesXattr(attr string) bool {
	return attr == tarutil.CapabilityXattr || strings.HasPrefix(attr, "system.posix_acl_") ||
		strings.HasPrefix(attr, userXattr) && tarutil.XattrsAll.Keeps(attr)
}
