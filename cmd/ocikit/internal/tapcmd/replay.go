package tapcmd

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/digest"
	"ocikit/oci/layout"
	"ocikit/oci/registry"
	"ocikit/oci/registry/tap/record"
	"ocikit/oci/registry/tap/replay"
)

func replayCommand() cli.Command {
	return cli.Command{
		Name: "replay", Args: "FILE [REGISTRY]", Group: cli.GroupRegistry,
		Short: "play a recording of tap, as the registry or as the client",
		Long: `Replay plays what "ocikit tap --record" has written. Without REGISTRY it is the registry: it answers
on a loopback address as the recorded one did, until it is interrupted, and names the first request
of a client that is not in the recording or differs from it. So a fault of a client can be brought
back without its registry.

With REGISTRY it is the client: it sends the recorded requests there, one after the other, and prints
for each what was recorded and what came now. So a fault of a registry can be brought back, or
another registry tried. Replay logs in by itself, with credentials of its own.

A recording holds no blobs. They are taken from the layouts that --layout names; where they are not
to be had, a client that is played sends other bytes of the same size and names their digests.`,
		Example: "ocikit replay recording localhost:5000",
		Status:  "1 if something diverged",
		Bind: func(fs *flag.FlagSet) cli.Action {
			flags := commonflags.BindRegistry(fs)
			address := fs.String("listen", "127.0.0.1:5000", "answer at `ADDRESS`; port 0 takes any free one")
			layouts := cli.List(fs, "layout", "", "take the bytes of blobs from the layout `DIR` (repeatable)")
			return func(ctx context.Context, env *cli.Env, args []string) error {
				blobs, done, err := openBlobs(*layouts)
				if err != nil {
					return err
				}
				defer done()
				rec := recording{blobs: blobs}
				if rec.head, rec.entries, err = load(env, args[0]); err != nil {
					return err
				}
				if len(args) == 1 {
					return rec.serve(ctx, env, *address)
				}
				return rec.send(ctx, env, flags, args[1])
			}
		},
	}
}

// A recording is what is replayed, with the bytes of blobs where they are at hand.
type recording struct {
	head    record.Head
	entries []*record.Entry
	blobs   replay.Blobs
}

// maxPlayed bounds the exchanges that are held in memory.
const maxPlayed = 200_000

// load reads a recording. Exchanges are recorded as they end; they are returned in the order of
// their numbers.
func load(env *cli.Env, name string) (record.Head, []*record.Entry, error) {
	in, err := env.Input(name)
	if err != nil {
		return record.Head{}, nil, err
	}
	defer in.Close()

	var entries []*record.Entry
	head, err := eachEntry(name, in, func(e *record.Entry) error {
		if len(entries) >= maxPlayed {
			return fmt.Errorf("%q: over %d exchanges", name, maxPlayed)
		}
		entries = append(entries, e)
		return nil
	})

	slices.SortStableFunc(entries, func(a, b *record.Entry) int { return a.N - b.N })
	return head, entries, err
}

// openBlobs opens layouts and returns what finds a blob in one of them. The caller calls done;
// after an error there is nothing to close.
func openBlobs(dirs []string) (blobs replay.Blobs, done func(), err error) {
	var open []*layout.Layout
	done = func() {
		for _, l := range open {
			l.Close()
		}
	}

	for _, dir := range dirs {
		l, err := layout.Open(dir)
		if err != nil {
			done()
			return nil, nil, err
		}
		open = append(open, l)
	}

	return func(d digest.Digest) (io.ReadCloser, error) {
		for _, l := range open {
			if f, err := l.OpenBlob(d); err == nil {
				return f, nil
			}
		}
		return nil, layout.ErrNotFound
	}, done, nil
}

// serve answers as the recorded registry did, until ctx ends. The error is [cli.ErrNo] if a
// request diverged from the recording.
func (rec recording) serve(ctx context.Context, env *cli.Env, address string) error {
	if err := commonflags.CheckLoopback(address, "a recording is played on this machine"); err != nil {
		return err
	}

	s, err := replay.NewServer(rec.head, rec.entries, rec.blobs)
	if err != nil {
		return err
	}

	s.Diverged = func(text string) { env.Notice("%s", text) }
	ln, err := commonflags.Listen(env, address)
	if err != nil {
		return err
	}

	// An http.Server knows no context: at the end of ctx it is closed.
	hs := &http.Server{Handler: s, ReadHeaderTimeout: 20 * time.Second}
	stop := context.AfterFunc(ctx, func() { hs.Close() })
	defer stop()
	if err := hs.Serve(ln); err != http.ErrServerClosed {
		return err
	}

	played, missing, diverged := s.Result()
	lines := []string{"the same as recorded"}
	if len(diverged) > 0 {
		lines[0] = "diverged: " + show.Printable(diverged[0])
	}

	lines = append(lines, fmt.Sprintf("%d requests played, %d of the recording did not come, %d diverged", played, missing, len(diverged)))
	return cli.NoIf(show.WriteLines(env.Stdout, lines), len(diverged) > 0)
}

// send sends the recorded requests to a registry and prints what came. The error is
// [cli.ErrNo] if an answer differs.
func (rec recording) send(ctx context.Context, env *cli.Env, flags *commonflags.Registry, name string) error {
	c, _, err := flags.Dial(env, registry.ParseHost, name, false)
	if err != nil {
		return err
	}
	defer c.Close()

	same, differ := 0, 0

	// The callback cannot end the run, so an error of writing waits for the end.
	var writeErr error
	err = replay.Run(ctx, c, rec.entries, rec.blobs, func(s replay.Step) {
		if s.Same {
			same++
		} else {
			differ++
		}
		if writeErr == nil {
			writeErr = show.WriteLines(env.Stdout, []string{show.Printable(s.String())})
		}
	})
	if err := cmp.Or(err, writeErr); err != nil {
		return err
	}

	return cli.NoIf(show.WriteLines(env.Stdout, []string{fmt.Sprintf("total: %d the same, %d differ", same, differ)}), differ > 0)
}
