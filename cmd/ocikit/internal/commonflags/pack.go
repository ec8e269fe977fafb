package commonflags

import (
	"cmp"
	"errors"
	"flag"
	"fmt"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/tarutil"
	"ocikit/tarutil/estargz"
	"ocikit/tarutil/pack"
)

// BindPack declares the flags that say how files become entries. The function that it returns reads
// them when the command runs; a value that cannot be one is a usage error.
func BindPack(fs *flag.FlagSet) func(env *cli.Env) (pack.Options, error) {
	prefix := fs.String("prefix", "", "put everything below `DIR`")
	parents := BindParents(fs)
	owner := fs.String("owner", "0:0", "give entries the owner `UID:GID`, or \"keep\" theirs")
	mode := BindMode(fs)
	mtime := BindMTime(fs, "")
	xattrs := cli.Choice(fs, "xattrs", "security", "keep `WHICH` extended attributes", "security (capabilities)", "all", "none")
	exclude := BindExclude(fs)
	excludeFrom := BindExcludeFrom(fs)
	return func(env *cli.Env) (o pack.Options, err error) {
		o.Prefix, o.Parents = *prefix, *parents
		var errs [4]error
		o.Owner, errs[0] = tarutil.ParseOwner(*owner)
		o.Mode, errs[1] = tarutil.ParseMode(*mode)
		o.Xattrs, errs[2] = tarutil.ParseXattrs(*xattrs)
		if *mtime != "" {
			o.MTime, errs[3] = ParseMTime(env, *mtime)
		}

		for _, err := range errs {
			if err != nil {
				return o, cli.Usagef("flag --%v", err)
			}
		}

		if err := CheckPaths("prefix", *prefix); err != nil {
			return o, err
		}

		// Without --mtime files keep their times, up to SOURCE_DATE_EPOCH.
		if *mtime == "" {
			if o.MTime, err = tarutil.ParseSourceDateEpoch(env.Getenv("SOURCE_DATE_EPOCH")); err != nil {
				return o, err
			}
		}

		o.Notice = func(path string) { env.Notice("ocikit: skipped %q: a socket cannot be in a tar", path) }
		o.HoleNotice = func(path string, size, hole int64) {
			env.Notice("ocikit: %q has %s, of which %s are holes: in a tar they are zeros", path, show.Size(size), show.Size(hole))
		}

		o.MarkNotice = markNotice(env)
		o.OutputNotice = func(path string) { LeftOut(env, path) }
		o.Exclude, err = Matcher(env, *exclude, *excludeFrom)
		return o, err
	}
}

// markNotice returns what gives a notice about the first mark of an overlay: where there is one there are
// many, and they say one thing.
func markNotice(env *cli.Env) func(path, attribute string) {
	told := false
	return func(path, attribute string) {
		if told {
			return
		}
		told = true
		is := "is a device 0:0"
		if attribute != "" {
			is = "has the attribute " + attribute
		}
		env.Notice("ocikit: %q %s, a mark of an overlay file system, and no deletion in a layer: `ocikit diff OLD NEW --layer` writes what an overlay changes", path, is)
	}
}

// CheckPaths returns a usage error if one of the values of a flag is no path in an image.
func CheckPaths(flagName string, paths ...string) error {
	for _, p := range paths {
		if _, err := tarutil.CleanPath(p); err != nil {
			return cli.Usagef("flag --%s: %v", flagName, err)
		}
	}
	return nil
}

// mtimeUsage is what help says of --mtime.
const mtimeUsage = "give entries the time `TIME` (RFC 3339 or seconds), \"epoch\" (SOURCE_DATE_EPOCH, else 1970), or \"keep\" theirs"

// BindMTime declares the flag that sets the times of entries.
func BindMTime(fs *flag.FlagSet, def string) *string { return fs.String("mtime", def, mtimeUsage) }

// ParseMTime reads the value of --mtime. With "epoch" all times are SOURCE_DATE_EPOCH, which
// otherwise is only the latest that a time can be.
func ParseMTime(env *cli.Env, s string) (tarutil.MTime, error) {
	if s != "epoch" {
		return tarutil.ParseMTime(s)
	}
	epoch := env.Getenv("SOURCE_DATE_EPOCH")
	if _, err := tarutil.ParseSourceDateEpoch(epoch); err != nil {
		return tarutil.MTime{}, fmt.Errorf("mtime: %w", err)
	}
	return tarutil.ParseMTime(cmp.Or(epoch, "0"))
}

// LeftOut tells that a command does not read the file that it writes.
func LeftOut(env *cli.Env, path string) { env.Notice("ocikit: left out %q: it is being written", path) }

// TarHint adds to an error of reading a layer's tar the hint that helps. Other errors stay as they
// are.
func TarHint(err error) error {
	switch {
	case errors.Is(err, tarutil.ErrDuplicate):
		return cli.WithHint(err, "`ocikit retar --sort` keeps the last of each path")
	case errors.Is(err, estargz.ErrSparse):
		return cli.WithHint(err, "`ocikit retar` writes sparse files whole: pipe what it writes in")
	}
	return err
}

// PackHint adds to an error of packing the hint that helps. Other errors stay as they are.
func PackHint(err error) error {
	switch {
	case errors.Is(err, tarutil.ErrWhiteoutName):
		return cli.WithHint(err, "leave it out with --exclude, or write a deletion with --whiteout PATH")
	case errors.Is(err, tarutil.ErrOpaqueRoot):
		return &cli.UsageError{Msg: err.Error(), Advice: "name what to remove with --whiteout; `ocikit diff OLD NEW --layer` finds all names of the root"}
	}
	return err
}

// Matcher returns what the patterns of --exclude-from and then --exclude match, nil if there are
// none. The last pattern that matches counts, as in .dockerignore.
func Matcher(env *cli.Env, patterns, files []string) (*tarutil.Matcher, error) {
	var all []string
	for _, name := range files {
		f, err := env.Input(name)
		if err != nil {
			return nil, err
		}
		p, err := tarutil.ReadPatterns(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", cli.InputName(name), err)
		}
		all = append(all, p...)
	}

	if all = append(all, patterns...); len(all) == 0 {
		return nil, nil
	}

	m, err := tarutil.NewMatcher(all)
	if err != nil {
		return nil, &cli.UsageError{Msg: err.Error()}
	}

	return m, nil
}

// BindExclude declares the flag that leaves out files.
func BindExclude(fs *flag.FlagSet) *[]string {
	return cli.List(fs, "exclude", "", "leave out what matches `PATTERN`, as in .dockerignore (repeatable)")
}

// BindExcludeFrom declares the flag that names files of such patterns.
func BindExcludeFrom(fs *flag.FlagSet) *[]string {
	return cli.List(fs, "exclude-from", "", "read such patterns from `FILE` (repeatable)")
}

// BindMode declares the flag that says what becomes of permissions.
func BindMode(fs *flag.FlagSet) *string {
	return cli.Choice(fs, "mode", "keep", "treat permissions `HOW`", "keep", "normalize (to 0755 and 0644)")
}

// BindParents declares the flag that asks for entries of directories that only names speak of.
func BindParents(fs *flag.FlagSet) *bool {
	return fs.Bool("parents", false, "write entries, 0755 and of 0:0, for directories that DEST or --prefix names and no input holds")
}
