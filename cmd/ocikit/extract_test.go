package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
)

// A badImage is put together by hand, so that it may be wrong in any way.
type badImage struct {
	layers  [][]byte
	types   []string // media types, MediaTypeLayer if absent
	diffIDs []digest.Digest
	change  func(m *oci.Manifest, l *layout.Layout)
}

// store writes the image as the only one of a layout.
func (b badImage) store(t *testing.T, dir string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := layout.Init(dir)
	must(err)
	defer l.Close()
	put := func(mediaType string, data []byte) oci.Descriptor {
		d, size, err := l.Put(bytes.NewReader(data), digest.Digest{})
		must(err)
		return oci.Descriptor{MediaType: mediaType, Digest: d, Size: size}
	}
	config := oci.NewConfig(oci.Platform{OS: "linux", Architecture: "amd64"})
	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest}
	for i, data := range b.layers {
		mt := oci.MediaTypeLayer
		if i < len(b.types) {
			mt = b.types[i]
		}
		m.Layers = append(m.Layers, put(mt, data))
		id := digest.FromBytes(data)
		if i < len(b.diffIDs) {
			id = b.diffIDs[i]
		}
		must(config.AddLayer(id, oci.History{}))
	}
	doc, err := config.Encode()
	must(err)
	m.Config = put(oci.MediaTypeConfig, doc)
	if b.change != nil {
		b.change(&m, l)
	}
	doc, err = oci.Encode(m)
	must(err)
	desc := put(oci.MediaTypeManifest, doc)
	must(l.Update(t.Context(), func(x *oci.Index) error {
		x.Manifests = append(x.Manifests, desc.WithAnnotation(oci.AnnotationRefName, "t"))
		return nil
	}))
}

// plainTar makes a tar of lines: "name content", "name -> target", "name = link".
func plainTar(lines ...string) []byte {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, line := range lines {
		name, rest, _ := strings.Cut(line, " ")
		hdr := &tar.Header{Name: name, Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(rest))}
		if target, ok := strings.CutPrefix(rest, "-> "); ok {
			*hdr = tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}
		} else if target, ok := strings.CutPrefix(rest, "= "); ok {
			*hdr = tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}
		}
		tw.WriteHeader(hdr)
		if hdr.Typeflag == tar.TypeReg {
			tw.Write([]byte(rest))
		}
	}
	tw.Close()
	return buf.Bytes()
}

func gzipOf(data []byte) []byte {
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	zw.Write(data)
	zw.Close()
	return buf.Bytes()
}

// zstdOf is data in a frame that is not compressed.
func zstdOf(data []byte) []byte {
	out := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0}
	for len(data) > 1000 {
		out = append(append(out, 0x40, 0x1f, 0), data[:1000]...)
		data = data[1000:]
	}
	return append(append(out, byte(len(data)<<3|1), byte(len(data)>>5), 0), data...)
}

