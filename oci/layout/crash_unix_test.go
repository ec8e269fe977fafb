//go:build unix

package layout

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ocikit/digest"
	"ocikit/digest/digesttest"
	"ocikit/oci"
)

func mkfifo(name string) error { return syscall.Mkfifo(name, 0o644) }

// TestMain runs the writer of TestKill in a process of its own.
func TestMain(m *testing.M) {
	if dir := os.Getenv("OCIKIT_TEST_WRITER"); dir != "" {
		writeForever(dir)
	}
	os.Exit(m.Run())
}

// writeForever stores images and tags them until it is killed. It prints each tag that is
// durable.
func writeForever(dir string) {
	l, err := Open(dir)
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		note := fmt.Sprintf("%d-%d", os.Getpid(), i)
		layer := strings.Repeat(note, 10_000)
		d, size, err := l.Put(strings.NewReader(layer), digest.Digest{})
		if err != nil {
			panic(err)
		}
		config, err := l.PutDocument("application/x-config", []byte(note))
		if err != nil {
			panic(err)
		}
		doc, err := oci.Encode(oci.Manifest{SchemaVersion: 2, Config: config, Layers: []oci.Descriptor{{MediaType: oci.MediaTypeLayer, Digest: d, Size: size}}})
		if err != nil {
			panic(err)
		}
		desc, err := l.PutDocument(oci.MediaTypeManifest, doc)
		if err != nil {
			panic(err)
		}
		if err := l.Tag(context.Background(), note, desc, TagOptions{}); err != nil {
			panic(err)
		}
		fmt.Println(note)
	}
}

// Writers are killed at random moments: every tag that one has reported is there, no file
// lies about its digest, and the next writer removes what they left.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	l, err := Init(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	kills := digesttest.Reps(40, 5)
	var tags []string
	head := 20 * time.Millisecond // what a writer takes to begin, as far as is known
	n := 0
	for ; n < kills || len(tags) == 0; n++ {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), "OCIKIT_TEST_WRITER="+dir)
		var out strings.Builder
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(head + time.Duration(rand.IntN(60))*time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		reported := strings.Split(out.String(), "\n")
		tags = append(tags, reported[:len(reported)-1]...)
		if len(tags) == 0 {
			head *= 2 // a busy machine
		}
		mustVerify(t, l)
		for _, tag := range tags[max(0, len(tags)-20):] {
			if _, err := l.Resolve(oci.ImageName{Tag: tag}); err != nil {
				t.Fatalf("a tag that was durable is lost: %v", err)
			}
		}
	}
	next, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if _, _, err := next.Put(strings.NewReader("x"), digest.Digest{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range files(t, next) {
		if strings.Contains(name, tempPrefix) {
			t.Errorf("%s is still there", name)
		}
	}
	t.Logf("%d kills, %d tags, none lost", n, len(tags))
}
