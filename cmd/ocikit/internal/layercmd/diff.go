package layercmd

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci/image"
	"ocikit/oci/image/why"
	"ocikit/tarutil"
	"ocikit/tarutil/cause"
	"ocikit/tarutil/diff"
	"ocikit/tarutil/pack"
)

func diffCommand() cli.Command {
	return cli.Command{
		Name: "diff", Args: "OLD NEW", Group: cli.GroupLayer, Progress: true,
		Short: "show what differs between two trees, or write the layer between them",
		Long: `Diff compares two directories, tars (plain or compressed) or images (in a layout, an archive or a
registry; their layers are applied), of which "-" has a tar or an archive on standard input, and prints
a line for each path that differs: "added", "changed" or "deleted", then what changed (type, content,
mode, owner, times, xattrs, link, joined by commas; "-" for the others), then the path. --json
prints JSON lines with what is known of both sides.

Of two images it prints a line for each member of the config and of the manifest that differs, too:
"config" or "manifest" in place of what changed, and a JSON pointer in place of the path. Digests and
sizes, which follow from other things, are left out, and so is all of it with --files-only.
"ocikit why" says why digests differ where the files are the same.

--layer writes in its place the layer that turns OLD into NEW, as a tar with whiteouts, and the exit
status is 0. Owners and times in it are those of NEW; "ocikit retar" changes them.`,
		Example: "ocikit diff rootfs layer.tar --ignore times --ignore owner\nocikit diff rootfs layer.tar --layer | ocikit layer app",
		Status:  "0 if the two are alike, 1 if they differ",
		Bind: func(fs *flag.FlagSet) cli.Action {
			d := bindDiff(fs)
			return func(ctx context.Context, env *cli.Env, args []string) error { return d.run(ctx, env, args[0], args[1]) }
		},
	}
}

// diffing are the flags of diff.
type diffing struct {
	layer, filesOnly, asJSON *bool
	ignore, exclude          *[]string
	platform, out            *string
	places                   *operands.Places
}

func bindDiff(fs *flag.FlagSet) *diffing {
	layer := fs.Bool("as-layer", false, "write the layer that turns OLD into NEW")
	cli.Alias(fs, "as-layer", "layer")
	return &diffing{
		layer:     layer,
		filesOnly: fs.Bool("files-only", false, "compare the files of images, not config and manifest"),
		asJSON:    cli.BindJSON(fs),
		ignore:    cli.ChoiceList(fs, "ignore", "do not look at `WHAT` changed", "type", "content", "mode", "owner", "times", "xattrs", "link"),
		exclude:   cli.List(fs, "exclude", "", "do not look at what matches `PATTERN` (repeatable)"),
		platform:  commonflags.BindPlatform(fs),
		out:       operands.BindTarOutput(fs),
		places:    operands.BindPlaces(fs),
	}
}

// run opens both trees, and writes their layer or what differs.
func (d *diffing) run(ctx context.Context, env *cli.Env, oldName, newName string) error {
	if oldName == "-" && newName == "-" {
		return cli.Usagef("standard input is one tree, not two")
	}

	o := diff.Options{TempDir: env.Getenv("TMPDIR"), Ignore: parseWhat(*d.ignore)}
	var err error
	if o.Exclude, err = commonflags.Matcher(env, *d.exclude, nil); err != nil {
		return err
	}

	old, err := openTree(ctx, env, d.places, oldName, *d.platform)
	if err != nil {
		return err
	}
	defer old.close()

	new, err := openTree(ctx, env, d.places, newName, *d.platform)
	if err != nil {
		return err
	}
	defer new.close()

	trees := fmt.Sprintf("%q and %q", oldName, newName)
	if *d.layer {
		return env.ToOutput(*d.out, true, func(file io.Writer) error {
			d.leaveOut(env, file, old.Tree, new.Tree)
			return operands.Compressed(*d.out, file, func(w io.Writer) error {
				_, err := diff.WriteLayer(ctx, w, old.Tree, new.Tree, o)
				return commonflags.PackHint(treesError(trees, err))
			})
		})
	}

	changes, err := diff.Trees(ctx, old.Tree, new.Tree, o)
	if err != nil {
		return treesError(trees, err)
	}

	// Images with the same files may still run in other ways.
	var members []why.Cause
	if old.image != nil && new.image != nil && !*d.filesOnly {
		if members, err = why.Members(*old.image, *new.image); err != nil {
			return fmt.Errorf("%s: %w", trees, err)
		}
	}

	err = env.ToOutput(*d.out, false, func(w io.Writer) error {
		if err := writeChanges(w, changes, *d.asJSON); err != nil {
			return err
		}
		return writeMembers(w, members, *d.asJSON)
	})
	return cli.NoIf(err, changes.Len()+len(members) > 0)
}

// treesError returns an error of comparing trees. One of the layers of an image says itself which.
func treesError(trees string, err error) error {
	if own := new(image.TreeError); err == nil || errors.As(err, &own) {
		return err
	}
	return commonflags.TarHint(fmt.Errorf("%s: %w", trees, err))
}

// leaveOut has the trees leave out the file of the output w, which may lie in one of them. Trees are
// walked twice, and tell of it once.
func (d *diffing) leaveOut(env *cli.Env, w io.Writer, trees ...tarutil.Tree) {
	told := map[string]bool{}
	for _, t := range trees {
		pack.LeaveOut(t, env.Outputs(*d.out, w), func(path string) {
			if !told[path] {
				commonflags.LeftOut(env, path)
			}
			told[path] = true
		})
	}
}

