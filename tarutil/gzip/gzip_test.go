package gzip

import (
	"bytes"
	stdgzip "compress/gzip"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"ocikit/tarutil/internal/tartest"
)

var update = flag.Bool("update", false, "rewrite the golden digests")

// kinds are one level of each kind; TestLevels says which the others equal.
var kinds = []int{0, 1, 6, 9}

// compress writes data in pieces of the sizes which cut returns.
func compress(t testing.TB, data []byte, level, workers int, cut func() int) []byte {
	t.Helper()
	var out bytes.Buffer
	z, err := NewWriter(&out, level, workers)
	if err != nil {
		t.Fatal(err)
	}
	tartest.Compress(t, z, data, cut)
	return out.Bytes()
}

func whole() int { return math.MaxInt }

// expand reads one member and insists on nothing behind it.
func expand(t testing.TB, z []byte) []byte {
	t.Helper()
	in := bytes.NewReader(z)
	r, err := stdgzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	r.Multistream(false)
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("reading back: %v", err)
	}
	if in.Len() > 0 {
		t.Fatalf("%d bytes behind the member", in.Len())
	}
	return data
}

// A packed is a sample at one level.
type packed struct {
	sample
	level  int
	member []byte
}

// allPacked are all samples at all levels, for the tests that read them. They are made once.
var allPacked = sync.OnceValue(func() (list []packed) {
	for _, s := range samples() {
		for _, level := range kinds {
			var out bytes.Buffer
			z, err := NewWriter(&out, level, 3)
			if err == nil {
				_, err = z.Write(s.data)
				err = errors.Join(err, z.Close())
			}
			if err != nil {
				panic(err)
			}
			list = append(list, packed{s, level, out.Bytes()})
		}
	}
	return list
})

func TestRoundTrip(t *testing.T) {
	for _, p := range allPacked() {
		if !bytes.Equal(expand(t, p.member), p.data) {
			t.Errorf("%s, level %d: the round trip changed the data", p.name, p.level)
		}
	}
}

// The digests must never change but by a decision to change the format.
func TestGolden(t *testing.T) {
	var got strings.Builder
	for _, p := range allPacked() {
		fmt.Fprintf(&got, "%s %d %d %x\n", p.name, p.level, len(p.member), sha256.Sum256(p.member))
	}
	tartest.Golden(t, got.String(), *update)
}

func TestLevels(t *testing.T) {
	data := mixed(100000)
	for level, like := range []int{0, 1, 1, 1, 6, 6, 6, 9, 9, 9} {
		if !bytes.Equal(compress(t, data, level, 1, whole), compress(t, data, like, 1, whole)) {
			t.Errorf("level %d differs from level %d", level, like)
		}
	}
}

// Neither how writes are cut nor how many blocks are compressed at once has to do with the level,
// so the ways are shared out among the levels.
func TestSameBytesHoweverWritten(t *testing.T) {
	data := mixed(5 * blockSize / 2)
	r := random(5)
	cut := func() int { return 1 + r.below(300000) }
	ways := []struct {
		workers int
		cut     func() int
	}{
		{2, cut}, {0, cut}, {3, cut}, {8, cut},
		{2, whole},
		{2, func() int { return blockSize }},
		{2, func() int { return 1 + r.below(2000) }},
	}
	for i, level := range kinds {
		want := compress(t, data, level, 1, whole)
		for j := i; j < len(ways); j += len(kinds) {
			way := ways[j]
			if got := compress(t, data, level, way.workers, way.cut); !bytes.Equal(got, want) {
				t.Errorf("level %d, way %d with %d workers: other bytes", level, j, way.workers)
			}
		}
	}
}

// An encoder must not remember what it compressed before.
func TestEncoderForgets(t *testing.T) {
	for _, level := range []int{1, 6, 9} {
		var out bytes.Buffer
		z, _ := NewWriter(&out, level, 1)
		var starts []int64
		data := [][]byte{noise(300000), text(99999), machine(blockSize + 7), text(1000), text(99999)}
		for _, d := range data {
			z.Write(d)
			z.EndMember(func(at int64) { starts = append(starts, at) })
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		start := int64(0)
		for i, end := range starts {
			if !bytes.Equal(out.Bytes()[start:end], compress(t, data[i], level, 1, whole)) {
				t.Errorf("level %d: member %d depends on those before it", level, i)
			}
			start = end
		}
	}
}

// Other programs read all samples at all levels as the members of one stream: they take longer to
// start than to read.
func TestOtherReaders(t *testing.T) {
	var stream []byte
	for _, p := range allPacked() {
		stream = append(stream, p.member...)
	}
	for _, args := range [][]string{
		{"gunzip", "-t"},
		{"pigz", "-t"},
		{"python3", "-c", `import sys, zlib
rest, n = sys.stdin.buffer.read(), 0
while rest:
    d = zlib.decompressobj(31)
    d.decompress(rest)
    assert d.eof, n
    rest, n = d.unused_data, n + 1`},
	} {
		t.Run(args[0], func(t *testing.T) {
			if _, err := exec.LookPath(args[0]); err != nil {
				t.Skipf("no %s here", args[0])
			}
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Stdin = bytes.NewReader(stream)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func FuzzRoundTrip(f *testing.F) {
	for _, s := range samples() {
		if len(s.data) < 5000 {
			f.Add(s.data, uint64(len(s.data)), uint16(1))
		}
	}
	f.Add(text(3000), uint64(7), uint16(300))
	f.Add(machine(5000), uint64(8), uint16(400))
	f.Fuzz(func(t *testing.T, data []byte, seed uint64, times uint16) {
		data = bytes.Repeat(data, min(int(times), (600<<10)/(len(data)+1))) // to reach past a block
		r := random(seed)
		for _, level := range kinds {
			cut := func() int { return 100 + r.below(1+r.below(200000)) }
			z := compress(t, data, level, 1+r.below(4), cut)
			if !bytes.Equal(expand(t, z), data) {
				t.Errorf("level %d: the round trip changed the data", level)
			}
			if !bytes.Equal(z, compress(t, data, level, 1, whole)) {
				t.Errorf("level %d: the bytes depend on how they were written", level)
			}
		}
	})
}
