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

// frame is what every command has around it.
var frame = []string{"cmd/ocikit/internal/show", "cmd/ocikit/internal/cli", "cmd/ocikit/internal/operands", "cmd/ocikit/internal/commonflags"}

// speakHTTP are the packages that may use net/http and flag, besides those below cmd
// and oci/registry/serve and oci/registry/tap.
var speakHTTP = []string{"oci/registry", "oci/registry/auth", "oci/registry/wire", "pushcmd"}

// allowedImports is the direction of imports: documents know no HTTP, the wire knows no
// flags, tarutil and oci know nothing of each other, cmd holds no format or protocol. Below cmd
// every package outside may be used, and the table tells who may use whom inside. A new edge is
// argued for in its commit.
var allowedImports = map[string][]string{
	"digest":             {},
	"tarutil":            {"tarutil/gunzip", "tarutil/gzip", "tarutil/zstd"},
	"tarutil/gunzip":     {"tarutil/internal/deflate"},
	"tarutil/entropy":    {},
	"tarutil/gzip":       {"tarutil/entropy", "tarutil/internal/deflate"},
	"tarutil/zstd":       {"tarutil/entropy"},
	"tarutil/rangecoder": {},
	"tarutil/delta":      {"tarutil/internal/inorder", "tarutil/rangecoder"},
	"tarutil/recipe":     {"tarutil", "tarutil/entropy", "tarutil/gunzip", "tarutil/gzip", "tarutil/internal/deflate", "tarutil/internal/inorder", "tarutil/rangecoder", "tarutil/zstd"},
	"tarutil/estargz":    {"digest", "tarutil", "tarutil/gzip"},

	"tarutil/internal/deflate": {},
	"tarutil/internal/handle":  {"tarutil"},
	"tarutil/internal/inorder": {},
	"tarutil/pack":             {"tarutil", "tarutil/internal/handle"},
	"tarutil/rewrite":          {"tarutil"},
	"tarutil/stack":            {"tarutil", "tarutil/internal/handle"},
	"tarutil/diff":             {"tarutil"},
	"tarutil/cause":            {"tarutil", "tarutil/gunzip"},

	"oci/archive/layerdelta": {"digest", "oci/disk", "tarutil", "tarutil/delta", "tarutil/recipe"},

	"oci":                {"digest"},
	"oci/progress":       {"digest"},
	"oci/set":            {"digest", "oci"}, // lists, filters and locks: text about images, wherever they are
	"oci/graph":          {"digest", "oci"},
	"oci/source":         {"digest", "oci", "oci/disk", "oci/graph", "oci/progress"},
	"oci/disk":           {},
	"oci/layout":         {"digest", "oci", "oci/disk", "oci/graph", "oci/progress", "oci/source"},
	"oci/image":          {"digest", "oci", "oci/graph", "oci/layout", "oci/source", "tarutil", "tarutil/rewrite", "tarutil/stack", "tarutil/gzip", "tarutil/zstd", "tarutil/estargz"},
	"oci/image/bundle":   {"oci"},
	"oci/image/why":      {"digest", "oci", "oci/graph", "oci/image", "oci/source", "tarutil", "tarutil/cause", "tarutil/diff", "tarutil/recipe", "tarutil/stack"},
	"oci/archive":        {"digest", "oci", "oci/disk", "oci/graph", "oci/layout", "oci/progress", "oci/source", "oci/image", "oci/archive/layerdelta", "oci/archive/split", "tarutil", "tarutil/delta"},
	"oci/archive/split":  {"digest", "oci", "oci/disk", "oci/progress", "tarutil"},
	"oci/registry":       {"digest", "oci", "oci/graph", "oci/progress", "oci/source", "oci/registry/auth", "oci/registry/wire"},
	"oci/registry/auth":  {"oci", "oci/registry/wire"},
	"oci/registry/wire":  {"oci"},
	"oci/registry/probe": {"digest", "oci", "oci/graph", "oci/registry"},
	"oci/registry/pull":  {"digest", "oci", "oci/graph", "oci/layout", "oci/progress", "oci/registry"},
	"pushcmd":            {"digest", "oci", "oci/disk", "oci/graph", "oci/source", "oci/layout", "oci/progress", "oci/registry", "oci/registry/wire"},
	"cmd/ocikit":         {"cmd/ocikit/internal/cli", "cmd/ocikit/internal/display", "cmd/ocikit/internal/operands", "cmd/ocikit/internal/commonflags", "cmd/ocikit/internal/layercmd", "cmd/ocikit/internal/documentcmd", "cmd/ocikit/internal/layoutcmd", "cmd/ocikit/internal/imagecmd", "cmd/ocikit/internal/carrycmd", "cmd/ocikit/internal/registrycmd", "cmd/ocikit/internal/tapcmd"},

	"cmd/ocikit/internal/show":        {},
	"cmd/ocikit/internal/display":     {"cmd/ocikit/internal/show"},
	"cmd/ocikit/internal/cli":         {"cmd/ocikit/internal/show", "cmd/ocikit/internal/display"},
	"cmd/ocikit/internal/operands":    {"cmd/ocikit/internal/show", "cmd/ocikit/internal/cli", "cmd/ocikit/internal/commonflags"},
	"cmd/ocikit/internal/commonflags": {"cmd/ocikit/internal/cli", "cmd/ocikit/internal/show"},
	"cmd/ocikit/internal/layercmd":    frame,
	"cmd/ocikit/internal/documentcmd": frame,
	"cmd/ocikit/internal/layoutcmd":   frame,
	"cmd/ocikit/internal/imagecmd":    slices.Concat(frame, []string{"cmd/ocikit/internal/layercmd"}), // append makes layers as layer does
	"cmd/ocikit/internal/carrycmd":    frame,
	"cmd/ocikit/internal/registrycmd": frame,

	// A registry to talk to: what a request is, what goes wrong on purpose, what is seen of it.
	"oci/registry/serve":          {"digest", "oci", "oci/archive", "oci/archive/split", "oci/graph", "oci/disk", "oci/source", "oci/layout", "oci/progress", "oci/registry", "oci/registry/pull", "oci/registry/serve/access", "oci/registry/serve/exchange", "oci/registry/serve/fault", "oci/registry/serve/live", "oci/registry/serve/page"},
	"oci/registry/serve/exchange": {},
	"oci/registry/serve/access":   {"oci/registry/serve/exchange"},
	"oci/registry/serve/fault":    {"oci", "oci/registry/serve/exchange"},
	"oci/registry/serve/live":     {"oci/registry/serve/exchange"},
	"oci/registry/serve/page":     {"oci", "oci/graph", "oci/source", "oci/registry/serve/exchange", "oci/registry/serve/live"},

	// What stands between: the tap shares with serve what a request is, faults and page.
	"oci/registry/tap":           {"digest", "oci/registry/serve/exchange", "oci/registry/serve/fault", "oci/registry/serve/live", "oci/registry/tap/judge", "oci/registry/tap/record", "oci/registry/wire"},
	"oci/registry/tap/record":    {"oci", "oci/registry/serve/exchange", "oci/registry/wire"},
	"oci/registry/tap/judge":     {"digest", "oci/registry/serve/exchange", "oci/registry/tap/record", "oci/registry/wire"},
	"oci/registry/tap/replay":    {"digest", "oci/registry", "oci/registry/serve/exchange", "oci/registry/tap/judge", "oci/registry/tap/record", "oci/registry/wire"},
	"cmd/ocikit/internal/tapcmd": frame,
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
			case own && ok && !slices.Contains(allowed, inner) && (strings.HasPrefix(inner, "cmd/") || !strings.HasPrefix(pkg, "cmd/")):
				t.Errorf("%s imports %s", path.Join(pkg, filepath.Base(file)), inner)
			case !own && strings.Contains(first, "."):
				t.Errorf("%s imports %s: the standard library only", file, name)
			case !strings.HasSuffix(pkg, "test") && !slices.Contains(speakHTTP, pkg) && !strings.HasPrefix(pkg, "oci/registry/serve") && !strings.HasPrefix(pkg, "oci/registry/tap") && !strings.HasPrefix(pkg, "cmd/") && (name == "net/http" || name == "flag"):
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