// A diffTree is what an operand of diff names.
type diffTree struct {
	tarutil.Tree
	image *why.Image // nil for a directory or a tar
	close func() error
}

// openTree opens what an operand of diff names: the files of an image, a directory or a tar. The
// caller calls close.
func openTree(ctx context.Context, env *cli.Env, places *operands.Places, name, platform string) (*diffTree, error) {
	if operands.IsImage(name) || operands.HoldsImages(ctx, env, name) {
		l, desc, err := places.Manifest(ctx, env, name, platform)
		if err != nil {
			return nil, err
		}
		l = operands.KeepLayers(env, l)
		env.Watch(l)
		files, err := image.NewTree(l, desc)
		if err != nil {
			l.Close()
			return nil, err
		}
		return &diffTree{files, &why.Image{Src: l, Desc: desc}, l.Close}, nil
	}

	// A directory called "-" is written ./-.
	if name != "-" {
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			return &diffTree{pack.DirTree(name), nil, func() error { return nil }}, nil
		}
	}

	in, err := env.Data(name)
	if err != nil {
		return nil, err
	}

	t := tarutil.TarTree(in, env.Getenv("TMPDIR"))
	t.AllowNoEnd = name != "-"
	return &diffTree{t, nil, func() error {
		t.Close()
		return in.Close()
	}}, nil
}

// parseWhat returns the set of aspects that the words of --ignore name.
func parseWhat(names []string) (set diff.Aspects) {
	for _, w := range []diff.Aspects{diff.Type, diff.Content, diff.Mode, diff.Owner, diff.Times, diff.Xattrs, diff.Link} {
		if slices.Contains(names, w.String()) {
			set |= w
		}
	}
	return set
}

func writeChanges(w io.Writer, changes *diff.Changes, asJSON bool) error {
	for c := range changes.All() {
		line := fmt.Sprintf("%s %s %s", c.Kind, cmp.Or(c.Aspects.String(), "-"), c.Path)
		if err := show.WriteRecord(w, asJSON, newChangeJSON(c), line); err != nil {
			return err
		}
	}

	return nil
}

// writeMembers writes a line for each member in which the documents of two images differ.
func writeMembers(w io.Writer, members []why.Cause, asJSON bool) error {
	for _, m := range members {
		// A difference between the families of media types is one cause, and stands in the member
		// mediaType.
		kind, section, pointer := diff.Changed, "manifest", m.Path
		switch {
		case m.Kind == why.Family:
			pointer = "/mediaType"
		case m.Here == "":
			kind = diff.Added
		case m.There == "":
			kind = diff.Deleted
		}

		if slices.Contains(m.Where, "config") {
			section = "config"
		}

		// The branch manifest, config is the descriptor of the config in the manifest.
		if len(m.Where) > 1 && section == "config" && m.Where[0] == "manifest" {
			section, pointer = "manifest", "/config"+pointer
		}

		record := memberJSON{string(kind), m.Here, string(kind), pointer, m.There, []string{section}}
		if err := show.WriteRecord(w, asJSON, record, fmt.Sprintf("%s %s %s", kind, section, pointer)); err != nil {
			return err
		}
	}

	return nil
}

// A memberJSON is one line of diff --json about a document.
type memberJSON struct {
	Action  string   `json:"action"`
	Here    string   `json:"here,omitempty"` // as JSON
	Kind    string   `json:"kind"`
	Pointer string   `json:"pointer"`
	There   string   `json:"there,omitempty"`
	What    []string `json:"what"`
}

// changeJSON is one line of diff --json.
type changeJSON struct {
	Action string    `json:"action"` // the word of all commands for kind
	Kind   string    `json:"kind"`
	New    *sideJSON `json:"new,omitempty"`
	Old    *sideJSON `json:"old,omitempty"`
	Path   string    `json:"path"`
	What   []string  `json:"what,omitempty"`
}

// sideJSON is what a file is on one side of a diff.
type sideJSON struct {
	GID   int    `json:"gid"`
	Link  string `json:"link,omitempty"`
	MTime int64  `json:"mtime"` // seconds since 1970
	Mode  string `json:"mode"`  // octal
	// Kind and Permissions are the words of all commands for type and mode.
	Kind        string `json:"kind"`
	Permissions string `json:"permissions"`
	Size        int64  `json:"size"`
	Type        string `json:"type"`
	UID         int    `json:"uid"`
}

func newChangeJSON(c diff.Change) changeJSON {
	return changeJSON{Action: string(c.Kind), Kind: string(c.Kind), New: newSideJSON(c.New), Old: newSideJSON(c.Old), Path: c.Path, What: c.Aspects.Names()}
}

func newSideJSON(h *tar.Header) *sideJSON {
	if h == nil {
		return nil
	}
	permissions, kind := fmt.Sprintf("%04o", h.Mode), cause.TypeName(h.Typeflag)
	return &sideJSON{
		GID: h.Gid, Link: h.Linkname, MTime: h.ModTime.Unix(), Mode: permissions, Permissions: permissions,
		Size: h.Size, Type: kind, Kind: kind, UID: h.Uid,
	}
}
