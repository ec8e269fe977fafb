//go:build unix

package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"ocikit/digest/digesttest"
	"ocikit/oci/layout"
	"ocikit/oci/layout/layouttest"
)

// TestUnbundleInChild is the process that TestUnbundleSurvives kills.
func TestUnbundleInChild(t *testing.T) {
	dir := os.Getenv("OCIKIT_TEST_UNBUNDLE")
	if dir == "" {
		t.Skip("it runs as a child of another test")
	}
	l, err := layout.Init(dir)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(os.Stderr, "ready")
	if _, err := Unbundle(t.Context(), l, os.Stdin, UnbundleOptions{}); err != nil && !errors.Is(err, layout.ErrIncomplete) {
		t.Fatal(err)
	}
}

// Bundles are applied many times (OCIKIT_UNBUNDLE_RUNS), in random order, some of them again and again, by processes of
// which many are killed. Every name is true at any moment, and once each bundle was applied
// without being killed the layout is the same, byte for byte, whatever happened before.
func TestUnbundleSurvives(t *testing.T) {
	runs := digesttest.Reps(100, 5)
	if n, err := strconv.Atoi(os.Getenv("OCIKIT_UNBUNDLE_RUNS")); err == nil {
		runs = n
	}
	for _, c := range []struct {
		name    string
		bundles [][]byte
	}{
		{"sparse", chain(newNear(t))},
		{"deltas", deltaChain(newNear(t))},
	} {
		t.Run(c.name, func(t *testing.T) { survives(t, c.bundles, runs) })
	}
}

func survives(t *testing.T, bundles [][]byte, runs int) {
	calm := layouttest.New(t)
	for _, b := range bundles {
		apply(t, calm, b)
	}
	want := snapshot(t, calm.Name())
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	took := 20 * time.Millisecond // of a run that is not killed, from its first byte on
	applied, killed, layouts := 0, 0, 0
	for applied < runs {
		dir := filepath.Join(t.TempDir(), "far")
		layouts++
		todo := []int{0, 1, 2, 3}
		for range r.IntN(4) {
			todo = append(todo, r.IntN(len(bundles))) // again
		}
		r.Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
		for len(todo) > 0 {
			i := todo[0]
			todo = todo[1:]
			applied++
			cmd := exec.Command(exe, "-test.run=^TestUnbundleInChild$")
			cmd.Env = append(os.Environ(), "OCIKIT_TEST_UNBUNDLE="+dir, "GORACE=atexit_sleep_ms=0") // it would wait a second
			var out bytes.Buffer
			cmd.Stdout = &out
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			io.ReadFull(stderr, make([]byte, len("ready\n")))
			start := time.Now()
			switch r.IntN(4) {
			case 0: // in the middle of the stream
				in.Write(bundles[i][:r.IntN(len(bundles[i]))])
				time.Sleep(time.Duration(r.Int64N(int64(took))))
				cmd.Process.Kill()
				in.Close()
			case 1: // at any time
				in.Write(bundles[i])
				in.Close()
				time.Sleep(time.Duration(r.Int64N(int64(took))))
				cmd.Process.Kill()
			default:
				in.Write(bundles[i])
				in.Close()
			}
			io.Copy(io.Discard, stderr)
			if cmd.Wait() == nil {
				took = (3*took + time.Since(start)) / 4
			} else if cmd.ProcessState.ExitCode() != -1 {
				t.Fatalf("apply: %s", out.String())
			} else {
				killed++
				todo = slices.Insert(todo, r.IntN(len(todo)+1), i) // at another time
			}
			l, err := layout.Init(dir)
			if err != nil {
				t.Fatal(err)
			}
			wholeNames(t, l)
			l.Close()
		}
		compareSnapshots(t, fmt.Sprintf("layout %d", layouts), snapshot(t, dir), want)
	}
	if killed < runs/10 {
		t.Errorf("of %d runs only %d were killed", applied, killed)
	}
	t.Logf("%d runs, %d of them killed; %d layouts, all the same", applied, killed, layouts)
}