// TestExtractBadImages extracts and exports images that are wrong: status 1, one line, and
// nothing left, or the right file; and nothing beside the target changes.
func TestExtractBadImages(t *testing.T) {
	good := plainTar("f right")
	id := digest.FromBytes(good)
	gz := gzipOf(good)
	badCRC := bytes.Clone(gz)
	badCRC[len(badCRC)-6] ^= 1
	third := len(good) / 3
	gzType := []string{oci.MediaTypeLayerGzip}
	ids := []digest.Digest{id}
	for _, test := range []struct {
		name  string
		image badImage
		ok    bool
	}{
		{"control", badImage{layers: [][]byte{good}}, true},
		{"gzip", badImage{layers: [][]byte{gz}, types: gzType, diffIDs: ids}, true},
		{"three members of gzip, split within an entry", badImage{layers: [][]byte{bytes.Join([][]byte{gzipOf(good[:third]), gzipOf(good[third : third+1]), gzipOf(good[third+1:])}, nil)}, types: gzType, diffIDs: ids}, true},
		{"gzip behind which zeros stand", badImage{layers: [][]byte{append(bytes.Clone(gz), make([]byte, 512)...)}, types: gzType, diffIDs: ids}, true},
		{"wrong CRC of gzip", badImage{layers: [][]byte{badCRC}, types: gzType, diffIDs: ids}, false},
		{"gzip that is cut", badImage{layers: [][]byte{gz[:len(gz)-9]}, types: gzType, diffIDs: ids}, false},
		{"type of gzip, plain bytes", badImage{layers: [][]byte{good}, types: gzType}, true},
		{"zstd", badImage{layers: [][]byte{zstdOf(good)}, types: []string{oci.MediaTypeLayerZstd}, diffIDs: ids}, true},
		{"zstd that is cut", badImage{layers: [][]byte{zstdOf(good)[:900]}, types: []string{oci.MediaTypeLayerZstd}, diffIDs: ids}, false},
		{"gzip in gzip", badImage{layers: [][]byte{gzipOf(gz)}, types: gzType, diffIDs: []digest.Digest{digest.FromBytes(gz)}}, false},
		{"foreign layer that is there", badImage{layers: [][]byte{gz}, types: []string{oci.MediaTypeDockerLayerForeign}, diffIDs: ids}, true},
		{"type that is not a layer", badImage{layers: [][]byte{good}, types: []string{"text/plain"}}, false},
		{"wrong diff ID", badImage{layers: [][]byte{good}, diffIDs: []digest.Digest{digest.FromBytes(nil)}}, false},
		{"wrong diff ID of a layer that gives nothing to the result", badImage{layers: [][]byte{plainTar("x y"), plainTar(".wh.x", "f right")}, diffIDs: ids}, false},
		{"fewer diff IDs than layers", badImage{layers: [][]byte{good}, change: func(m *oci.Manifest, _ *layout.Layout) { m.Layers = append(m.Layers, m.Layers[0]) }}, false},
		{"no layers", badImage{change: func(*oci.Manifest, *layout.Layout) {}}, true},
		{"layer that is not there", badImage{layers: [][]byte{good}, change: func(m *oci.Manifest, _ *layout.Layout) { m.Layers[0].Digest = digest.FromBytes([]byte("absent")) }}, false},
		{"size one less", badImage{layers: [][]byte{good}, change: func(m *oci.Manifest, _ *layout.Layout) { m.Layers[0].Size-- }}, false},
		{"random text", badImage{layers: [][]byte{[]byte("random text")}}, false},
		{"tar that is cut", badImage{layers: [][]byte{good[:514]}}, false},
		{"tar without its end", badImage{layers: [][]byte{good[:1024]}}, true},
		{"another tar behind the end", badImage{layers: [][]byte{append(bytes.Clone(good), plainTar("evil x")...)}}, true},
		{"name that climbs", badImage{layers: [][]byte{plainTar("../pwned x")}}, false},
		{"hard link out", badImage{layers: [][]byte{plainTar("h = ../canary/victim")}}, false},
		{"file through a link out", badImage{layers: [][]byte{plainTar("d -> ../canary", "d/victim x", "f right")}}, true},
		{"whiteout through a link out", badImage{layers: [][]byte{plainTar("d -> ../../canary", "f right"), plainTar("d/.wh.victim")}}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			test.image.store(t, filepath.Join(dir, "app"))
			if err := os.MkdirAll(filepath.Join(dir, "canary"), 0o755); err != nil {
				t.Fatal(err)
			}
			os.WriteFile(filepath.Join(dir, "canary/victim"), []byte("untouched"), 0o600)
			before := treeText(t, dir, "none")
			for _, target := range []string{"new", "empty"} {
				to := filepath.Join(dir, "in", target)
				os.MkdirAll(filepath.Dir(to), 0o755)
				if target == "empty" {
					os.Mkdir(to, 0o755)
				}
				status, out, errs := runOcikit(context.Background(), strings.NewReader(""), "extract", "-q", filepath.Join(dir, "app")+":t", to)
				if out != "" || test.ok != (status == 0) || !test.ok && (status != 1 || strings.Count(errs, "\n") > 1 && !strings.Contains(errs, "hint: ")) {
					t.Errorf("extract: status %d, stdout %q, stderr %q", status, out, errs)
				}
				if data, _ := os.ReadFile(filepath.Join(to, "f")); test.ok && len(test.image.layers) > 0 && string(data) != "right" {
					t.Errorf("f has %q", data)
				}
				if left := treeText(t, filepath.Join(dir, "in"), "none"); !test.ok && left != "" && left != "empty drwxr-xr-x \n" {
					t.Errorf("left behind:\n%s", left)
				}
			}
			if after := treeText(t, dir, "in"); after != before {
				t.Errorf("outside of the target:\n%s\nwas\n%s", after, before)
			}
			file := filepath.Join(dir, "out.tar")
			status, _, errs := runOcikit(context.Background(), strings.NewReader(""), "export", filepath.Join(dir, "app")+":t", "-o", file)
			if _, err := os.Stat(file); test.ok != (status == 0) || test.ok != (err == nil) {
				t.Errorf("export: status %d, file: %v, stderr %q", status, err, errs)
			}
		})
	}
}

