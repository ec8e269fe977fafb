package stack

import (
	"archive/tar"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ocikit/tarutil/internal/tartest"
)

// TestExtractWhereFilesAreMadeOtherwise extracts where files do not get what they are made with: by
// umask, by the group of their directory, by a list of access that directories hand down. What is
// left out since a file has it already must be what it has.
func TestExtractWhereFilesAreMadeOtherwise(t *testing.T) {
	const defaultACL = "system.posix_acl_default"
	setACL := func(dir string) error {
		acl := binary.LittleEndian.AppendUint32(nil, 2) // the version
		for _, e := range [][3]uint32{{1, 7, 1<<32 - 1}, {2, 7, 1000}, {4, 4, 1<<32 - 1}, {16, 7, 1<<32 - 1}, {32, 0, 1<<32 - 1}} {
			acl = binary.LittleEndian.AppendUint16(acl, uint16(e[0])) // whom it is for
			acl = binary.LittleEndian.AppendUint16(acl, uint16(e[1])) // permissions
			acl = binary.LittleEndian.AppendUint32(acl, e[2])         // user
		}
		return syscall.Setxattr(dir, defaultACL, acl, 0)
	}
	setGroup := func(dir string) error {
		if err := os.Chown(dir, -1, 50); err != nil {
			return err
		}
		return os.Chmod(dir, 0o755|os.ModeSetgid)
	}
	plain := func(string) error { return nil }

	// Each mode comes twice, and once more for somebody else.
	var layer []entry
	for i := range 3 {
		for _, mode := range []int64{0o644, 0o755, 0o600, 0o666, 0o777, 0o664, 0o400, 0, 0o4755, 0o2755} {
			e := entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("d%d/f%o", i, mode), Mode: mode, ModTime: time.Unix(1000, 0)}}
			if i == 2 && os.Geteuid() == 0 {
				e.Uid, e.Gid = 7, 50
			}
			layer = append(layer, e)
		}
	}
	layers := []Layer{bytesLayer("0", layerTar(t, layer))}
	s, err := Apply(t.Context(), layers, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := describeTree(t, s)
	if os.Geteuid() != 0 {
		want = withoutOwners(want)
	}

	for i := range want {
		want[i] = strings.TrimSuffix(want[i], ` ""`)
	}

	for _, test := range []struct {
		name  string
		umask int
		setUp func(dir string) error
	}{
		{"umask 022", 0o022, plain},
		{"umask 077", 0o077, plain},
		{"umask 0", 0, plain},
		{"group of the directory", 0o002, setGroup},
		{"default ACL", 0o022, setACL},
	} {
		dir := filepath.Join(t.TempDir(), "root")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := test.setUp(dir); err != nil {
			t.Logf("%s cannot be tried here: %v", test.name, err)
			continue
		}
		before := tartest.Umask(test.umask)
		got, err := extractTo(t, layers, dir)
		tartest.Umask(before)
		if err != nil {
			t.Fatal(err)
		}
		if os.Geteuid() != 0 {
			got = withoutOwners(got)
		}
		for i, line := range got { // the list is that of the directory in which all of this lies
			got[i], _, _ = strings.Cut(line, " SCHILY.xattr.system.posix_acl")
			got[i] = strings.TrimSuffix(got[i], ` ""`)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", test.name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// asNobody runs the test t once more as an ordinary user, if it runs as root. It returns whether that
// was so, and the test is done.
func asNobody(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return false
	}

	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Env = append(os.Environ(), "TMPDIR=", "GOTMPDIR=") // ours may be closed to others
	out, err := cmd.CombinedOutput()
	if !strings.Contains(string(out), "=== RUN") {
		t.Skipf("cannot run as another user: %v", err)
	}
	if err != nil {
		t.Errorf("as another user: %v\n%s", err, out)
	}
	return true
}

// TestExtractRefusedDevices extracts devices that the system refuses to make, as it does for the root
// of a user namespace: one that is skipped is skipped under all of its names.
func TestExtractRefusedDevices(t *testing.T) {
	if asNobody(t) {
		return
	}

	layer := []entry{
		{Header: tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}},
		{Header: tar.Header{Name: "again", Typeflag: tar.TypeLink, Linkname: "null"}},
		{Header: tar.Header{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o600}},
		{Header: tar.Header{Name: "hole", Typeflag: tar.TypeLink, Linkname: "fifo"}},
	}
	for i := range layer {
		layer[i].Uid, layer[i].Gid = os.Geteuid(), os.Getegid()
	}

	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()

	_, done, err := Extract(t.Context(), root, []Layer{bytesLayer("0", layerTar(t, layer))}, Options{}, ExtractOptions{Owners: true})
	if want := (Extracted{Files: 2, Devices: 2}); err != nil || done != want {
		t.Errorf("Extract = %+v, %v, want %+v", done, err, want)
	}
}

// TestExtractUserXattrs extracts what an ordinary user may not write to once it has its permissions:
// it has its attributes all the same.
func TestExtractUserXattrs(t *testing.T) {
	if asNobody(t) {
		return
	}

	dir := t.TempDir()
	if err := syscall.Setxattr(dir, "user.note", []byte("x"), 0); err != nil {
		t.Skipf("the file system has no such attributes: %v", err)
	}

	// How files are made depends on those made before: each comes several times.
	var layer []entry
	for i := range 3 {
		for _, mode := range []int64{0o444, 0o644, 0, 0o555} {
			e := entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("f%o.%d", mode, i), Mode: mode}}
			if mode == 0o555 {
				e.Typeflag = tar.TypeDir
			}
			e.PAXRecords = map[string]string{"SCHILY.xattr.user.note": e.Name}
			layer = append(layer, e)
		}
	}

	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()

	_, done, err := Extract(t.Context(), root, []Layer{bytesLayer("0", layerTar(t, layer))}, Options{}, ExtractOptions{})
	if want := (Extracted{Files: len(layer)}); err != nil || done != want {
		t.Errorf("Extract = %+v, %v, want %+v", done, err, want)
	}
	for _, e := range layer {
		path := filepath.Join(dir, e.Name)
		info, err := os.Stat(path)
		if err != nil || int64(info.Mode().Perm()) != e.Mode {
			t.Errorf("%s: %v, %v", e.Name, info, err)
		}

		// Not even the owner may read the attributes of a file with mode 0.
		os.Chmod(path, 0o700)
		value := make([]byte, 64)
		if n, err := syscall.Getxattr(path, "user.note", value); err != nil || string(value[:n]) != e.Name {
			t.Errorf("%s: user.note is %q, %v", e.Name, value[:max(n, 0)], err)
		}
	}
}
