package commonflags

import (
	"flag"
	"fmt"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/oci"
	"ocikit/oci/set"
)

// Set are the flags of commands that work on many images at once.
type Set struct {
	All      bool   // every image of the places that the operands name
	FromFile string // the list of images; "" for none
	FailFast bool
	Filter   set.Filter
	Rewrites oci.Rewrites

	fs                  *flag.FlagSet
	maps, tags, exclude *[]string
}

// BindSet declares the flags of a set.
func BindSet(fs *flag.FlagSet) *Set {
	s := &Set{fs: fs}
	AllVar(fs, &s.All)
	fs.StringVar(&s.FromFile, "from-file", "", "take the images that `FILE` lists, a line NAME or \"NAME as OTHER\" for each; \"-\" is standard input")
	s.maps = cli.List(fs, "map", "", "call images by `OLD=NEW`: names that begin with OLD begin with NEW (repeatable, the longest OLD counts)")
	s.tags = cli.List(fs, "tags", "", "of many images take those whose tag fits `GLOB` alone (repeatable)")
	s.exclude = cli.List(fs, "exclude", "", "of many images leave out those whose tag, or full name if it has / or :, fits `GLOB` (repeatable)")
	fs.BoolVar(&s.FailFast, "fail-fast", false, "of many images do none behind one that fails")
	return s
}

// AllVar declares the flag that makes a set of everything in a place.
func AllVar(fs *flag.FlagSet, all *bool) {
	fs.BoolVar(all, "all", false, "take every image of the places that the operands name, each under its own name")
}

// BindLock declares the flag that pins what a list names.
func BindLock(fs *flag.FlagSet) *string {
	return fs.String("lock", "", "with --from-file: take the digests that `FILE` holds, and add those of names that it lacks")
}

// Many reports whether the flags ask for a set.
func (s *Set) Many() bool { return s.All || s.FromFile != "" }

// Parse reads the values of the flags into Filter and Rewrites, for a command whose operands name so many
// places. The flags mean nothing where many is false, since the command works on one image then: to give
// one is a usage error.
func (s *Set) Parse(many bool, places int) (err error) {
	switch {
	case s.All && s.FromFile != "":
		return cli.Usagef("--all and --from-file exclude each other")
	case s.FromFile != "" && places > 1:
		return cli.Usagef("--from-file goes with one place to look in")
	}

	// A flag of sets would be passed over in silence where there is one image.
	s.fs.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "map", "tags", "exclude", "fail-fast", "lock":
			if !many {
				err = cli.Usagef("%s goes with --from-file or --all", cli.Dashed(f.Name))
			}
		}
	})
	if err != nil {
		return err
	}

	s.Filter = set.Filter{Tags: *s.tags, Exclude: *s.exclude}
	if err := s.Filter.Check(); err != nil {
		return cli.Usagef("flags --tags and --exclude: %v", err)
	}

	if s.Rewrites, err = oci.ParseRewrites(*s.maps); err != nil {
		return cli.Usagef("flag --map: %v", err)
	}

	return nil
}

// Lines reads the list that --from-file names. A list without an image is an error; a line that is
// malformed is a [set.Line] with one.
func (s *Set) Lines(env *cli.Env) ([]set.Line, error) {
	if s.FromFile == "-" && env.InTTY {
		return nil, cli.Usagef("standard input is a terminal: name a FILE, or pipe a list in")
	}

	in, err := env.Input(s.FromFile)
	if err != nil {
		return nil, err
	}
	defer in.Close()

	list, err := set.ReadList(in)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("it lists no image")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cli.InputName(s.FromFile), err)
	}

	return list, nil
}

// Rename gives an entry of index.json the full name that --map says, if it says one.
func (s *Set) Rename(d oci.Descriptor) oci.Descriptor {
	n, ok := oci.NameOfEntry(d)
	if name := s.Rewrites.Apply(n.String()); ok && name != n.String() {
		return d.WithFullName(name)
	}
	return d
}
