package stack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"ocikit/tarutil"
	"ocikit/tarutil/internal/handle"
)

// ExtractOptions say how [Extract] writes files.
type ExtractOptions struct {
	// Owners gives files their owners, and makes devices; it needs the rights of root. Without
	// it everything belongs to the user, devices are skipped, and files lose their setuid and
	// setgid bits, which would mean the rights of the user and not those of the image.
	Owners bool
	// Workers is how many files are written at once; 0 stands for two a processor.
	Workers int
}

// Extracted is what [Extract] did, and what it left out.
type Extracted struct {
	Files   int // names made
	Devices int // devices, and on systems without them fifos, that were skipped
	SetID   int // files that lost their setuid or setgid bit
	Xattrs  int // extended attributes that the file system or the user may not have
}

// Extract applies layers, as [Apply] does, and writes the files of the stack below root, which must
// be empty. Layers are read once. While they are, contents go to a stage: a directory of a random
// name in root, which nobody else may enter, with files that are called by numbers. Only when all
// layers were read to their ends, and so were verified, are files moved to their names, and the
// stage is removed. After an error names of verified layers may be there, which the caller
// removes.
//
// Every file gets its name in its directory's handle, and only where nothing is; so no name in a
// layer can lead out of root, and nothing that is there already is opened, followed or changed.
// Directories are made first, then files moved into them, then links to files made, then symbolic
// links, fifos and devices: while files get their names there is no link that could be followed.
// Attributes of directories come last, so that their times are right.
//
// Permissions are those of the image, whatever the umask, with the sticky, setuid and setgid bits
// (but see Owners). Of extended attributes security.capability, POSIX ACLs and user.* are written,
// but for user.overlay.*; no other program's attributes are. A file gets what gives it rights of
// another user together with its name, after its layer was verified. Directories that no layer has
// an entry for get 0755 and the time 0.
//
// # Design
//
// Layers could be read twice instead, once for the names and once for the contents that are left,
// as [Stack.Walk] does. Then files would need no second name, and what upper layers remove would
// need no room on the disk. But most of the time goes into decompressing, and that would be done
// twice. What is removed is removed from the stage as soon as its layer is applied.
func Extract(ctx context.Context, root *os.Root, layers []Layer, opts Options, how ExtractOptions) (*Stack, Extracted, error) {
	st, err := newStage(ctx, root, how)
	if err != nil {
		return nil, Extracted{}, err
	}

	// After an error the stage is removed as far as that can be done: that error counts.
	defer st.remove()
	s, err := apply(ctx, layers, opts, st)
	st.wait()
	if err != nil {
		return nil, Extracted{}, err
	}

	x := &extraction{tree: s.tree, opts: how, stage: st, refused: make(map[*stackFile]bool)}
	if x.dirs, err = newDirCache(root, s.tree); err == nil {
		err = x.run(ctx)
		x.dirs.close()
	}
	if err != nil {
		return nil, x.done, err
	}

	return s, x.done, nil
}

// An extraction gives the files of a stack their names.
type extraction struct {
	tree  *stackTree
	opts  ExtractOptions
	stage *stage
	dirs  *dirCache
	done  Extracted

	refused map[*stackFile]bool // devices that the system does not let the user make
}

