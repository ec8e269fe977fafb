package tarutil

import (
	"archive/tar"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An Owner says which owner entries get. The zero value is 0:0.
type Owner struct {
	Keep     bool // the owner that the input has; UID and GID do not count
	UID, GID int
}

// ParseOwner reads "keep" or "U:G", where U and G are numbers from 0 to 2^32-2. It does not look names
// up, since they mean nothing outside the image.
func ParseOwner(s string) (Owner, error) {
	if s == "keep" {
		return Owner{Keep: true}, nil
	}
	u, g, ok := strings.Cut(s, ":")
	uid, errU := strconv.ParseUint(u, 10, 32)
	gid, errG := strconv.ParseUint(g, 10, 32)
	if !ok || errU != nil || errG != nil || uid == math.MaxUint32 || gid == math.MaxUint32 {
		return Owner{}, fmt.Errorf(`owner %q: want "keep" or UID:GID in numbers`, s)
	}
	return Owner{UID: int(uid), GID: int(gid)}, nil
}

// Apply gives an entry its owner, who has no name then.
func (o Owner) Apply(hdr *tar.Header) {
	if !o.Keep {
		hdr.Uid, hdr.Gid, hdr.Uname, hdr.Gname = o.UID, o.GID, "", ""
	}
}

// A Mode says which permissions entries get.
type Mode int

const (
	// ModeKeep keeps the permissions, setuid, setgid and sticky bits of the input.
	ModeKeep Mode = iota
	// ModeNormalize gives 0755 to directories and to files that anybody may execute, and
	// 0644 to the rest.
	ModeNormalize
)

// ParseMode reads "keep" or "normalize".
func ParseMode(s string) (Mode, error) {
	i := slices.Index([]string{"keep", "normalize"}, s)
	if i < 0 {
		return 0, fmt.Errorf(`mode %q: want "keep" or "normalize"`, s)
	}
	return Mode(i), nil
}

// Apply returns the permissions of an entry with the type flag and the permissions that the input has.
func (m Mode) Apply(flag byte, perm int64) int64 {
	switch {
	case flag == tar.TypeSymlink:
		return 0o777
	case m == ModeKeep:
		return perm & 0o7777
	case flag == tar.TypeDir || (flag == tar.TypeReg || flag == tar.TypeLink) && perm&0o111 != 0:
		return 0o755
	}
	return 0o644
}

// An MTime says which modification time entries get. The zero value is the epoch,
// 1970-01-01T00:00:00Z, for all of them.
type MTime struct {
	policy mtimePolicy
	at     int64
}

type mtimePolicy int

const (
	mtimeFixed mtimePolicy = iota
	mtimeClamp
	mtimeKeep
)

// FixedMTime gives every entry the time t, in whole seconds.
func FixedMTime(t time.Time) MTime { return MTime{mtimeFixed, t.Unix()} }

// ClampMTime gives entries that are newer than t the time t; older ones keep theirs. All
// are cut to whole seconds, so that a copy through a tool that drops fractions gives the
// same bytes.
func ClampMTime(t time.Time) MTime { return MTime{mtimeClamp, t.Unix()} }

// KeepMTime keeps the times of the input, to the nanosecond.
func KeepMTime() MTime { return MTime{policy: mtimeKeep} }

// ParseMTime reads "keep", a time as in RFC 3339, or seconds since the epoch with or
// without a leading "@". All but "keep" give a fixed time.
func ParseMTime(s string) (MTime, error) {
	if s == "keep" {
		return KeepMTime(), nil
	}
	if sec, err := strconv.ParseInt(strings.TrimPrefix(s, "@"), 10, 64); err == nil {
		return MTime{mtimeFixed, sec}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return MTime{}, fmt.Errorf(`mtime %q: want "keep", an RFC 3339 time, or seconds since 1970`, s)
	}
	return FixedMTime(t), nil
}

// ParseSourceDateEpoch reads the value of the environment variable SOURCE_DATE_EPOCH, whose
// specification asks for times to be clamped. The empty string stands for one that is not set, and gives
// the zero MTime.
func ParseSourceDateEpoch(s string) (MTime, error) {
	if s == "" {
		return MTime{}, nil
	}
	sec, err := strconv.ParseInt(s, 10, 64)
	if err != nil || sec < 0 {
		return MTime{}, fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970", s)
	}
	return ClampMTime(time.Unix(sec, 0)), nil
}

// Apply returns the time of an entry whose input has the time t.
func (m MTime) Apply(t time.Time) time.Time {
	switch {
	case m.policy == mtimeKeep:
		return t
	case m.policy == mtimeClamp && !t.IsZero() && t.Unix() <= m.at:
		return time.Unix(t.Unix(), 0)
	}
	return time.Unix(m.at, 0)
}

// Made returns the time of an entry that has no counterpart in the input: the fixed time, the latest time
// if times are clamped, and else the epoch.
func (m MTime) Made() time.Time {
	return time.Unix(m.at, 0)
}

// Xattrs says which extended attributes are written.
type Xattrs int

const (
	// XattrsSecurity writes security.capability, which programs like ping need, only.
	XattrsSecurity Xattrs = iota
	// XattrsAll writes all, but for those that belong to the machine and not to the
	// image: security.selinux, trusted.overlay.* and user.overlay.*.
	XattrsAll
	// XattrsNone writes none.
	XattrsNone
)

// ParseXattrs reads "security", "all" or "none".
func ParseXattrs(s string) (Xattrs, error) {
	i := slices.Index([]string{"security", "all", "none"}, s)
	if i < 0 {
		return 0, fmt.Errorf(`xattrs %q: want "security", "all" or "none"`, s)
	}
	return Xattrs(i), nil
}

// Keeps reports whether the extended attribute called name is written.
func (x Xattrs) Keeps(name string) bool {
	switch x {
	case XattrsSecurity:
		return name == CapabilityXattr
	case XattrsAll:
		return name != "security.selinux" && !IsOverlayXattr(name)
	}
	return false
}

// IsOverlayXattr reports whether an extended attribute is one that overlay file systems mark files with.
func IsOverlayXattr(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}

// overlayMark returns the first name of an attribute of overlays among PAX records, or "".
func overlayMark(records map[string]string) string {
	mark := ""
	for key := range records {
		name, ok := strings.CutPrefix(key, XattrPrefix)
		if ok && IsOverlayXattr(name) && len(name) <= maxXattrName && (mark == "" || name < mark) {
			mark = strings.Clone(name)
		}
	}
	return mark
}

// CapabilityXattr is the extended attribute that gives a program capabilities (capabilities(7)).
const CapabilityXattr = "security.capability"

// ImageXattr returns the value of an extended attribute as it belongs in an image. A capability of
// revision 3 holds for one user namespace only. It becomes one of revision 2, which holds for the root of
// the container.
func ImageXattr(name, value string) string {
	const (
		revision2, revision3 = 2, 3
		lenV2, lenV3         = 20, 24
		revisionByte         = 3 // of a little-endian word; its other bytes are flags
	)
	if name != CapabilityXattr || len(value) != lenV3 || value[revisionByte] != revision3 {
		return value
	}
	v2 := []byte(value[:lenV2])
	v2[revisionByte] = revision2
	return string(v2)
}

// ImageRecords returns copies of those PAX records that belong in an image, with their values as they
// belong there; see [XattrsAll] and [ImageXattr]. The result is nil if there are none.
func ImageRecords(records map[string]string) map[string]string {
	var kept map[string]string
	for key, value := range records {
		attr, ok := strings.CutPrefix(key, XattrPrefix)
		if ok && !XattrsAll.Keeps(attr) || !keepRecord(key) {
			continue
		}
		if kept == nil {
			kept = make(map[string]string)
		}
		if ok {
			value = ImageXattr(attr, value)
		}
		kept[strings.Clone(key)] = strings.Clone(value)
	}

	return kept
}
