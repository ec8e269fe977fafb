package main

import (
	"flag"
	"io"
	"slices"

	"ocikit/oci/registry"
	"ocikit/pushcmd"
)

// scriptFlags are those of push --script.
type scriptFlags struct {
	wanted *bool
	out    *string
}

func bindScriptFlags(fs *flag.FlagSet) scriptFlags {
	return scriptFlags{
		wanted: fs.Bool("script", false, "print a shell script that pushes with curl, and push nothing"),
		out:    fs.String("o", "", "write the script to `file` instead of standard output"),
	}
}

// check refuses flags that mean nothing to a script, which makes other requests at another
// time.
func (s scriptFlags) check(fs *flag.FlagSet) (err error) {
	if !*s.wanted {
		if *s.out != "" {
			return usagef("-o goes with --script")
		}
		return nil
	}
	known := []string{"script", "o", "all", "plain-http", "mount-from", "tag", "t", "chunk-size", "q", "v"}
	fs.Visit(func(f *flag.Flag) {
		if !slices.Contains(known, f.Name) {
			err = &usageError{
				msg:  dashed(f.Name) + " does not go with --script",
				hint: "what a script takes from its environment stands in its first lines",
			}
		}
	})
	return err
}

// write writes the script for an image, or for a whole layout.
func (s scriptFlags) write(env *Env, operand string, ref registry.Reference, all bool, o pushcmd.ScriptOptions) error {
	if all {
		l, _, err := openComplete(operand)
		if err != nil {
			return err
		}
		defer l.Close()
		o.Layout = l.Dir()
		return s.output(env, func(w io.Writer) error { return pushcmd.ScriptAll(w, l, ref, o) })
	}
	l, desc, err := openCompleteImage(operand)
	if err != nil {
		return err
	}
	defer l.Close()
	o.Layout = l.Dir()
	return s.output(env, func(w io.Writer) error { return pushcmd.Script(w, l, unnamed(desc), ref, o) })
}

func (s scriptFlags) output(env *Env, write func(io.Writer) error) error {
	return env.toOutputMode(*s.out, false, 0o755, write)
}
