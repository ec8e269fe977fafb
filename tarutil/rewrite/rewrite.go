// Package rewrite changes a tar while it flows past. [Tar] is the entry point. It moves entries
// below a prefix, selects them by patterns, sorts them, and gives them other owners, permissions
// and times, as [Options] say.
package rewrite

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"strings"

	"ocikit/tarutil"
)

// Options say how [Tar] changes entries. The zero value sets the owner to 0:0 and the time to 0, as the
// options of package pack do. To copy them, set Owner.Keep and [tarutil.KeepMTime].
type Options struct {
	// StripComponents is how many names are taken off the front of each path. An entry with no more
	// names than that is left out. Then Prefix, a directory, is put in front.
	Prefix          string
	StripComponents int

	// Parents writes entries for the directories of Prefix.
	Parents bool

	// Only, if set, selects what is written, and Exclude what is not. They see the path in the input,
	// cleaned: no leading "/" or "./". A directory that is not selected is written all the same if
	// something below it is, and if it comes before that in the input.
	Only, Exclude *tarutil.Matcher

	// KeepWhiteouts keeps a whiteout that Exclude matches, unless the whole directory that it stands in
	// is left out. If a layer loses a whiteout, the file of a lower layer comes back.
	KeepWhiteouts bool

	Owner tarutil.Owner
	Mode  tarutil.Mode
	MTime tarutil.MTime

	// Sort writes the entries in tree order. That needs a temporary file as large as the output, and
	// memory for the names.
	Sort bool
	// TempDir is where that file goes; "" is the system's default.
	TempDir string

	// MaxSparse is the largest sparse file that is written; 0 stands for
	// [tarutil.DefaultMaxSparse]. Holes are written as zeros.
	MaxSparse int64
	// AllowNoEnd accepts a tar without the two zero blocks at its end.
	AllowNoEnd bool
}

func (o *Options) readOptions() tarutil.ReadOptions {
	return tarutil.ReadOptions{AllowNoEnd: o.AllowNoEnd, MaxSparse: o.MaxSparse}
}

// Tar reads a tar from r, which may be compressed as [tarutil.Decompress] knows, and writes it to w as
// [tarutil.Writer] encodes it, in the same order unless Sort is set. It reads r to its end, and refuses
// what [tarutil.Checker] refuses. It closes neither. The end marker is written on success only, so
// after an error the output is visibly torn. Memory holds one header at a time, those of directories that
// Only and Exclude leave out, and what a [tarutil.Gate] holds.
//
//   - Names lose leading slashes and "." components. A ".." takes the component before it away, and
//     is refused where there is none. The entry of the root is kept, as "./", only if nothing is
//     moved and Only is not set.
//   - The directories of Prefix have no entries unless Parents is set. Then they are written once,
//     before the first entry, with the mode 0755.
//   - An opaque whiteout that would come to stand at the root wraps [tarutil.ErrOpaqueRoot].
//   - Targets of hard links are moved like names, and those of symbolic links stay as they are. If
//     a hard link is selected and its target is not, the first such link gets the target's content,
//     and further ones become links to it. That takes two passes. If r is no [io.Seeker], or cannot
//     seek, such a link is an error.
//   - Extended attributes that [tarutil.XattrsAll] leaves out are dropped. What global extended
//     headers say of owner and time goes to the entries behind them. A global header that would
//     change anything else is refused.
//
// The tar that is written can be a layer, by the rules of [tarutil.Gate]. A path that occurs twice
// is an error wrapping [tarutil.ErrDuplicate]. With Sort the last of several entries for a path
// stays instead, but it is still an error if only some of them are directories, or if a hard link
// leads to one of them.
//
// An error wraps [tarutil.ErrNothing] if Only is set and selects nothing.
func Tar(ctx context.Context, w io.Writer, r io.Reader, opts Options) error {
	rw := &rewriter{opts: &opts}
	var err error
	if rw.prefix, err = tarutil.CleanPath(opts.Prefix); err == nil {
		err = tarutil.RefuseWhiteout(rw.prefix)
	}
	if err != nil {
		return fmt.Errorf("prefix %q: %w", opts.Prefix, err)
	}

	if err := rw.planLinks(ctx, r); err != nil {
		return err
	}

	if opts.Sort {
		return tarutil.WriteSorted(ctx, w, opts.TempDir, func(tw *tarutil.Writer) error { return rw.run(ctx, tw, r) })
	}

	tw := tarutil.NewWriter(w)
	if err := rw.run(ctx, tw, r); err != nil {
		return err
	}

	return tw.Close()
}

