package operands

import (
	"context"
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
	"time"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/oci/archive"
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