func (x *extraction) run(ctx context.Context) error {
	var dirs, files, others []*node
	t := x.tree
	t.visit(t.root, func(n *node) {
		switch flag := t.file(n).flag; {
		case flag == tar.TypeDir:
			dirs = append(dirs, n)
		case flag == tar.TypeReg && t.isFirst(n):
			files = append(files, n)
		default:
			others = append(others, n)
		}
	})

	// Directories come first. Until they are finished nobody else may enter them. The root, which
	// is dirs[0], was made by the caller.
	for _, n := range dirs[1:] {
		if err := x.at(ctx, n, func(d *openedDir) error { return d.mkdir(t.name(n), 0o700) }); err != nil {
			return err
		}
	}

	// Files leave the stage. What stays there was of lower layers, or has no name.
	for _, n := range files {
		if err := x.place(ctx, n); err != nil {
			return err
		}
	}
	if err := x.stage.remove(); err != nil {
		return err
	}

	if err := x.others(ctx, others); err != nil {
		return err
	}

	// No name is made any more, which would change the time of its directory. The deepest one is
	// finished first: what is below a directory that nobody may enter cannot be reached.
	for i := len(dirs) - 1; i >= 0; i-- {
		if n := dirs[i]; n != t.root || !t.file(n).implied {
			if err := x.finishDir(ctx, n); err != nil {
				return err
			}
		}
	}

	x.done.Files += len(dirs) - 1
	return nil
}

// at calls do with the open directory of n. Its errors name n.
func (x *extraction) at(ctx context.Context, n *node, do func(*openedDir) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}

	if err := checkSystemName(x.tree.name(n)); err != nil {
		return fmt.Errorf("file %q: %w", x.tree.path(n), err)
	}

	d, err := x.dirs.open(x.tree.dir(n))
	if err == nil {
		defer x.dirs.release(d)
		err = do(d)
	}
	if errors.Is(err, fs.ErrExist) {
		err = x.sameName(n)
	}
	if err != nil {
		return fmt.Errorf("file %q: %w", x.tree.path(n), handle.Cause(err))
	}

	return nil
}

// sameName says why a name is there already in a directory that was empty: the file system takes
// two names for one.
func (x *extraction) sameName(n *node) error {
	for other := range x.tree.in(x.tree.dir(n)) {
		if name := x.tree.name(other); other != n && strings.EqualFold(name, x.tree.name(n)) {
			return fmt.Errorf("%w: to this file system %q is the same name", fs.ErrExist, name)
		}
	}
	return fmt.Errorf("%w: this file system may take names for one that differ by case or Unicode form", fs.ErrExist)
}

// checkSystemName refuses a name that this system cannot give to a file, or would change.
func checkSystemName(name string) error {
	if runtime.GOOS == "windows" && !isWindowsName(name) {
		return fmt.Errorf("%w: Windows cannot hold it", tarutil.ErrBadPath)
	}
	return nil
}

// isWindowsName reports whether Windows holds a name as it is. It takes some characters for syntax,
// drops blanks and full stops at the end, and finds devices in every directory, whatever follows
// their names behind a full stop.
func isWindowsName(name string) bool {
	bad := func(r rune) bool { return r < ' ' || strings.ContainsRune(`<>:"/\|?*`, r) }
	if name == "" || strings.ContainsFunc(name, bad) || strings.HasSuffix(name, " ") || strings.HasSuffix(name, ".") {
		return false
	}

	// "nul.tar.gz" is the device NUL, and so is "nul .txt".
	base, _, _ := strings.Cut(name, ".")
	base = strings.ToUpper(strings.TrimRight(base, " "))
	switch base {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return false
	}

	for _, device := range []string{"COM", "LPT"} {
		if n, ok := strings.CutPrefix(base, device); ok && len([]rune(n)) == 1 && strings.Contains("123456789¹²³", n) {
			return false
		}
	}

	return true
}

// place moves a regular file from the stage to its name.
func (x *extraction) place(ctx context.Context, n *node) error {
	return x.at(ctx, n, func(d *openedDir) error {
		f, name := x.tree.file(n), x.tree.name(n)
		staged := stagedName(f.layer, f.entry)
		err := d.take(x.stage.dirHandle, staged, name)
		if errors.Is(err, errors.ErrUnsupported) {
			err = x.stage.moveByPath(staged, x.tree.path(n))
		}
		if err != nil {
			return err
		}

		x.done.Files++
		x.done.Xattrs += int(f.lacks.xattrs)
		if f.lacks.setID {
			x.done.SetID++
		}
		a := x.tree.attributes(f)
		if a == nil {
			return nil
		}

		refused, err := x.stage.setPrivileges(d.dirHandle, name, a)
		x.done.Xattrs += refused
		return err
	})
}

