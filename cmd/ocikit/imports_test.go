package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// allowedImports is the direction of imports: documents know no HTTP, the wire knows no
// flags, tarutil and oci know nothing of each other, cmd holds no format or protocol. A new
// edge is argued for in its commit.
var allowedImports = map[string][]string{
	"digest":             {},
	"tarutil":            {"tarutil/gunzip", "tarutil/gzip", "tarutil/zstd"},
	"tarutil/gunzip":     {},
	"tarutil/gzip":       {},
	"tarutil/zstd":       {},
	"tarutil/estargz":    {"digest", "tarutil", "tarutil/gzip"},
	"oci":                {"digest"},
	"oci/progress":       {"digest"},
	"oci/layout":         {"digest", "oci", "oci/progress"},
	"oci/image":          {"digest", "oci", "oci/layout", "tarutil", "tarutil/gzip", "tarutil/estargz"},
	"oci/archive":        {"digest", "oci", "oci/layout", "oci/image", "tarutil", "tarutil/gzip"},
	"oci/archive/split":  {"digest", "oci", "oci/progress", "tarutil"},
	"oci/registry":       {"digest", "oci"},
	"oci/registry/probe": {"digest", "oci", "oci/registry"},
	"oci/registry/pull":  {"digest", "oci", "oci/layout", "oci/progress", "oci/registry"},
	"oci/registry/serve": {"digest", "oci", "oci/layout", "oci/progress"},
	"pushcmd":            {"digest", "oci", "oci/layout", "oci/progress", "oci/registry"},
	"cmd/ocikit":         {"digest", "oci", "oci/layout", "oci/image", "oci/archive", "oci/archive/split", "oci/progress", "oci/registry", "oci/registry/probe", "oci/registry/pull", "oci/registry/serve", "pushcmd", "tarutil", "tarutil/gzip", "tarutil/estargz"},
}

func TestImports(t *testing.T) {
	root := "../.."
	err := filepath.WalkDir(root, func(file string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (e.Name() == "testdata" || e.Name() == ".git" || e.Name() == "scripts") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(rel)
		allowed, ok := allowedImports[pkg]
		if !ok && !strings.HasSuffix(pkg, "test") {
			t.Errorf("package %s is not in the table", pkg)
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			name, _ := strconv.Unquote(spec.Path.Value)
			first, _, _ := strings.Cut(name, "/")
			switch inner, own := strings.CutPrefix(name, "ocikit/"); {
			case own && ok && !slices.Contains(allowed, inner):
				t.Errorf("%s imports %s", path.Join(pkg, filepath.Base(file)), inner)
			case !own && strings.Contains(first, "."):
				t.Errorf("%s imports %s: the standard library only", file, name)
			case !strings.HasSuffix(pkg, "test") && pkg != "cmd/ocikit" && pkg != "oci/registry" && pkg != "oci/registry/serve" && pkg != "pushcmd" && (name == "net/http" || name == "flag"):
				t.Errorf("%s imports %s", file, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestModuleHasNoDependencies(t *testing.T) {
	data, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"require", "replace", "tool "} {
		if strings.Contains(string(data), word) {
			t.Errorf("go.mod has a %s", word)
		}
	}
	if _, err := os.Stat("../../go.sum"); err == nil {
		t.Error("go.sum exists")
	}
}
