package set

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"ocikit/digest"
	"ocikit/oci"
)

func TestReadList(t *testing.T) {
	list, err := ReadList(strings.NewReader("\ufeff# mirror these\n\nalpine:3.20\r\n quay.io/a/b:v1 as c # why\none two\na as\nb#c\n"))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []Line{
		{Number: 3, Name: "alpine:3.20"}, {Number: 4, Name: "quay.io/a/b:v1", As: "c"},
		{Number: 5, Name: "one two"}, {Number: 6, Name: "a as"}, {Number: 7, Name: "b#c"},
	} {
		got := list[i]
		if bad := i == 2 || i == 3; bad != (got.Err != nil) {
			t.Errorf("%q: error %v", got.Name, got.Err)
		}
		if got.Err = nil; got != want {
			t.Errorf("line %d: got %+v, want %+v", i, got, want)
		}
	}
	for name, text := range map[string]string{
		"a long line":    strings.Repeat("x", maxLine+1),
		"too many lines": strings.Repeat("x\n", maxLines+1),
	} {
		if _, err := ReadList(strings.NewReader(text)); err == nil || len(err.Error()) > 100 {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if list, err := ReadList(strings.NewReader(strings.Repeat("x\n", maxLines))); err != nil || len(list) != maxLines {
		t.Errorf("as many lines as may be: %d, %v", len(list), err)
	}
	broken := errors.New("broken")
	if _, err := ReadList(io.MultiReader(strings.NewReader("x\n"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("a reader that breaks: %v", err)
	}
}

func TestFilter(t *testing.T) {
	for _, tt := range []struct {
		tags, exclude, name string
		want                bool
	}{
		{"", "", "r.test/a:v1", true},
		{"v*", "", "r.test/a:v1", true},
		{"v*", "", "r.test/a:w1", false},
		{"v*", "", "r.test/a@" + digest.FromBytes(nil).String(), true},
		{"", "*-rc?", "r.test/a:v1-rc2", false},
		{"", "r.test/*", "r.test/a/b/c:v1", false},
		{"", "r.test/*:v2", "r.test/a/b/c:v1", true},
		{"r.test/a:*", "", "r.test/b:v1", false},
	} {
		f := Filter{}
		if tt.tags != "" {
			f.Tags = []string{tt.tags}
		}
		if tt.exclude != "" {
			f.Exclude = []string{tt.exclude}
		}
		if got := f.Takes(oci.SplitName(tt.name)); got != tt.want || f.Check() != nil {
			t.Errorf("%+v takes %s: %t, %v", f, tt.name, got, f.Check())
		}
	}
	for _, bad := range []string{"", "[", "a["} {
		if (Filter{Tags: []string{bad}}).Check() == nil {
			t.Errorf("pattern %q is taken", bad)
		}
	}
}

func TestReadLock(t *testing.T) {
	d := digest.FromBytes(nil).String()
	for text, ok := range map[string]bool{
		"":                       true,
		"# made by pull\nb " + d: true,
		"a " + d + "\na " + d:    true,
		"a\n":                    false,
		"a " + d + " x\n":        false,
		"a sha256:1\n":           false,
		"a blake3:" + strings.Repeat("a", 64) + "\n": false,
		"a " + d + "\na sha512:1234":                 false,
	} {
		if _, err := ReadLock(strings.NewReader(text)); ok != (err == nil) {
			t.Errorf("%q: %v", text, err)
		}
	}
	two := "a " + d + "\na " + strings.Replace(d, "e3", "e4", 1)
	if _, err := ReadLock(strings.NewReader(two)); err == nil || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("two digests of one name: %v does not say which name", err)
	}
}

func TestWriteLockFails(t *testing.T) {
	r, w := io.Pipe()
	r.Close()
	if err := (Lock{"a": digest.FromBytes(nil)}).Write(w); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Write = %v, want %v", err, io.ErrClosedPipe)
	}
}

// What is written is sorted, and read back as it was.
func FuzzLock(f *testing.F) {
	d := digest.FromBytes(nil).String()
	f.Add("b " + d + "\na " + d + "\n")
	f.Add("# x\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := ReadLock(strings.NewReader(text))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := l.Write(&b); err != nil {
			t.Fatal(err)
		}
		again, err := ReadLock(bytes.NewReader(b.Bytes()))
		if err != nil || !maps.Equal(l, again) || !slices.IsSorted(strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")) {
			t.Errorf("%q: %q, %v", text, b.String(), err)
		}
	})
}

// A line of a list that has no error names something that a line can hold.
func FuzzList(f *testing.F) {
	f.Add("alpine\nquay.io/a:v1 as b # c\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ReadList(strings.NewReader(text))
		for _, l := range list {
			if l.Err == nil && (l.Name == "" || len(strings.Fields(l.Name)) != 1 || strings.HasPrefix(l.Name, "#") || len(strings.Fields(l.As)) > 1) {
				t.Errorf("%q: %+v, %v", text, l, err)
			}
		}
	})
}