// Excludes reports whether Exclude leaves out an entry by its clean path in the input, with the
// exception that KeepWhiteouts makes.
func (o *Options) Excludes(name string) bool {
	dir, base := tarutil.SplitPath(name)
	if o.KeepWhiteouts && strings.HasPrefix(base, tarutil.WhiteoutPrefix) {
		return o.Exclude.Match(dir) && !o.Exclude.MayReinclude(dir)
	}
	return o.Exclude.Match(name)
}

// A rewriter is one run of Tar.
type rewriter struct {
	opts   *Options
	prefix string
	tw     *tarutil.Writer
	rules  *tarutil.LayerRules
	wrote  bool
	links  *linkPlan // nil if r cannot be read twice
	// held are the directories that came, are not selected, and have nothing selected in them yet, by
	// path; see Options.Only.
	held   map[string]*tar.Header
	budget *tarutil.Budget // of held
}

// heldMemory is about how many bytes a directory that is held needs, without its name. maxHeld is how many
// they may need together: some 200,000 directories.
const (
	heldMemory = 280
	maxHeld    = 64 << 20
)

// run reads the tar from r and writes it to tw, without the end marker.
func (rw *rewriter) run(ctx context.Context, tw *tarutil.Writer, r io.Reader) error {
	rw.tw, rw.rules = tw, tarutil.NewLayerRules()
	rw.held, rw.budget = map[string]*tar.Header{}, tarutil.NewBudget(maxHeld)
	in, err := tarutil.NewEntryReader(ctx, r, rw.opts.readOptions())
	if err != nil {
		return err
	}

	for hdr, err := range in.All() {
		if err != nil {
			return err
		}
		if err := rw.entry(hdr, in); err != nil {
			return err
		}
	}

	if rw.opts.Only != nil && !rw.wrote {
		return tarutil.ErrNothing
	}

	return nil
}

// entry writes an entry, if it is selected, with the content that in has.
func (rw *rewriter) entry(hdr *tar.Header, in *tarutil.EntryReader) error {
	name := hdr.Name
	if !rw.selected(name) {
		// The file is left out, but a selected hard link leads to it: that link becomes the file.
		if rw.links != nil && rw.links.heirs[name] != "" && hdr.Typeflag != tar.TypeLink {
			if hdr.Typeflag == tar.TypeDir {
				return in.EntryError(fmt.Errorf("%w: a hard link leads to it", tarutil.ErrMalformed))
			}
			if rw.links.given[name] {
				return in.EntryError(fmt.Errorf("%w, and a hard link to it is selected", tarutil.ErrDuplicate))
			}
			rw.links.given[name] = true
			return rw.write(hdr, rw.links.heirs[name], in)
		}
		if hdr.Typeflag == tar.TypeDir && name != "" {
			return in.EntryError(rw.hold(hdr))
		}
		return nil
	}

	if hdr.Typeflag == tar.TypeLink {
		skip, err := rw.relink(hdr)
		if err != nil {
			return in.EntryError(err)
		}
		if skip {
			return rw.writeHeld(name, in)
		}
	}

	return rw.write(hdr, name, in)
}

// selected reports whether an entry is in the output, by its path in the input.
func (rw *rewriter) selected(name string) bool {
	if name == "" {
		return rw.opts.Only == nil && rw.prefix == "" && rw.opts.StripComponents <= 0
	}
	return (rw.opts.Only == nil || rw.opts.Only.Match(name)) && !rw.opts.Excludes(name) &&
		rw.place(name) != ""
}

// place returns where a path of the input is in the output, or "" if nothing is left of it.
func (rw *rewriter) place(name string) string {
	for range rw.opts.StripComponents {
		var more bool
		if _, name, more = strings.Cut(name, "/"); !more {
			return ""
		}
	}
	return tarutil.JoinPath(rw.prefix, name)
}

