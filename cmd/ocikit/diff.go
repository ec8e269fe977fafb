package main

import (
	"archive/tar"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/tarutil"
)

func diffCommand() Command {
	return Command{
		Name: "diff", Args: "OLD NEW", Group: groupLayer, Progress: true,
		Short: "show what differs between two trees, or write the layer between them",
		Long: `Diff compares two directories, tars (plain or compressed, "-" is standard input) or images
(DIR:TAG, or a layout alone; their layers are applied) and prints a line for each path that differs: "added", "changed" or "deleted", then what changed (type, content,
mode, owner, times, xattrs, link, joined by commas; "-" for the others), then the path. --json
prints JSON lines with what is known of both sides.

--layer writes in its place the layer that turns OLD into NEW, as a tar with whiteouts, and the exit
status is 0. Owners and times in it are those of NEW; "ocikit retar" changes them.`,
		Example: "ocikit diff rootfs layer.tar --ignore times --ignore owner\nocikit diff rootfs layer.tar --layer | ocikit layer app",
		Status:  "0 if the trees are alike, 1 if they differ",
		Bind: func(fs *flag.FlagSet) Action {
			layer := fs.Bool("layer", false, "write the layer that turns OLD into NEW")
			asJSON := fs.Bool("json", false, "print JSON lines")
			ignore := list(fs, "ignore", "", "do not look at `what` changed: type, content, mode, owner, times, xattrs or link (repeatable)")
			exclude := list(fs, "exclude", "", "do not look at what matches `pattern` (repeatable)")
			platform := fs.String("platform", "", "take the images for this `platform` from indexes")
			out := fs.String("o", "", "write to `file` instead of standard output")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) != 2 {
					return usagef("%d operands, want OLD and NEW", len(args))
				}
				if args[0] == "-" && args[1] == "-" {
					return usagef("standard input is one tree, not two")
				}
				o := tarutil.DiffOptions{TempDir: env.Getenv("TMPDIR")}
				var err error
				if o.Exclude, err = matcher(env, *exclude, nil); err != nil {
					return err
				}
				if o.Ignore, err = parseWhat(*ignore); err != nil {
					return err
				}
				trees := fmt.Sprintf("%q and %q", args[0], args[1])
				before, closeOld, err := openTree(ctx, env, args[0], *platform)
				if err != nil {
					return err
				}
				defer closeOld()
				after, closeNew, err := openTree(ctx, env, args[1], *platform)
				if err != nil {
					return err
				}
				defer closeNew()
				if *layer {
					return env.toOutput(*out, true, func(w io.Writer) error {
						if _, err := tarutil.WriteDiff(ctx, w, before, after, o); err != nil {
							return packHint(fmt.Errorf("%s: %w", trees, err))
						}
						return nil
					})
				}
				changes, err := tarutil.Diff(ctx, before, after, o)
				if err != nil {
					return fmt.Errorf("%s: %w", trees, err)
				}
				if err := env.toOutput(*out, false, func(w io.Writer) error { return writeChanges(w, changes, *asJSON) }); err != nil {
					return err
				}
				if len(changes) > 0 {
					return errAnswerNo
				}
				return nil
			}
		},
	}
}

// openTree opens what an operand of diff names.
func openTree(ctx context.Context, env *Env, name, platform string) (tarutil.Tree, func() error, error) {
	if isImage(name) {
		l, desc, err := openManifest(name, platform)
		if err != nil {
			return nil, nil, err
		}
		env.watch(l)
		stack, err := image.NewStack(ctx, l, desc, tarutil.ApplyOptions{})
		if err != nil {
			l.Close()
			return nil, nil, err
		}
		return stack, l.Close, nil
	}
	if name != "-" {
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			return tarutil.DirTree(name), func() error { return nil }, nil
		}
	}
	in, err := env.data(name)
	if err != nil {
		return nil, nil, err
	}
	t := tarutil.TarTree(in, env.Getenv("TMPDIR"))
	t.AllowNoEnd = name != "-"
	return t, func() error {
		t.Close()
		return in.Close()
	}, nil
}

// isImage reports whether an operand names an image: its directory is a layout.
func isImage(operand string) bool {
	n, err := oci.ParseImageName(operand)
	if err != nil || operand == "-" {
		return false
	}
	_, err = os.Stat(filepath.Join(n.Dir, "oci-layout"))
	return err == nil
}

func parseWhat(names []string) (tarutil.What, error) {
	all := []tarutil.What{tarutil.WhatType, tarutil.WhatContent, tarutil.WhatMode, tarutil.WhatOwner, tarutil.WhatTimes, tarutil.WhatXattrs, tarutil.WhatLink}
	var set tarutil.What
	for _, n := range names {
		i := slices.IndexFunc(all, func(w tarutil.What) bool { return w.String() == n })
		if i < 0 {
			return 0, usagef("flag --ignore: %q: want type, content, mode, owner, times, xattrs or link", n)
		}
		set |= all[i]
	}
	return set, nil
}

func writeChanges(w io.Writer, changes []tarutil.Change, asJSON bool) error {
	for _, c := range changes {
		if asJSON {
			if err := writeJSON(w, newChangeJSON(c)); err != nil {
				return err
			}
			continue
		}
		what := c.What.String()
		if what == "" {
			what = "-"
		}
		if _, err := fmt.Fprintf(w, "%s %s %s\n", c.Kind, what, printable(c.Path)); err != nil {
			return err
		}
	}
	return nil
}

// changeJSON is one line of diff --json.
type changeJSON struct {
	Kind string    `json:"kind"`
	New  *sideJSON `json:"new,omitempty"`
	Old  *sideJSON `json:"old,omitempty"`
	Path string    `json:"path"`
	What []string  `json:"what,omitempty"`
}

// sideJSON is what a file is on one side of a diff.
type sideJSON struct {
	GID   int    `json:"gid"`
	Link  string `json:"link,omitempty"`
	MTime int64  `json:"mtime"` // seconds since 1970
	Mode  string `json:"mode"`  // octal
	Size  int64  `json:"size"`
	Type  string `json:"type"`
	UID   int    `json:"uid"`
}

func newChangeJSON(c tarutil.Change) changeJSON {
	return changeJSON{Kind: string(c.Kind), New: newSideJSON(c.New), Old: newSideJSON(c.Old), Path: c.Path, What: c.What.Names()}
}

func newSideJSON(h *tar.Header) *sideJSON {
	if h == nil {
		return nil
	}
	return &sideJSON{
		GID: h.Gid, Link: h.Linkname, MTime: h.ModTime.Unix(), Mode: fmt.Sprintf("%04o", h.Mode),
		Size: h.Size, Type: typeName(h.Typeflag), UID: h.Uid,
	}
}

func typeName(flag byte) string {
	switch flag {
	case tar.TypeReg:
		return "file"
	case tar.TypeDir:
		return "directory"
	case tar.TypeSymlink:
		return "symlink"
	case tar.TypeLink:
		return "hardlink"
	case tar.TypeFifo:
		return "fifo"
	case tar.TypeChar, tar.TypeBlock:
		return "device"
	}
	return fmt.Sprintf("type %q", flag)
}
