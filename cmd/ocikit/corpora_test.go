package main

import (
	"bytes"
	"compress/bzip2"
	"encoding/base64"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ocikit/digest/digesttest"
)

// corpora are the files that Go's own tests of tar and compression read. They are on the machine of
// everybody who builds this.
var corpora = []string{"archive/tar/testdata", "compress/gzip/testdata", "compress/bzip2/testdata", "internal/zstd/testdata"}

// notEstargz are the files that have no form as eStargz: sparse files, and a name that is not UTF-8.
var notEstargz = []string{
	"gnu-not-utf8.tar", "sparse-formats.tar",
	"gnu-nil-sparse-data.tar", "gnu-nil-sparse-hole.tar", "pax-nil-sparse-data.tar", "pax-nil-sparse-hole.tar",
}

// TestCorpora sends each file of the corpora through each command that takes a tar. All give the
// same answer, within the bounds that hostile input gets.
func TestCorpora(t *testing.T) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	goroot := strings.TrimSpace(string(out))
	if err != nil || goroot == "" {
		t.Skip("there is no GOROOT here")
	}
	hostilePlace(t)
	seen := 0
	for _, dir := range corpora {
		names, _ := filepath.Glob(filepath.Join(goroot, "src", dir, "*"))
		for i, name := range names {
			data := corpusFile(t, name)
			if len(data) == 0 || len(data) > 8<<20 {
				continue
			}
			seen++
			base := filepath.Base(name)
			var answers []string
			for j, args := range tarCommands {
				switch {
				case (i+j)%digesttest.Reps(1, 3) != 0: // -short: each file meets some of the commands
				case strings.Contains(args, "--sort"): // it mends what others refuse
				case strings.Contains(args, "estargz") && slices.Contains(notEstargz, base):
				default:
					answers = append(answers, corpusAnswer(t, base, string(data), args))
				}
			}
			if len(slices.Compact(slices.Sorted(slices.Values(answers)))) > 1 {
				t.Errorf("%s: commands disagree: %q", base, answers)
			}
		}
	}
	if seen < 40 {
		t.Errorf("%d files of the corpora were read, want 40 at least", seen)
	}
}

// corpusFile returns a file as its tests mean it.
func corpusFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if base, ok := strings.CutSuffix(name, ".base64"); ok {
		text := bytes.Join(bytes.Fields(data), nil)
		if data, err = base64.StdEncoding.DecodeString(string(text)); err != nil {
			t.Fatalf("%s: %v", base, err)
		}
	}
	if strings.HasSuffix(name, ".tar.bz2") {
		if data, err = io.ReadAll(bzip2.NewReader(bytes.NewReader(data))); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return data
}

// corpusAnswer runs one command and says whether it took the file.
func corpusAnswer(t *testing.T, name, data, args string) (answer string) {
	t.Run(name+"/"+args, func(t *testing.T) {
		answer = "refused"
		if checkHostile(t, data, strings.Fields(args), accept|reject) {
			answer = "taken"
		}
	})
	return answer
}
