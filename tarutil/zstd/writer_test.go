package zstd

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"ocikit/tarutil/internal/tartest"
)

// ownLevels are one level of each kind; TestLevels says which the others equal.
var ownLevels = []int{1, 3, 9}

// pack compresses data with the Writer, in pieces of the sizes which cut returns.
func pack(t testing.TB, data []byte, level, workers int, cut func() int) []byte {
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

// contents are those of corpus, and some that are longer than a job or of a special length. They
// come from integers alone, so that they are the same on every machine. They are made once, and
// no test changes them.
var contents = sync.OnceValue(func() map[string][]byte {
	all := corpus()
	delete(all, "skewed") // by floating point
	text, noise := all["text"], all["noise"]
	long := bytes.Repeat(append(text[:300_000:300_000], noise[:200_000]...), 11)
	all["jobs"] = long
	all["onejob"] = long[:jobSize]
	all["onejobmore"] = long[:jobSize+padding-1]
	all["twojobs"] = long[:jobSize+padding]
	all["oneblock"] = text[:maxBlock]
	all["oneblockmore"] = text[:maxBlock+1]
	all["model"] = model(rand.New(rand.NewPCG(7, 7)), 500_000)
	return all
})

// A packed is one of contents at one level.
type packed struct {
	name  string
	level int
	frame []byte
}

// allPacked are all contents at all levels, sorted, for the tests that read them.
var allPacked = sync.OnceValue(func() (list []packed) {
	all := contents()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, level := range ownLevels {
			var out bytes.Buffer
			z, err := NewWriter(&out, level, 3)
			if err == nil {
				_, err = z.Write(all[name])
				err = errors.Join(err, z.Close())
			}
			if err != nil {
				panic(err)
			}
			list = append(list, packed{name, level, out.Bytes()})
		}
	}
	return list
})

func TestWriterRoundTrip(t *testing.T) {
	for _, p := range allPacked() {
		want := contents()[p.name]
		got, err := decompress(p.frame)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s, level %d: %d bytes back, %v; want %d", p.name, p.level, len(got), err, len(want))
		}
	}
}

// The digests must never change but by a decision to change the format.
func TestWriterGolden(t *testing.T) {
	var got strings.Builder
	for _, p := range allPacked() {
		fmt.Fprintf(&got, "%s %d %d %x\n", p.name, p.level, len(p.frame), sha256.Sum256(p.frame))
	}
	tartest.Golden(t, got.String(), *update)
}

func TestLevels(t *testing.T) {
	data := contents()["model"][:100_000]
	own := map[int][]byte{}
	for _, level := range ownLevels {
		own[level] = pack(t, data, level, 1, whole)
	}
	for i, like := range []int{1, 1, 3, 3, 3, 9, 9, 9, 9} {
		if !bytes.Equal(pack(t, data, i+1, 1, whole), own[like]) {
			t.Errorf("level %d differs from level %d", i+1, like)
		}
	}
	for _, level := range []int{-1, 0, 10} {
		if _, err := NewWriter(io.Discard, level, 1); err == nil {
			t.Errorf("NewWriter with level %d gives no error", level)
		}
	}
}

// The input is longer than the ring, so that the places of old jobs are used again. Neither how
// writes are cut nor how many jobs run at once has to do with the level, so the ways are shared
// out among the levels. The digests were made with one worker and one write, and never change.
func TestSameBytesHoweverWritten(t *testing.T) {
	rnd := rand.New(rand.NewPCG(9, 1))
	data := model(rnd, jobSize/2)
	for len(data) < ringSize+jobSize {
		at := rnd.IntN(len(data) / 2)
		data = append(data, data[at:at+len(data)/2]...)
	}
	data = data[:ringSize+jobSize+jobSize/2]
	random := func() int { return 1 + rnd.IntN(300000) }
	small := func() int { return 1 + rnd.IntN(5000) }
	job := func() int { return jobSize }
	for _, test := range []struct {
		level, workers int
		cut            func() int
		want           string
	}{
		{1, 8, job, "fcbbb2aa51b10dc45b4f932cf017ae82390a68823ded17db1f8213e17a18b107"},
		{1, 0, random, "fcbbb2aa51b10dc45b4f932cf017ae82390a68823ded17db1f8213e17a18b107"},
		{1, 2, small, "fcbbb2aa51b10dc45b4f932cf017ae82390a68823ded17db1f8213e17a18b107"},
		{3, 3, random, "8572f734ea957fa16db2b4fbec02648a761f274cf98d799681527b0aeadc7627"},
		{9, 5, random, "c555ab39670681220e785ca49fe02513b8069f3f9378fa513c146d4eed9ba763"},
	} {
		frame := pack(t, data, test.level, test.workers, test.cut)
		if got := fmt.Sprintf("%x", sha256.Sum256(frame)); got != test.want {
			t.Errorf("level %d, %d workers: digest %s, want %s", test.level, test.workers, got, test.want)
		}
		if test.level < 9 {
			continue // nothing can be wrong with the same bytes; the frame with the farthest matches stands for all
		}
		if got, err := decompress(frame); err != nil || !bytes.Equal(got, data) {
			t.Errorf("level %d: the round trip changed the data: %v", test.level, err)
		}
	}
}

