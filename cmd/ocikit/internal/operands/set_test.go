package operands

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/registry"
)

// A signal that comes when an image has just been done leaves no error of that image, and yet the set
// is not done.
func TestInterruptedSet(t *testing.T) {
	stop := errors.New("interrupted")
	env := &cli.Env{Stdin: strings.NewReader("r.test/a:1\nr.test/b:2\n"), Stderr: io.Discard, Getenv: func(string) string { return "" }, Now: time.Now}
	members := []Archived{{Member: Member{Name: "a"}}, {Member: Member{Name: "b"}}}

	ctx, cancel := context.WithCancelCause(t.Context())
	did := 0
	err := Each(ctx, env, []Member{members[0].Member, members[1].Member}, false, func(int, Member) error {
		did++
		cancel(stop)
		return nil
	})
	if !errors.Is(err, stop) || did != 1 {
		t.Errorf("Each() = %v, after %d images", err, did)
	}

	ctx, cancel = context.WithCancelCause(t.Context())
	plan := func(images []archive.Image) (int, error) {
		if len(images) == len(members) {
			return 0, errors.New("one is bad")
		}
		return len(images), nil
	}
	n, failed, err := PlanSet(ctx, env, members, false, plan, func(archive.Image) error {
		cancel(stop)
		return nil
	})
	if !errors.Is(err, stop) || n != 0 {
		t.Errorf("PlanSet() = a plan of %d images, %v, %v", n, failed, err)
	}

	// To try each of too many alone would take long, and find nothing.
	tooMany := &archive.SizeError{Name: "manifest.json", Size: 2, Limit: 1}
	_, failed, err = PlanSet(t.Context(), env, members, false, func([]archive.Image) (int, error) { return 0, tooMany }, func(archive.Image) error {
		t.Error("an image of too many was tried alone")
		return nil
	})
	if !errors.Is(err, tooMany) || failed != nil {
		t.Errorf("PlanSet() of too many = %v, %v", failed, err)
	}

	fs := flag.NewFlagSet("", flag.ContinueOnError)
	set, clients := commonflags.BindSet(fs), NewClients(commonflags.BindRegistry(fs))
	set.FromFile = "-"
	if images, err := clients.Listed(ctx, env, set); !errors.Is(err, stop) {
		t.Errorf("Listed() = %v, %v", images, err)
	}
}

// Of what is named twice one stays, and none of two that would have one name.
func TestDistinct(t *testing.T) {
	a, b := digest.FromBytes([]byte("a")), digest.FromBytes([]byte("b"))
	entry := func(tag string, d digest.Digest) Member {
		return Member{Desc: oci.Descriptor{Digest: d}.WithAnnotation(oci.AnnotationRefName, tag)}
	}
	members := distinct([]Member{entry("v1", a), entry("v1", a), entry("v2", a), entry("v3", a), entry("v3", b), {Err: errNone}})
	var got []string
	for _, m := range members {
		got = append(got, fmt.Sprintf("%s %t", m.Desc.EntryName(), m.Err != nil))
	}
	if want := []string{"v1 false", "v2 false", "v3 true", "v3 true", "@ true"}; !slices.Equal(got, want) {
		t.Errorf("distinct: %q, want %q", got, want)
	}

	rewrites, err := oci.ParseRewrites([]string{"r.test/b=r.test/a", "r.test/c=r.test/UPPER"})
	if err != nil {
		t.Fatal(err)
	}
	var images []Wanted
	for _, name := range []string{"r.test/a:v1", "r.test/a:v1", "r.test/b:v1", "r.test/c:v1", "r.test/d:v1"} {
		ref, err := registry.ParseReference(name)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, Wanted{Name: name, Ref: ref, As: name})
	}
	got = nil
	for _, w := range Distinct(images, rewrites) {
		got = append(got, fmt.Sprintf("%s %t", w.As, w.Err != nil))
	}
	if want := []string{"r.test/a:v1 false", "r.test/a:v1 true", "r.test/UPPER:v1 true", "r.test/d:v1 false"}; !slices.Equal(got, want) {
		t.Errorf("Distinct: %q, want %q", got, want)
	}
}

var errNone = errors.New("it cannot be read")
