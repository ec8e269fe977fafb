package tarutil

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// reps returns how often a test does what it does: under -short it is a part.
func reps(full, short int) int {
	if testing.Short() {
		return short
	}
	return full
}

var goroot = sync.OnceValue(func() string {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
})

// tree makes a directory from lines: "name/" is a directory, "name -> target" a symbolic
// link, "name = other" a hard link, "name content" a file.
func tree(t testing.TB, lines ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, line := range lines {
		var err error
		name, rest, _ := strings.Cut(line, " ")
		path := filepath.Join(root, name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		switch {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case strings.HasPrefix(rest, "-> "):
			err = os.Symlink(rest[3:], path)
		case strings.HasPrefix(rest, "= "):
			err = os.Link(filepath.Join(root, rest[2:]), path)
		default:
			err = os.WriteFile(path, []byte(rest), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// pack packs, and checks that what comes out is whole.
func pack(t testing.TB, opts PackOptions, sources ...Source) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := Pack(context.Background(), &buf, sources, opts); err != nil {
		t.Fatal(err)
	}
	if err := check(&Checker{}, buf.Bytes(), 4096); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// list describes the entries of a tar: name, then the target of a link, or the content.
func list(t testing.TB, data []byte) []string {
	t.Helper()
	var lines []string
	tr := tar.NewReader(bytes.NewReader(data))
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		line := hdr.Name
		switch hdr.Typeflag {
		case tar.TypeSymlink:
			line += " -> " + hdr.Linkname
		case tar.TypeLink:
			line += " = " + hdr.Linkname
		case tar.TypeReg:
			if len(content) > 0 {
				line += " " + string(content)
			}
		case tar.TypeDir:
		default:
			line += fmt.Sprintf(" type %c %d:%d", hdr.Typeflag, hdr.Devmajor, hdr.Devminor)
		}
		lines = append(lines, line)
	}
}

func wantList(t *testing.T, what string, data []byte, want ...string) {
	t.Helper()
	if got := list(t, data); !slices.Equal(got, want) {
		t.Errorf("%s:\ngot  %q\nwant %q", what, got, want)
	}
}
