// Package bundle makes the configuration of a runtime bundle from that of an image: [Config] writes
// the config.json that runc and its like read beside the files of the image.
package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"ocikit/oci"
)

// Options say what the runtime configuration of an image depends on besides its config.
type Options struct {
	// ReadFile reads a file of the image, for names of users and groups. An error that wraps
	// fs.ErrNotExist stands for an empty file.
	ReadFile func(path string) ([]byte, error)
	// Rootless makes it one for a user without the rights of root, with the numbers UID and
	// GID, who is root in the container. No other number is mapped there, so the process runs as
	// root, whatever user the image asks for.
	Rootless bool
	UID, GID int

	// Notice is told where the configuration is not what the image asks for; nil for nobody.
	Notice func(text string)
}

// errNoUser means that the user an image is to run as is not in its /etc/passwd or
// /etc/group.
var errNoUser = errors.New("no such user")

// Config converts the config of an image to the config.json of a runtime bundle, by the
// rules of conversion.md; the file system is expected in "rootfs". What these rules leave
// open is as `runc spec` has it, but for these: no terminal; the capabilities that Docker
// gives, without those to make devices and to write the audit log; PATH has Docker's default if
// Env does not name it; no program is "sh"; volumes are file systems in memory with a copy of
// what the image has there, so that the image's files stay as they are.
func Config(v oci.View, o Options) ([]byte, error) {
	user, err := runtimeUser(v.Config.User, o)
	if err != nil {
		return nil, fmt.Errorf("user %q: %w", v.Config.User, err)
	}

	// A runtime refuses to start a process with a user or a group that is not mapped.
	if o.Rootless && (user.UID != 0 || user.GID != 0 || len(user.AdditionalGIDs) > 0) {
		if o.Notice != nil {
			o.Notice(fmt.Sprintf("the image asks for user %q, and the bundle runs it as 0:0, which is you: no other user is mapped", v.Config.User))
		}
		user = runtimeIDs{}
	}

	// Cmd follows Entrypoint ("Verbatim Fields", note 2).
	args := append(slices.Clone(v.Config.Entrypoint), v.Config.Cmd...)
	if len(args) == 0 {
		args = []string{"sh"}
	}

	// A variable may be added, if Env does not have it (note 1).
	env := slices.Clone(v.Config.Env)
	if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "PATH=") }) {
		env = append(env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}

	caps := capabilities()
	spec := runtimeSpec{
		Version: "1.0.2",
		Process: runtimeProcess{
			User: user, Args: args, Env: env, Cwd: "/" + strings.TrimLeft(v.Config.WorkingDir, "/"),
			Capabilities:    runtimeCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
			Rlimits:         []runtimeLimit{{"RLIMIT_NOFILE", 1024, 1024}},
			NoNewPrivileges: true,
		},
		Root:        runtimeRoot{Path: "rootfs"},
		Hostname:    "ocikit",
		Mounts:      runtimeMounts(o.Rootless, v.Config.Volumes),
		Annotations: runtimeAnnotations(v),
		Linux:       runtimeIsolation(o),
	}

	data, err := json.MarshalIndent(spec, "", "\t")
	if err != nil {
		return nil, err
	}

	return append(data, '\n'), nil
}