// treeText describes a tree, but for what is called except.
func treeText(t *testing.T, dir, except string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		if e.Name() == except {
			return fs.SkipDir
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		data, _ := os.ReadFile(path)
		rel, err := filepath.Rel(dir, path)
		fmt.Fprintf(&b, "%s %v %x\n", rel, info.Mode(), data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestExportOnce exports and flattens layers that can be written in one reading, and others that cannot,
// since a path comes twice: what a pipe gets, with a temporary file or without, and what a file and a new
// layer hold is what two readings give, as they do for paths.
func TestExportOnce(t *testing.T) {
	for name, layers := range map[string][][]byte{
		"one reading":            {plainTar("d/f right", "l -> d/f", "h = d/f")},
		"a path twice":           {plainTar("f wrong and longer", "g x", "f right")},
		"two layers":             {plainTar("f wrong", "g x"), plainTar("f right")},
		"a whiteout of its own":  {plainTar("f right", ".wh.f")},
		"a path twice, and late": {plainTar("f wrong", "big "+strings.Repeat("x", 1<<20), "f right")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			badImage{layers: layers}.store(t, "app")
			status, want, stderr := runOcikit(t.Context(), nil, "export", "app", "/")
			if status != 0 {
				t.Fatalf("export of the root: status %d, %s", status, stderr)
			}
			for _, temp := range []string{t.TempDir(), "absent"} {
				t.Setenv("TMPDIR", temp)
				if status, got, stderr := runOcikit(t.Context(), nil, "export", "app"); status != 0 || got != want {
					t.Errorf("export to a pipe by %q: status %d, %d bytes, want %d\n%s", temp, status, len(got), len(want), stderr)
				}
				if left, _ := os.ReadDir(temp); len(left) > 0 {
					t.Errorf("temporary files are left: %v", left)
				}
			}
			if status, _, stderr := runOcikit(t.Context(), nil, "export", "app", "-o", "file"); status != 0 {
				t.Fatalf("export to a file: status %d, %s", status, stderr)
			}
			if got, err := os.ReadFile("file"); err != nil || string(got) != want {
				t.Errorf("a file of %d bytes, %v; want %d", len(got), err, len(want))
			}

			if status, _, stderr := runOcikit(t.Context(), nil, "flatten", "app", "-t", "flat"); status != 0 {
				t.Fatalf("flatten: status %d, %s", status, stderr)
			}
			status, got, stderr := runOcikit(t.Context(), nil, "layers", "app:flat")
			if status != 0 || !strings.Contains(got, digest.FromBytes([]byte(want)).String()) {
				t.Errorf("layers: status %d, %s%s; want diff ID %s", status, got, stderr, digest.FromBytes([]byte(want)))
			}
		})
	}
}
