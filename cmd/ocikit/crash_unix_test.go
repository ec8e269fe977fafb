//go:build unix

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
)

// realBinary returns the program, built for the test unless OCIKIT_BINARY names one.
func realBinary(t *testing.T) string {
	t.Helper()
	if name := os.Getenv("OCIKIT_BINARY"); name != "" {
		return name
	}
	name := filepath.Join(t.TempDir(), "ocikit")
	if out, err := exec.Command("go", "build", "-o", name, ".").CombinedOutput(); err != nil {
		t.Skipf("the program cannot be built here: %v\n%s", err, out)
	}
	return name
}

// A crashWorld is a layout that processes work on, and what they need for it.
type crashWorld struct {
	t       *testing.T
	dir     string
	binary  string
	n       int
	names   map[string]digest.Digest // that are durable
	desc    string                   // the base image, a line
	archive string                   // of another image; "" if the program cannot load
}

func (w *crashWorld) path(name string) string { return filepath.Join(w.dir, name) }

// command returns a command that reads stdin, and has the layout "l".
func (w *crashWorld) command(stdin string, args ...string) *exec.Cmd {
	cmd := exec.Command(w.binary, args...)
	cmd.Dir = w.dir
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Stdout, cmd.Stderr = new(bytes.Buffer), new(bytes.Buffer)
	return cmd
}

func (w *crashWorld) must(stdin string, args ...string) string {
	w.t.Helper()
	cmd := w.command(stdin, args...)
	if err := cmd.Run(); err != nil {
		w.t.Fatalf("ocikit %q: %v: %s", args, err, cmd.Stderr)
	}
	return cmd.Stdout.(*bytes.Buffer).String()
}

// noise writes a file, or a directory with one, that nothing else equals.
func (w *crashWorld) noise(size int) string {
	w.t.Helper()
	w.n++
	name := fmt.Sprintf("noise%d", w.n)
	data := make([]byte, size)
	rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%032d", w.n)))).Read(data)
	if err := os.WriteFile(w.path(name), data, 0o644); err != nil {
		w.t.Fatal(err)
	}
	return name
}

func newCrashWorld(t *testing.T) *crashWorld {
	w := &crashWorld{t: t, dir: t.TempDir(), binary: realBinary(t), names: map[string]digest.Digest{}}
	image := func(l, tag string, size int) string {
		w.must("", "init", l)
		layer := w.must("", "layer", l, "--compress", "none", w.tar(size))
		return w.must(w.must(w.must(layer, "config", l), "manifest", l), "tag", l+":"+tag)
	}
	w.desc = image("l", "base", 100_000)
	image("other", "src", 3_000_000)
	if slices.ContainsFunc(commands(), func(c cli.Command) bool { return c.Name == "load" }) &&
		slices.ContainsFunc(commands(), func(c cli.Command) bool { return c.Name == "save" }) {
		w.must("", "save", "other:src", "-o", "archive.tar")
		w.archive = "archive.tar"
	}
	w.learn()
	return w
}

// tar returns a tar with one file of noise.
func (w *crashWorld) tar(size int) string {
	name := w.noise(size)
	w.must("", "tar", name, "-o", name+".tar")
	return name + ".tar"
}