// The runtime specification's config.json, as far as it is written here.
type runtimeSpec struct {
	Version     string            `json:"ociVersion"`
	Process     runtimeProcess    `json:"process"`
	Root        runtimeRoot       `json:"root"`
	Hostname    string            `json:"hostname"`
	Mounts      []runtimeMount    `json:"mounts"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Linux       runtimeLinux      `json:"linux"`
}

type runtimeProcess struct {
	Terminal        bool                `json:"terminal"`
	User            runtimeIDs          `json:"user"`
	Args            []string            `json:"args"`
	Env             []string            `json:"env"`
	Cwd             string              `json:"cwd"`
	Capabilities    runtimeCapabilities `json:"capabilities"`
	Rlimits         []runtimeLimit      `json:"rlimits"`
	NoNewPrivileges bool                `json:"noNewPrivileges"`
}

type runtimeIDs struct {
	UID            uint32   `json:"uid"`
	GID            uint32   `json:"gid"`
	AdditionalGIDs []uint32 `json:"additionalGids,omitempty"`
}

type runtimeCapabilities struct {
	Bounding  []string `json:"bounding"`
	Effective []string `json:"effective"`
	Permitted []string `json:"permitted"`
}

type runtimeLimit struct {
	Type string `json:"type"`
	Hard uint64 `json:"hard"`
	Soft uint64 `json:"soft"`
}

type runtimeRoot struct {
	Path     string `json:"path"`
	ReadOnly bool   `json:"readonly"`
}

type runtimeMount struct {
	Destination string   `json:"destination"`
	Type        string   `json:"type"`
	Source      string   `json:"source"`
	Options     []string `json:"options,omitempty"`
}

type runtimeLinux struct {
	UIDMappings   []runtimeMapping   `json:"uidMappings,omitempty"`
	GIDMappings   []runtimeMapping   `json:"gidMappings,omitempty"`
	Namespaces    []runtimeNamespace `json:"namespaces"`
	MaskedPaths   []string           `json:"maskedPaths"`
	ReadonlyPaths []string           `json:"readonlyPaths"`
}

type runtimeMapping struct {
	Container int `json:"containerID"`
	Host      int `json:"hostID"`
	Size      int `json:"size"`
}

type runtimeNamespace struct {
	Type string `json:"type"`
}

func capabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE",
		"CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
	}
}

func runtimeMounts(rootless bool, volumes map[string]struct{}) []runtimeMount {
	pts := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
	sys := runtimeMount{"/sys", "sysfs", "sysfs", []string{"nosuid", "noexec", "nodev", "ro"}}

	// Without root the container keeps the host's network, so sysfs cannot be mounted anew and the
	// host's is bound. One group alone is mapped, so there is none for terminals.
	if rootless {
		sys = runtimeMount{"/sys", "none", "/sys", []string{"rbind", "nosuid", "noexec", "nodev", "ro"}}
	} else {
		pts = append(pts, "gid=5")
	}

	mounts := []runtimeMount{
		{"/proc", "proc", "proc", nil},
		{"/dev", "tmpfs", "tmpfs", []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{"/dev/pts", "devpts", "devpts", pts},
		{"/dev/shm", "tmpfs", "shm", []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{"/dev/mqueue", "mqueue", "mqueue", []string{"nosuid", "noexec", "nodev"}},
		sys,
	}

	for _, v := range slices.Sorted(maps.Keys(volumes)) {
		mounts = append(mounts, runtimeMount{"/" + strings.TrimLeft(v, "/"), "tmpfs", "tmpfs", []string{"nosuid", "nodev", "tmpcopyup"}})
	}

	return mounts
}

func runtimeIsolation(o Options) runtimeLinux {
	l := runtimeLinux{
		MaskedPaths: []string{
			"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
			"/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
		},
		ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
	}

	kinds := []string{"pid", "network", "ipc", "uts", "mount"}
	if o.Rootless { // who is not root cannot set up a network of its own
		kinds = []string{"pid", "ipc", "uts", "mount", "user"}
		l.UIDMappings = []runtimeMapping{{0, o.UID, 1}}
		l.GIDMappings = []runtimeMapping{{0, o.GID, 1}}
	}

	for _, k := range kinds {
		l.Namespaces = append(l.Namespaces, runtimeNamespace{k})
	}

	return l
}

// runtimeAnnotations converts the "Annotation Fields". Labels count more.
func runtimeAnnotations(v oci.View) map[string]string {
	const prefix = "org.opencontainers.image."
	a := map[string]string{}
	for key, value := range map[string]string{
		"os": v.OS, "architecture": v.Architecture, "variant": v.Variant, "os.version": v.OSVersion,
		"os.features": strings.Join(v.OSFeatures, ","), "author": v.Author, "created": v.Created,
		"stopSignal":   v.Config.StopSignal,
		"exposedPorts": strings.Join(slices.Sorted(maps.Keys(v.Config.ExposedPorts)), ","),
	} {
		if value != "" {
			a[prefix+key] = value
		}
	}
	maps.Copy(a, v.Config.Labels)
	return a
}

// runtimeUser converts "Config.User": user, or user:group, each a name or a number.
func runtimeUser(s string, o Options) (runtimeIDs, error) {
	var ids runtimeIDs
	if s == "" {
		return ids, nil
	}

	user, group, hasGroup := strings.Cut(s, ":")

	// A user by number need not be in /etc/passwd. If it is, that names its group (config.md,
	// "User").
	number, err := strconv.ParseUint(user, 10, 31)
	numeric := err == nil
	entry, err := lookUp(o, "/etc/passwd", 7, func(f []string) bool {
		return f[0] == user || numeric && f[2] == strconv.FormatUint(number, 10)
	})

	switch {
	case err != nil:
		return ids, err
	case entry == nil && !numeric:
		return ids, fmt.Errorf("%w in /etc/passwd", errNoUser)
	case numeric:
		ids.UID = uint32(number)
	default:
		if ids.UID, err = fileID(entry[2]); err != nil {
			return ids, fmt.Errorf("/etc/passwd: %w", err)
		}
	}

	if hasGroup && group != "" {
		ids.GID, err = groupID(group, o)
		return ids, err
	}

	if entry != nil {
		if ids.GID, err = fileID(entry[3]); err != nil {
			return ids, fmt.Errorf("/etc/passwd: %w", err)
		}
	}

	// Further groups are those of a user by name. A converter should not set them for a number, nor
	// beside a group ("Config.User").
	if !numeric {
		ids.AdditionalGIDs, err = groupsOf(user, ids.GID, o)
	}

	return ids, err
}

// groupID returns the number of a group.
func groupID(group string, o Options) (uint32, error) {
	if n, err := strconv.ParseUint(group, 10, 31); err == nil {
		return uint32(n), nil
	}
	entry, err := lookUp(o, "/etc/group", 4, func(f []string) bool { return f[0] == group })
	if err != nil {
		return 0, err
	}
	if entry == nil {
		return 0, fmt.Errorf("group %q: %w in /etc/group", group, errNoUser)
	}
	return fileID(entry[2])
}

// groupsOf returns the further groups that a user is a member of.
func groupsOf(user string, main uint32, o Options) (gids []uint32, err error) {
	_, err = lookUp(o, "/etc/group", 4, func(f []string) bool {
		if slices.Contains(strings.Split(f[3], ","), user) {
			if id, err := fileID(f[2]); err == nil && id != main && !slices.Contains(gids, id) {
				gids = append(gids, id)
			}
		}
		return false
	})
	return gids, err
}

// lookUp returns the fields of the first line that matches, or nil. Lines with fewer fields
// are passed over.
func lookUp(o Options, file string, fields int, match func([]string) bool) ([]string, error) {
	data, err := o.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimRight(line, "\r\n"), ":")
		if len(f) >= fields && match(f) {
			return f, nil
		}
	}
	return nil, nil
}

// fileID reads a number of /etc/passwd or /etc/group.
func fileID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number of a user or group: %w", s, oci.ErrMalformed)
	}
	return uint32(n), nil
}