// write writes an entry as if name were its path in the input. It writes the directories held back for
// it first.
func (rw *rewriter) write(hdr *tar.Header, name string, in *tarutil.EntryReader) error {
	if !rw.wrote {
		rw.wrote = true
		if err := rw.writePrefix(); err != nil {
			return err
		}
	}

	if err := rw.writeHeld(name, in); err != nil {
		return err
	}

	// The root is written as "./". An opaque whiteout must not move there, since engines ignore it.
	place := rw.place(name)
	switch {
	case name == "":
		place = "./"
	case place == tarutil.OpaqueName:
		return in.EntryError(tarutil.ErrOpaqueRoot)
	}

	if err := rw.writeHeader(rw.header(hdr, place)); err != nil {
		return in.EntryError(err)
	}

	_, err := rw.tw.ReadFrom(in)
	return err
}

// hold keeps a directory until something in it is selected. That need not come next: not every tar is in
// the order of its tree.
func (rw *rewriter) hold(dir *tar.Header) error {
	if rw.place(dir.Name) == "" {
		return nil
	}
	rw.release(dir.Name)
	rw.held[dir.Name] = dir
	return rw.budget.Take(heldRoom(dir))
}

// heldRoom returns about how many bytes a directory that is held needs.
func heldRoom(dir *tar.Header) int {
	return heldMemory + len(dir.Name) + tarutil.RecordsMemory(dir.PAXRecords)
}

// release forgets a directory that is held, and gives its room back.
func (rw *rewriter) release(name string) {
	if dir := rw.held[name]; dir != nil {
		delete(rw.held, name)
		rw.budget.Give(heldRoom(dir))
	}
}

// writeHeld writes the directories held back that a path of the input lies in, from the outside in, and
// once.
func (rw *rewriter) writeHeld(name string, in *tarutil.EntryReader) error {
	if len(rw.held) == 0 {
		return nil
	}
	for i, c := range []byte(name) {
		if c != '/' {
			continue
		}
		dir := rw.held[name[:i]]
		if dir == nil {
			continue
		}
		if err := rw.writeHeader(rw.header(dir, rw.place(dir.Name))); err != nil {
			return in.EntryError(err)
		}
		rw.release(name[:i])
	}
	return nil
}

// writeHeader writes a header, if the rules of a layer let it come here. With Sort the order is not the
// final one, and the sorter applies rules of its own.
func (rw *rewriter) writeHeader(hdr *tar.Header) error {
	if !rw.opts.Sort {
		clean := *hdr
		clean.Name = strings.TrimSuffix(strings.TrimPrefix(hdr.Name, "./"), "/")
		if err := rw.rules.Entry(&clean); err != nil {
			return err
		}
	}
	return rw.tw.WriteHeader(hdr)
}

// writePrefix writes the directories of the prefix, if they are asked for.
func (rw *rewriter) writePrefix() error {
	if !rw.opts.Parents {
		return nil
	}
	for i, c := range rw.prefix + "/" {
		if c != '/' || i == 0 {
			continue
		}
		if err := rw.tw.WriteHeader(rw.made(rw.prefix[:i])); err != nil {
			return err
		}
	}
	return nil
}

// header returns hdr as it is written at a place, changed as the options say.
func (rw *rewriter) header(hdr *tar.Header, place string) *tar.Header {
	out := &tar.Header{
		Typeflag: hdr.Typeflag,
		Name:     place,
		Linkname: hdr.Linkname,
		Size:     hdr.Size,
		Mode:     rw.opts.Mode.Apply(hdr.Typeflag, hdr.Mode),
		Uid:      hdr.Uid, Gid: hdr.Gid,
		Uname: hdr.Uname, Gname: hdr.Gname,
		ModTime:  rw.opts.MTime.Apply(hdr.ModTime),
		Devmajor: hdr.Devmajor, Devminor: hdr.Devminor,
	}

	if hdr.Typeflag != tar.TypeReg && hdr.Typeflag != tar.TypeCont && hdr.Typeflag != tar.TypeGNUSparse {
		out.Size = 0 // whatever the header says, there is no content
	}

	rw.opts.Owner.Apply(out)
	out.PAXRecords = tarutil.ImageRecords(hdr.PAXRecords)
	return out
}

// made returns the header of a directory that the input does not have.
func (rw *rewriter) made(name string) *tar.Header {
	hdr := &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: rw.opts.MTime.Made()}
	rw.opts.Owner.Apply(hdr)
	return hdr
}
