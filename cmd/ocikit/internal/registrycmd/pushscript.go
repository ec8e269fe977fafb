package registrycmd

import (
	"flag"
	"fmt"
	"io"
	"slices"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/oci/graph"
	"ocikit/oci/registry"
	"ocikit/pushcmd"
)

// scriptFlags are the flags of push that go with --script.
type scriptFlags struct {
	fs     *flag.FlagSet
	wanted *bool
	out    *string
}

func bindScriptFlags(fs *flag.FlagSet) scriptFlags {
	return scriptFlags{
		fs:     fs,
		wanted: fs.Bool("script", false, "print a shell script that pushes with curl, and push nothing"),
		out:    fs.String("o", "", "write the script to `FILE` instead of standard output"),
	}
}

// check refuses flags that mean nothing to a script, which makes other requests at another time.
func (s scriptFlags) check() (err error) {
	if !*s.wanted {
		if *s.out != "" {
			return cli.Usagef("-o goes with --script")
		}
		return nil
	}

	// The list names what is allowed: a new flag of push is refused until the script knows it.
	known := []string{"script", "o", "all", "from-file", "map", "tags", "exclude", "plain-http", "mount-from", "tag", "t", "chunk-size", "q", "v"}
	s.fs.Visit(func(f *flag.Flag) {
		if !slices.Contains(known, f.Name) {
			err = cli.WithHint(cli.Usagef("%s does not go with --script", cli.Dashed(f.Name)), "what a script takes from its environment stands in its first lines")
		}
	})

	return err
}

// writeScript writes the script for an image, or for a set. An image that lacks something is an error,
// since the script could not send it.
func (p *pushing) writeScript(env *cli.Env, operand string, ref registry.Reference, opts pushcmd.Options) error {
	o := pushcmd.ScriptOptions{
		PlainHTTP: p.registry.Settings.PlainHTTP, MountFrom: opts.MountFrom, Tags: opts.Tags, ChunkSize: opts.ChunkSize,
	}

	if !p.many {
		l, desc, err := operands.OpenImage(operand)
		if err != nil {
			return err
		}
		if err := complete(l, desc, operand, graph.Rules{}); err != nil {
			return err
		}
		defer l.Close()
		o.Layout = l.Name()
		return p.script.output(env, func(w io.Writer) error { return pushcmd.Script(w, l, operands.Unnamed(desc), ref, o) })
	}

	// Curl sends files, so the images must be in a layout.
	l, err := operands.OpenLayout(operand)
	if err != nil {
		return err
	}
	defer l.Close()

	members, err := operands.SetOf(env, p.set, l, "")
	if err != nil {
		return err
	}

	for _, m := range members {
		if m.Err == nil {
			m.Err = graph.Check(l, m.Desc, graph.Rules{})
		}
		if m.Err != nil {
			return operands.IncompleteHint(l, fmt.Errorf("%s: %w", m.Name, m.Err))
		}
	}

	images, err := operands.Destinations(members, ref, p.set.Rewrites)
	if err != nil {
		return err
	}

	o.Layout = l.Name()
	return p.script.output(env, func(w io.Writer) error { return pushcmd.ScriptAll(w, l, images, ref, o) })
}

func (s scriptFlags) output(env *cli.Env, write func(io.Writer) error) error {
	return env.ToOutputMode(*s.out, false, 0o755, write)
}