// link makes one more name of a file. Neither path leads through a link, for they are real
// paths, and symbolic links to lead elsewhere are not there yet or not on the way.
func (x *extraction) link(ctx context.Context, n *node) error {
	f := x.tree.file(n)
	if x.skips(f) {
		x.done.Devices++
		return nil
	}
	return x.at(ctx, n, func(*openedDir) error {
		x.done.Files++
		return x.dirs.root.Link(x.tree.paths.Path(f.first), x.tree.path(n))
	})
}

// skips says whether f is not made here, or could not be.
func (x *extraction) skips(f *stackFile) bool {
	switch f.flag {
	case tar.TypeChar, tar.TypeBlock:
		return !makesNodes || !x.opts.Owners || x.refused[f]
	case tar.TypeFifo:
		return !makesNodes
	}
	return false
}

// special makes a symbolic link, a fifo or a device.
func (x *extraction) special(ctx context.Context, n *node) error {
	f := x.tree.file(n)
	if x.skips(f) {
		x.done.Devices++
		return nil
	}

	a, name := x.tree.attributes(f), x.tree.name(n)
	return x.at(ctx, n, func(d *openedDir) error {
		var err error
		if f.flag == tar.TypeSymlink {
			err = d.symlink(a.rare.target, name)
		} else {
			err = d.makeNode(name, f.flag, a)

			// The root of a user namespace may not make devices. Further names find none to lead to.
			if f.flag != tar.TypeFifo && errors.Is(err, fs.ErrPermission) {
				x.refused[f] = true
				x.done.Devices++
				return nil
			}
		}

		if err == nil {
			x.done.Files++
			err = x.setAttributes(spot{d: d.dirHandle, name: name}, a, f.flag, have{owner: x.stage.made.Load().owner(a)})
		}

		return err
	})
}

// others makes the names that are neither directories nor the first ones of regular files.
func (x *extraction) others(ctx context.Context, names []*node) error {
	t := x.tree
	isFile := func(n *node) bool { return t.file(n).flag == tar.TypeReg }
	for _, pass := range []struct {
		takes func(*node) bool
		make  func(context.Context, *node) error
	}{
		// Further names of regular files: both paths are real, and no link is there yet.
		{isFile, x.link},

		// No content is written any more, so symbolic links can be made now, and what lies beside
		// them: fifos and devices.
		{func(n *node) bool { return !isFile(n) && t.isFirst(n) }, x.special},

		// Their further names: only now are the first ones there.
		{func(n *node) bool { return !isFile(n) && !t.isFirst(n) }, x.link},
	} {
		for _, n := range names {
			if !pass.takes(n) {
				continue
			}
			if err := pass.make(ctx, n); err != nil {
				return err
			}
		}
	}

	return nil
}

// setAttributes gives a file its attributes, if it is not a regular file.
func (x *extraction) setAttributes(at spot, a *attributes, flag byte, had have) error {
	lacks, err := x.opts.setAttributes(at, a, flag, had)
	x.done.Xattrs += int(lacks.xattrs)
	return err
}

// finishDir gives a directory its attributes.
func (x *extraction) finishDir(ctx context.Context, n *node) error {
	if err := ctx.Err(); err != nil {
		return err
	}

	d, err := x.dirs.open(n)
	if err == nil {
		defer x.dirs.release(d)
		var f *outFile
		if f, err = d.self(); err == nil {
			defer f.Close()
			// The root was not made here.
			a := x.tree.attributes(x.tree.file(n))
			had := have{owner: n != x.tree.root && x.stage.made.Load().owner(a)}
			err = x.setAttributes(spot{d.dirHandle, ".", f}, a, tar.TypeDir, had)
		}
	}
	if err != nil {
		return fmt.Errorf("directory %q: %w", x.tree.path(n), handle.Cause(err))
	}

	return nil
}