// An encoder must not remember what it compressed before.
func TestEncoderForgets(t *testing.T) {
	all := contents()
	for _, level := range ownLevels {
		e := newEncoder(levelOf(level))
		run := func(e *encoder, data []byte) []byte {
			b := new(ring)
			b.put(0, data)
			return bytes.Clone(e.job(nil, b, &job{to: len(data), last: true}))
		}
		for _, name := range []string{"noise", "text", "zeros", "model", "short", "text"} {
			data := all[name][:min(len(all[name]), 2*maxBlock)]
			want := run(newEncoder(levelOf(level)), data)
			if !bytes.Equal(run(e, data), want) {
				t.Errorf("level %d: %s depends on what came before", level, name)
			}
		}
	}
}

// The program zstd reads all contents at all levels as the frames of one stream.
func TestProgramReads(t *testing.T) {
	needProgram(t)
	var stream, want []byte
	for _, p := range allPacked() {
		stream = append(stream, p.frame...)
		want = append(want, contents()[p.name]...)
	}
	cmd := exec.Command("zstd", "-dc")
	cmd.Stdin = bytes.NewReader(stream)
	if got, err := cmd.Output(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v; want %d", len(got), err, len(want))
	}
}

func TestWriteErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which ends when all goroutines have
		data := model(rand.New(rand.NewPCG(3, 3)), 3*jobSize/2)
		for _, short := range []bool{false, true} {
			for k := 1; ; k++ {
				w := &tartest.FaultWriter{At: k, Short: short}
				z, _ := NewWriter(w, 1, 3)
				_, err := z.Write(data)
				err = errors.Join(err, z.Close())
				if w.Calls < k { // all Writes went well
					break
				}
				want := tartest.ErrFault
				if short {
					want = io.ErrShortWrite
				}
				if !errors.Is(err, want) {
					t.Fatalf("write %d broken: got %v, want %v", k, err, want)
				}
				if _, err := z.Write(data[:1]); err != want {
					t.Errorf("Write after the error = %v, want %v", err, want)
				}
				if err := z.Close(); err != want {
					t.Errorf("Close after the error = %v, want %v", err, want)
				}
				if _, err := decompress(w.Buf.Bytes()); err == nil && w.Buf.Len() > 0 {
					t.Fatalf("write %d broken: the output looks whole", k)
				}
			}
		}
	})
}

func TestDroppedWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which ends when all goroutines have
		var out bytes.Buffer
		z, _ := NewWriter(&out, 9, 4)
		z.Write(model(rand.New(rand.NewPCG(4, 4)), 3*jobSize))
		synctest.Wait()
		if _, err := decompress(out.Bytes()); err == nil && out.Len() > 0 {
			t.Error("without Close the output looks whole")
		}
	})
}

