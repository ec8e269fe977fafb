package tarutil

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"strings"
)

// RewriteOptions say how [Rewrite] changes entries. The zero value sets the owner 0:0 and
// the time 0, as with [PackOptions]; to copy them, set Owner.Keep and [KeepMTime].
type RewriteOptions struct {
	// Prefix is a directory that all entries are put below, after StripComponents names were
	// taken off the front of their paths. Entries with no more names than that are left out.
	Prefix          string
	StripComponents int

	// Only, if set, selects what is written, and Exclude what is not, by the path in the input,
	// cleaned: no leading "/" or "./". Directories are also written if something below them
	// is, as far as they come before it in the input.
	Only, Exclude *Matcher

	Owner Owner
	Mode  Mode
	MTime MTime

	// Sort writes the entries in tree order. It needs a temporary file of the size of the
	// output, and memory for the names.
	Sort bool
	// TempDir is where that file goes; "" is the system's default.
	TempDir string

	// MaxSparse is the largest sparse file that is written; 0 stands for
	// [DefaultMaxSparse]. Holes are written as zeros.
	MaxSparse int64
	// AllowNoEnd accepts a tar without the two zero blocks at its end.
	AllowNoEnd bool
}

// Rewrite reads a tar from r, which may be compressed as [Decompress] knows, and writes it
// to w as [Writer] encodes it: in the same order, unless Sort is set. Only headers are held in
// memory, one at a time. r is read to its end, and what [Checker] refuses is refused. The end
// marker is written on success only.
//
//   - Names lose leading slashes and "." components; those with ".." are refused. The entry
//     of the root is kept, as "./", only if nothing is moved or selected.
//   - The directories of Prefix are written once, before the first entry, as by [Pack].
//   - Targets of hard links are moved like names; those of symbolic links stay as they
//     are. If a hard link is selected and its target is not, the first such link gets the
//     target's content, and further ones become links to it. That takes two passes, so r must be
//     an [io.Seeker] that can seek; else it is an error.
//   - Extended attributes that [XattrsAll] leaves out are dropped. Global extended headers
//     are dropped, and refused if they would change entries.
//
// An error wraps [ErrNothing] if Only is set and selects nothing. With Sort, a path that
// occurs twice and is not a directory both times wraps [ErrDuplicate].
func Rewrite(ctx context.Context, w io.Writer, r io.Reader, opts RewriteOptions) error {
	rw := &rewriter{opts: &opts}
	var err error
	if rw.prefix, err = cleanPath(opts.Prefix); err == nil && rw.prefix != "" {
		err = refuseWhiteout(rw.prefix)
	}
	if err != nil {
		return fmt.Errorf("prefix %q: %w", opts.Prefix, err)
	}
	if err := rw.planLinks(ctx, r); err != nil {
		return err
	}
	if opts.Sort {
		return sorted(ctx, w, opts.TempDir, func(tw *Writer) error { return rw.run(ctx, tw, r) })
	}
	tw := NewWriter(w)
	if err := rw.run(ctx, tw, r); err != nil {
		return err
	}
	return tw.Close()
}

// A rewriter is one run of Rewrite.
type rewriter struct {
	opts   *RewriteOptions
	prefix string
	tw     *Writer
	wrote  bool
	links  *linkPlan // nil if r cannot be read twice
	// held are the directories, from the outside in, that are not selected and that the
	// path being looked at lies in; see RewriteOptions.Only.
	held []*tar.Header
}

func (rw *rewriter) run(ctx context.Context, tw *Writer, r io.Reader) error {
	rw.tw = tw
	in, err := newEntryReader(ctx, r, rw.opts.AllowNoEnd, rw.opts.MaxSparse)
	if err != nil {
		return err
	}
	for {
		hdr, err := in.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := rw.entry(hdr, in); err != nil {
			return err
		}
	}
	if rw.opts.Only != nil && !rw.wrote {
		return ErrNothing
	}
	return nil
}