// learn takes the names that the layout has for durable.
func (w *crashWorld) learn() {
	w.t.Helper()
	l, err := layout.Open(w.path("l"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer l.Close()
	x, err := l.Index()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range x.Manifests {
		w.names[operands.NameOf(e)] = e.Digest
	}
}

// check fails unless the layout verifies and has every name that was durable.
func (w *crashWorld) check(what string) {
	w.t.Helper()
	l, err := layout.Open(w.path("l"))
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	defer l.Close()
	findings, _, err := l.Verify(w.t.Context(), layout.VerifyOptions{})
	if err != nil || len(findings) > 0 {
		w.t.Fatalf("%s: Verify = %+v, %v", what, findings, err)
	}
	for name, want := range w.names {
		got, err := l.Resolve(oci.ImageName{Tag: name})
		if err != nil || got.Digest != want {
			w.t.Fatalf("%s: the name %q, once durable: %s, %v", what, name, got.Digest, err)
		}
	}
	w.learn()
}

// A crashKind is a command that writes to the layout.
type crashKind struct {
	name string
	// prepare makes what the command needs and returns it, ready to start.
	prepare func() *exec.Cmd
}

// garbage stores blobs that nothing needs.
func (w *crashWorld) garbage(n int) {
	w.t.Helper()
	l, err := layout.Open(w.path("l"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer l.Close()
	for range n {
		w.n++
		if _, _, err := l.Put(strings.NewReader(fmt.Sprint("garbage ", w.n)), digest.Digest{}); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *crashWorld) kinds() []crashKind {
	tag := func() string { w.n++; return fmt.Sprintf("l:t%d", w.n) }
	kinds := []crashKind{
		{"layer", func() *exec.Cmd { return w.command("", "layer", "l", w.tar(2_000_000)) }},
		{"put", func() *exec.Cmd { return w.command("", "put", "l", w.noise(3_000_000)) }},
		{"tag", func() *exec.Cmd { return w.command(w.desc, "tag", tag()) }},
		{"copy", func() *exec.Cmd { return w.command("", "copy", "other:src", tag()) }},
		{"copy --no-link", func() *exec.Cmd { return w.command("", "copy", "other:src", tag(), "--no-link") }},
		{"untag", func() *exec.Cmd {
			name := tag()
			w.must(w.desc, "tag", name)
			return w.command("", "untag", name)
		}},
		{"gc --delete", func() *exec.Cmd {
			w.garbage(20)
			return w.command("", "gc", "l", "--delete", "--min-age", "0s")
		}},
	}
	if w.archive != "" {
		kinds = append(kinds, crashKind{"load", func() *exec.Cmd { return w.command("", "load", "l", w.archive) }})
	}
	return kinds
}

// TestCrash kills the program at random moments of each command that writes. After each kill
// the layout verifies and every name that was there is there. OCIKIT_CRASH_KILLS says how
// many kills there are; scripts/real/crash runs 400.
func TestCrash(t *testing.T) {
	kills := 24
	if n, err := strconv.Atoi(os.Getenv("OCIKIT_CRASH_KILLS")); err == nil {
		kills = n
	} else if testing.Short() {
		t.Skip("it starts many processes")
	}
	w := newCrashWorld(t)
	kinds := w.kinds()
	killed := map[string]int{}
	total, runs := 0, 0
	took := map[string]time.Duration{}
	for total < kills {
		kind := kinds[runs%len(kinds)]
		runs++
		if runs > 20*kills {
			t.Fatalf("%d kills in %d runs", total, runs)
		}
		cmd := kind.prepare()
		start := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if d := took[kind.name]; d > 0 {
			time.Sleep(time.Duration(rand.Int64N(int64(d))))
			cmd.Process.Kill()
		}
		err := cmd.Wait()
		status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
		switch {
		case status.Signaled() && status.Signal() == syscall.SIGKILL:
			total++
			killed[kind.name]++
			took[kind.name] += took[kind.name] / 8
		case err != nil:
			t.Fatalf("%s: %v: %s", kind.name, err, cmd.Stderr)
		case took[kind.name] == 0:
			took[kind.name] = time.Since(start)
		default: // it was faster than the kill
			took[kind.name] = max(took[kind.name]*3/4, 2*time.Millisecond)
		}
		if kind.name == "untag" { // done or not, both are right
			w.forget(strings.TrimPrefix(cmd.Args[2], "l:"))
		}
		w.check(fmt.Sprintf("%s, kill %d", kind.name, total))
		w.clean()
	}
	w.must("", "put", "l", w.noise(10))
	if left, _ := filepath.Glob(w.path("l/.ocikit-tmp-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	w.must("", "gc", "l", "--delete", "--min-age", "0s")
	w.check("after all")
	if out := w.must("", "verify", "l", "--deep"); out != "" {
		t.Errorf("verify --deep: %s", out)
	}
	var counts []string
	for _, k := range kinds {
		counts = append(counts, fmt.Sprintf("%s %d", k.name, killed[k.name]))
	}
	t.Logf("survived %d of %d kills (%s), %d names, none lost", total, total, strings.Join(counts, ", "), len(w.names))
}

func (w *crashWorld) forget(name string) { delete(w.names, name) }

// clean removes the files that commands were fed with.
func (w *crashWorld) clean() {
	files, _ := filepath.Glob(w.path("noise*"))
	for _, f := range files {
		os.Remove(f)
	}
}

// TestTwentyWriters starts twenty processes of each kind at once, then twenty of all kinds. All
// succeed, and what each did is there.
func TestTwentyWriters(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts many processes")
	}
	w := newCrashWorld(t)
	kinds := w.kinds()
	mixed := func(i int) crashKind { return kinds[i%len(kinds)] }
	for _, kind := range kinds {
		w.together(kind.name, func(int) crashKind { return kind }, false)
	}
	// A collection of all ages beside writers may take what is not named yet: then the writer
	// says so, and nothing is damaged.
	w.together("all kinds", mixed, true)
	if out := w.must("", "verify", "l", "--deep"); out != "" {
		t.Errorf("verify --deep: %s", out)
	}
}

func (w *crashWorld) together(what string, kind func(int) crashKind, mayFail bool) {
	w.t.Helper()
	const writers = 20
	cmds := make([]*exec.Cmd, writers)
	for i := range cmds {
		cmds[i] = kind(i).prepare()
	}
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for i, cmd := range cmds {
		wg.Go(func() { errs[i] = cmd.Run() })
	}
	wg.Wait()
	failed := 0
	for i, err := range errs {
		if err != nil {
			failed++
			if !mayFail {
				w.t.Errorf("%s: %v: %s", what, err, cmds[i].Stderr)
			}
		}
		switch args := cmds[i].Args[1:]; {
		case err != nil:
		case args[0] == "untag":
			w.forget(strings.TrimPrefix(args[1], "l:"))
		case args[0] == "tag":
			w.names[strings.TrimPrefix(args[1], "l:")] = w.digestOf(cmds[i])
		case args[0] == "copy":
			w.names[strings.TrimPrefix(args[2], "l:")] = w.digestOf(cmds[i])
		case args[0] == "put" && !mayFail:
			if _, err := os.Stat(w.path("l/blobs/sha256/" + w.digestOf(cmds[i]).Encoded())); err != nil {
				w.t.Errorf("%s: status 0, but: %v", what, err)
			}
		}
	}
	w.check(what)
	w.clean()
	w.t.Logf("%s: %d of %d writers succeeded, none lost anything", what, writers-failed, writers)
}

// digestOf returns the digest of the descriptor that a command printed.
func (w *crashWorld) digestOf(cmd *exec.Cmd) digest.Digest {
	w.t.Helper()
	descs, err := oci.ReadDescriptors(cmd.Stdout.(*bytes.Buffer))
	if err != nil || len(descs) != 1 {
		w.t.Fatalf("%q printed no descriptor: %v", cmd.Args, err)
	}
	return descs[0].Digest
}