func TestWriterClose(t *testing.T) {
	var out bytes.Buffer
	z, _ := NewWriter(&out, 3, 1)
	if err := errors.Join(z.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	if got, err := decompress(out.Bytes()); len(got) != 0 || err != nil {
		t.Errorf("no input gives %d bytes, %v", len(got), err)
	}
	if _, err := z.Write([]byte("x")); err != errClosed {
		t.Errorf("Write after Close = %v, want %v", err, errClosed)
	}
}

// Distributions must add up, give each symbol that is there a state, and be read back.
func TestNormalize(t *testing.T) {
	e := newEncoder(levelOf(1))
	rnd := rand.New(rand.NewPCG(5, 5))
	for range tartest.Reps(3000, 300) {
		counts := make([]uint32, 2+rnd.IntN(51))
		for i := range counts {
			if rnd.IntN(3) > 0 {
				counts[i] = rnd.Uint32() >> (14 + rnd.IntN(18))
			}
		}
		counts[0]++
		counts[len(counts)-1]++
		norm := make([]int16, len(counts))
		log := uint8(7 + rnd.IntN(3))
		normalize(&e.logs, norm, counts, log)
		sum := uint32(0)
		for s, c := range counts {
			if c > 0 != (norm[s] != 0) {
				t.Fatalf("count %d has the share %d", c, norm[s])
			}
			sum += share(norm[s]) * min(c, 1)
		}
		if sum != 1<<log {
			t.Fatalf("shares of %v add up to %d of %d", norm, sum, 1<<log)
		}
		data := appendDistribution(nil, norm, log)
		got, gotLog, used, err := readCounts(data, make([]int16, 53), 9)
		if err != nil || !slices.Equal(got, norm) || gotLog != log || used != len(data) {
			t.Fatalf("distribution %v is read as %v (%d of %d bytes), %v", norm, got, used, len(data), err)
		}
	}
}

// A decoder must find the sequences that were encoded, whatever their numbers are: those that are
// all small, and those whose bits fill a word to the last.
func TestSequences(t *testing.T) {
	rnd := rand.New(rand.NewPCG(6, 6))
	upTo := func(log int) uint32 { return rnd.Uint32N(1 << rnd.IntN(log+1)) }
	e, d := newEncoder(levelOf(1)), newBlockDecoder()
	e.repeats = repeats{1, 4, 8}
	d.reset()
	for range 300 {
		// Half of the blocks have low numbers alone, and so distances that were there before.
		logs := [3]int{16, 16, 23}
		if rnd.IntN(2) == 0 {
			logs = [3]int{1, 6, 3}
		}
		q := new(sequences)
		var want []decoded
		for range 1 + rnd.IntN(300) {
			l, m, dist := upTo(logs[0]), minMatch+upTo(logs[1]), 1+upTo(logs[2])
			q.addMatch(int(l), int(m), int(dist))
			want = append(want, decoded{uint(l), uint(m), uint(dist)})
		}
		e.out = e.out[:0]
		e.sequences(q)

		data := d.packed.content(len(e.out))
		copy(data, e.out)
		count, rest, err := d.readTables(data)
		if err != nil || count != len(want) {
			t.Fatalf("%d sequences are read as %d, %v", len(want), count, err)
		}
		r := sequenceReader{packed: &d.packed, end: margin + len(data), first: margin + len(data) - len(rest), recent: d.recent}
		if err := r.begin(d); err != nil {
			t.Fatal(err)
		}
		var got []decoded
		for count > 0 {
			count--
			got = append(got, d.next(&r, count == 0))
		}
		d.recent = r.recent
		if r.left() != 0 || !slices.Equal(got, want) {
			t.Fatalf("%d bits are left; sequences\n%v are read as\n%v", r.left(), want, got)
		}
	}
}

// Sequences give what they say byte by byte: those that are plain, those that are not by a little, in
// blocks that they fill to the last byte, and with a window.
func TestExecution(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	e, d := newEncoder(levelOf(1)), newBlockDecoder()
	for range 300 {
		e.repeats, d.recent = repeats{1, 4, 8}, offsets{1, 4, 8}
		start, window := 1+rnd.IntN(100), 1+rnd.IntN(2000)
		want := make([]byte, start)
		for i := range want {
			want[i] = byte(rnd.Uint32())
		}

		// A list of them, what they give, and the literals they take.
		q := new(sequences)
		used := 0
		for range 1 + rnd.IntN(400) {
			l, m := rnd.IntN(1+rnd.IntN(40)), minMatch+rnd.IntN(1+rnd.IntN(70))
			for range l {
				d.literals[used] = byte(rnd.Uint32())
				want = append(want, d.literals[used])
				used++
			}
			dist := 1 + rnd.IntN(min(1+rnd.IntN(200), window, len(want)))
			for range m {
				want = append(want, want[len(want)-dist])
			}
			q.addMatch(l, m, dist)
		}
		e.out = e.out[:0]
		e.sequences(q)

		data := d.packed.content(len(e.out))
		copy(data, e.out)
		count, rest, err := d.readTables(data)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, len(want)+slack)
		copy(buf, want[:start])
		r := sequenceReader{packed: &d.packed, end: margin + len(data), first: margin + len(data) - len(rest), recent: d.recent}
		x := execution{buf: buf, start: start, at: start, limit: len(want), window: window, literals: used}
		if err := d.sequences(&r, &x, count); err != nil || x.at != len(want) || !bytes.Equal(buf[:x.at], want) {
			t.Fatalf("%d sequences of %d bytes gave %d bytes, %v; or others", count, len(want)-start, x.at-start, err)
		}

		// One byte less of room, of literals or of a window is an error.
		for _, less := range []func(x *execution){
			func(x *execution) { x.limit-- },
			func(x *execution) { x.literals-- },
			func(x *execution) { x.window = 0 },
		} {
			r := sequenceReader{packed: &d.packed, end: margin + len(data), first: margin + len(data) - len(rest), recent: d.recent}
			x := execution{buf: buf, start: start, at: start, limit: len(want), window: window, literals: used}
			less(&x)
			if err := d.sequences(&r, &x, count); !errors.Is(err, ErrCorrupt) && used > 0 {
				t.Fatalf("sequences with less than they need: %v", err)
			}
		}
	}
}

func FuzzWriter(f *testing.F) {
	for _, content := range corpus() {
		f.Add(content[:min(len(content), 3000)], uint64(len(content)), uint16(1))
	}
	f.Add([]byte("abcdefgh"), uint64(7), uint16(60000))
	f.Fuzz(func(t *testing.T, data []byte, seed uint64, times uint16) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		data = bytes.Repeat(data, min(int(times), 3<<20/(len(data)+1))) // to reach past a job
		for range min(rnd.IntN(50), len(data)) {
			data[rnd.IntN(len(data))] = byte(rnd.Uint32())
		}
		level := ownLevels[rnd.IntN(len(ownLevels))]
		z := pack(t, data, level, 1+rnd.IntN(4), func() int { return 100 + rnd.IntN(1+rnd.IntN(400000)) })
		if got, err := decompress(z); err != nil || !bytes.Equal(got, data) {
			t.Errorf("level %d: the round trip changed the data: %v", level, err)
		}
		if !bytes.Equal(z, pack(t, data, level, 1, whole)) {
			t.Errorf("level %d: the bytes depend on how they were written", level)
		}
	})
}
