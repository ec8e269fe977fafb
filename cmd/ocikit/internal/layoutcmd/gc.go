package layoutcmd

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/digest"
	"ocikit/oci/layout"
)

func gcCommand() cli.Command {
	return cli.Command{
		Name: "gc", Args: "LAYOUT", Group: cli.GroupLayout, Progress: true,
		Short: "list, or delete, the blobs that nothing refers to",
		Long: `Gc lists what is in a layout and needed by no image in it: blobs, as "DIGEST BYTES", and
temporary files that killed writers left behind, as "PATH BYTES". With --json each is an object.
Nothing is deleted unless --delete says so.

Needed is what an entry of index.json leads to: through indexes in indexes, as a subject, as a referrer
of what is needed, whether listed or not, or by being mentioned in a document of an unknown type. Files
younger than --min-age stay, since they may belong to an image in the making. If anything that is
needed is absent or cannot be read, nothing is deleted: nobody knows what it needs. For a layout that
is sparse on purpose, --sparse takes what is absent to need nothing.

Deleting holds the lock of the layout: no image is named meanwhile, and any that is named afterwards is
checked to be whole.`,
		Example: "ocikit put app layer.tar\nocikit gc app --min-age 0s\nocikit gc app --min-age 0s --delete",
		Status:  "1 if it is not safe to tell what is needed",
		Bind: func(fs *flag.FlagSet) cli.Action {
			f := new(gcFlags)
			f.del = fs.Bool("delete", false, "delete what is listed")
			f.minAge = fs.Duration("min-age", time.Hour, "spare what is younger than `DURATION`")
			f.sparse = fs.Bool("sparse", false, "blobs that images name may be absent")
			f.asJSON = cli.BindJSON(fs)
			return f.run
		},
	}
}

// gcFlags are the flags of gc.
type gcFlags struct {
	del    *bool
	minAge *time.Duration
	sparse *bool
	asJSON *bool
}

// run lists what nothing needs, and deletes it if it is told to.
func (f *gcFlags) run(ctx context.Context, env *cli.Env, args []string) error {
	if *f.minAge < 0 {
		return cli.Usagef("flag --min-age: %s is negative", *f.minAge)
	}

	l, err := operands.OpenLayout(args[0])
	if err != nil {
		return err
	}
	defer l.Close()

	env.Watch(l)
	o := layout.GCOptions{Delete: *f.del, MinAge: *f.minAge, Now: env.Now(), Sparse: *f.sparse}
	sum, err := l.GC(ctx, o, func(g layout.Garbage) error { return printGarbage(env, g, *f.asJSON) })
	if errors.Is(err, layout.ErrUnsafe) {
		err = cli.WithHint(err, "`ocikit verify %s` says what is wrong; for a layout that is sparse on purpose there is --sparse", args[0])
	}
	if err != nil {
		return err
	}

	done := "can be deleted: --delete does it"
	if *f.del {
		done = "deleted"
	}

	// A fresh layout has only young files: without a word one would think that gc does
	// nothing.
	if sum.Garbage == 0 && sum.Young > 0 {
		env.Notice("ocikit: nothing needs %d files of %d bytes, but they are younger than %s; --min-age 0s spares nothing",
			sum.Young, sum.YoungBytes, *f.minAge)
	}

	env.Detail("%d files of %d bytes %s; %d files of %d bytes are too young; %d files are needed",
		sum.Garbage, sum.GarbageBytes, done, sum.Young, sum.YoungBytes, sum.Kept)
	return nil
}

func printGarbage(env *cli.Env, g layout.Garbage, asJSON bool) error {
	if asJSON {
		line := struct {
			Age    int64         `json:"ageSeconds"`
			Digest digest.Digest `json:"digest,omitzero"`
			Path   string        `json:"path"`
			Size   int64         `json:"size"`
		}{int64(g.Age / time.Second), g.Digest, g.Path, g.Size}
		return show.WriteJSON(env.Stdout, line)
	}

	line := fmt.Sprintf("%s %d", cmp.Or(g.Digest.String(), g.Path), g.Size)
	return show.WriteLines(env.Stdout, []string{line})
}