// entry writes the entry hdr, if it is selected, with the content that in has.
func (rw *rewriter) entry(hdr *tar.Header, in *entryReader) error {
	for n := len(rw.held); n > 0 && !strings.HasPrefix(hdr.Name, rw.held[n-1].Name+"/"); n-- {
		rw.held = rw.held[:n-1]
	}
	name := hdr.Name
	if !rw.selected(name) {
		if rw.links != nil && rw.links.heirs[name] != "" && hdr.Typeflag != typeLink {
			if hdr.Typeflag == typeDir {
				return in.check.entryError(fmt.Errorf("%w: a hard link leads to it", ErrMalformed))
			}
			if rw.links.given[name] {
				return in.check.entryError(fmt.Errorf("%w, and a hard link to it is selected", ErrDuplicate))
			}
			rw.links.given[name] = true
			return rw.write(hdr, rw.links.heirs[name], in)
		}
		if hdr.Typeflag == typeDir && name != "" {
			rw.held = append(rw.held, hdr)
		}
		return nil
	}
	if hdr.Typeflag == typeLink {
		skip, err := rw.relink(hdr)
		if err != nil {
			return in.check.entryError(err)
		}
		if skip {
			return nil
		}
	}
	return rw.write(hdr, name, in)
}

// selected says whether the path name of the input is in the output.
func (rw *rewriter) selected(name string) bool {
	if name == "" {
		return rw.opts.Only == nil && rw.prefix == "" && rw.opts.StripComponents <= 0
	}
	return (rw.opts.Only == nil || rw.opts.Only.Match(name)) && !rw.opts.Exclude.Match(name) &&
		rw.place(name) != ""
}

// place returns the path in the output of the path name of the input, or "" if stripping
// leaves nothing of it.
func (rw *rewriter) place(name string) string {
	for range rw.opts.StripComponents {
		var more bool
		if _, name, more = strings.Cut(name, "/"); !more {
			return ""
		}
	}
	return joinPath(rw.prefix, name)
}

// write writes an entry, as if it had the path name in the input, behind the directories
// that lead to it.
func (rw *rewriter) write(hdr *tar.Header, name string, in *entryReader) error {
	if !rw.wrote {
		rw.wrote = true
		for i, c := range rw.prefix + "/" {
			if c == '/' && i > 0 {
				if err := rw.tw.WriteHeader(rw.made(rw.prefix[:i])); err != nil {
					return err
				}
			}
		}
	}
	for _, dir := range rw.held {
		if place := rw.place(dir.Name); place != "" {
			if err := rw.tw.WriteHeader(rw.header(dir, place)); err != nil {
				return in.check.entryError(err)
			}
		}
	}
	rw.held = rw.held[:0]
	place := rw.place(name)
	if name == "" {
		place = "./"
	}
	if err := rw.tw.WriteHeader(rw.header(hdr, place)); err != nil {
		return in.check.entryError(err)
	}
	_, err := rw.tw.ReadFrom(in)
	return err
}

// header returns hdr as it is written.
func (rw *rewriter) header(hdr *tar.Header, place string) *tar.Header {
	out := &tar.Header{
		Typeflag: hdr.Typeflag,
		Name:     place,
		Linkname: hdr.Linkname,
		Size:     hdr.Size,
		Mode:     rw.opts.Mode.apply(hdr.Typeflag, hdr.Mode),
		Uid:      hdr.Uid, Gid: hdr.Gid,
		Uname: hdr.Uname, Gname: hdr.Gname,
		ModTime:  rw.opts.MTime.apply(hdr.ModTime),
		Devmajor: hdr.Devmajor, Devminor: hdr.Devminor,
	}
	if hdr.Typeflag != typeReg && hdr.Typeflag != tar.TypeCont && hdr.Typeflag != tar.TypeGNUSparse {
		out.Size = 0 // whatever the header says, there is no content
	}
	if !rw.opts.Owner.Keep {
		out.Uid, out.Gid, out.Uname, out.Gname = rw.opts.Owner.UID, rw.opts.Owner.GID, "", ""
	}
	out.PAXRecords = imageRecords(hdr.PAXRecords)
	return out
}

// imageRecords returns copies of the PAX records that are kept, with their values as they
// belong in an image.
func imageRecords(records map[string]string) map[string]string {
	var kept map[string]string
	for key, value := range records {
		attr, ok := strings.CutPrefix(key, xattrPrefix)
		if ok && !XattrsAll.keeps(attr) || !keepRecord(key) {
			continue
		}
		if kept == nil {
			kept = make(map[string]string)
		}
		if ok {
			value = imageXattr(attr, value)
		}
		kept[strings.Clone(key)] = strings.Clone(value)
	}
	return kept
}

// made returns the header of a directory that the input does not have.
func (rw *rewriter) made(name string) *tar.Header {
	hdr := &tar.Header{Typeflag: typeDir, Name: name, Mode: 0o755, ModTime: rw.opts.MTime.made()}
	if !rw.opts.Owner.Keep {
		hdr.Uid, hdr.Gid = rw.opts.Owner.UID, rw.opts.Owner.GID
	}
	return hdr
}
