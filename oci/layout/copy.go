package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/progress"
)

// How says how a blob got, or would get, from one layout to another.
type How string

// The ways of a blob.
const (
	HowKept     How = "keep"   // it is there already, and right
	HowLinked   How = "link"   // both layouts share one file
	HowCloned   How = "clone"  // both files share their blocks
	HowCopied   How = "copy"   // its bytes were copied and verified
	HowRepaired How = "repair" // a damaged one was there; copied and verified
	HowAbsent   How = "absent" // it may be absent, and is
)

// CopyOptions say what is copied with images, and how.
type CopyOptions struct {
	Referrers bool // also what refers to them: signatures, SBOMs
	NoLink    bool // copy bytes, share nothing with the other layout
	Verify    bool // hash what is linked or cloned, too
	DryRun    bool // say what would be done, do nothing

	Report func(desc oci.Descriptor, how How) error // of each blob, if not nil
}

// Copy brings images from another layout, or another place in the same one. Each of images is
// a descriptor whose annotation [oci.AnnotationRefName] is the tag to give it here; without
// one it gets an entry without a name. A blob is linked or cloned where the file system
// can, else its bytes are copied and verified. A link is the same file, so its bytes are not
// read, unless the options say so; its size is checked, and documents are verified in any
// case. A blob that is here already is verified, and replaced if it is damaged.
//
// The source may lack blobs that are here. What is in neither gives [ErrIncomplete]; then no
// name is set. Names are set under the lock, all at once and last.
//
// With DryRun l may be nil, for a layout that does not exist yet.
func (l *Layout) Copy(ctx context.Context, from *Layout, images []oci.Descriptor, o CopyOptions) error {
	c := &copier{to: l, from: from, o: o, sizes: map[digest.Digest]int64{}}
	if err := c.collect(images); err != nil {
		return err
	}
	entries := slices.Clone(images)
	if o.Referrers {
		refs, err := c.referrers(images)
		if err != nil {
			return err
		}
		entries = append(entries, refs...)
	}
	from.plan(len(c.blobs), c.total())
	for _, desc := range slices.Backward(c.blobs) { // leaves first
		how, err := c.blob(ctx, desc)
		if err != nil {
			return err
		}
		c.tell(desc, how)
		if o.Report != nil {
			if err := o.Report(desc, how); err != nil {
				return err
			}
		}
	}
	if o.DryRun {
		return nil
	}
	if err := c.syncDirs(); err != nil {
		return err
	}
	return l.Update(ctx, func(x *oci.Index) error {
		// A GC may have come in between; under the lock none can.
		for _, desc := range slices.Backward(c.blobs) {
			if errors.Is(l.checkSize(desc), ErrNotFound) {
				if _, err := c.blob(ctx, desc); err != nil {
					return err
				}
			}
		}
		if err := c.syncDirs(); err != nil {
			return err
		}
		for i, e := range entries {
			entries[i] = e.WithAnnotation(oci.AnnotationDiffID, "")
		}
		setEntries(x, entries...)
		return nil
	})
}

// A copier is one run of Copy.
type copier struct {
	to, from *Layout
	o        CopyOptions
	blobs    []oci.Descriptor        // parents before children
	sizes    map[digest.Digest]int64 // of blobs, by their descriptors
	dirty    map[string]bool         // directories that are not synced yet
}

func (c *copier) total() int64 {
	var n int64
	for _, desc := range c.blobs {
		n += desc.Size
	}
	return n
}

// tell tells whoever watches of a blob of which no bytes were read.
func (c *copier) tell(desc oci.Descriptor, how How) {
	if c.from.report == nil {
		return
	}
	e := progress.Event{Kind: progress.Done, Digest: desc.Digest, Size: desc.Size, Offset: desc.Size}
	switch how {
	case HowKept:
		e.Kind = progress.Exists
	case HowAbsent:
		e.Kind = progress.Skip
	case HowLinked, HowCloned:
		e.Text = string(how)
	default:
		return
	}
	c.from.report(e)
}

// collect adds what images are made of. Documents come from the source, or from the target if
// the source lacks them.
func (c *copier) collect(images []oci.Descriptor) error {
	stack := slices.Clone(images)
	slices.Reverse(stack)
	type key struct {
		d         digest.Digest
		mediaType string
		size      int64
	}
	walked := map[key]bool{}
	for len(stack) > 0 {
		desc := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if err := desc.CheckData(); err != nil {
			return err
		}
		if k := (key{desc.Digest, desc.MediaType, desc.Size}); walked[k] {
			continue
		} else {
			walked[k] = true
		}
		_, refs, err := c.from.document(desc)
		if errors.Is(err, ErrNotFound) && c.to != nil {
			_, refs, err = c.to.document(desc)
		}
		if err != nil {
			return incomplete(err)
		}
		if err := c.add(desc); err != nil {
			return err
		}
		for _, ref := range slices.Backward(refs) {
			stack = append(stack, ref)
		}
	}
	return nil
}

// add adds a blob. All descriptors of it must agree: only one of them is looked at later.
func (c *copier) add(desc oci.Descriptor) error {
	size, known := c.sizes[desc.Digest]
	if known && size != desc.Size {
		return fmt.Errorf("blob %s: descriptors say both %d and %d bytes: %w", desc.Digest, size, desc.Size, oci.ErrMalformed)
	}
	if !known {
		c.sizes[desc.Digest] = desc.Size
		c.blobs = append(c.blobs, desc)
	}
	return nil
}

// referrers adds what refers to the images, and returns the entries that it gets.
func (c *copier) referrers(images []oci.Descriptor) ([]oci.Descriptor, error) {
	found, err := c.from.Referrers(images)
	if err != nil {
		return nil, err
	}
	var entries []oci.Descriptor
	for _, r := range found {
		entries = append(entries, r.Desc)
	}
	return entries, c.collect(entries)
}

// blob brings one blob.
func (c *copier) blob(ctx context.Context, desc oci.Descriptor) (How, error) {
	d := desc.Digest
	if !d.Verifiable() {
		return "", fmt.Errorf("blob %s: %w", d, digest.ErrUnsupported)
	}
	source, size, err := c.from.openBlob(d)
	if err == nil {
		defer source.Close()
		if size != desc.Size {
			err = fmt.Errorf("layout %q: blob %s: got %d bytes, want %d: %w", c.from.dir, d, size, desc.Size, digest.ErrMismatch)
		}
	}
	var here fs.FileInfo
	statErr := fs.ErrNotExist
	if c.to != nil {
		here, statErr = c.to.root.Lstat(blobPath(d))
	}
	switch {
	case statErr == nil:
		return c.replace(ctx, desc, source, here, err)
	case !errors.Is(statErr, fs.ErrNotExist):
		return "", fmt.Errorf("layout %q: blob %s: %w", c.to.dir, d, cause(statErr))
	case errors.Is(err, ErrNotFound) && oci.IsForeignLayer(desc.MediaType):
		return HowAbsent, nil
	case errors.Is(err, ErrNotFound) && desc.Data != nil:
		return HowAbsent, desc.CheckData()
	case err != nil:
		return "", incomplete(err)
	}
	if c.o.DryRun {
		if c.o.NoLink || c.to == nil || !c.sameFileSystem() {
			return HowCopied, nil
		}
		return HowLinked, nil
	}
	if c.o.Verify {
		if err := c.check(ctx, source, desc); err != nil {
			return "", err
		}
	}
	if !c.o.NoLink {
		if how, done := c.share(source, desc); done {
			return how, nil
		}
	}
	return HowCopied, c.put(ctx, desc)
}

// replace looks at a blob that is here already, and brings it anew if it is damaged.
func (c *copier) replace(ctx context.Context, desc oci.Descriptor, source *os.File, here fs.FileInfo, sourceErr error) (How, error) {
	if source != nil && sourceErr == nil && !c.o.Verify {
		if info, err := source.Stat(); err == nil && os.SameFile(info, here) {
			return HowKept, nil // one file for both: nothing to compare it with
		}
	}
	if here.Mode().IsRegular() && here.Size() == desc.Size {
		f, err := c.to.OpenBlob(desc.Digest)
		if err != nil {
			return "", err
		}
		err = c.check(ctx, f, desc)
		f.Close()
		if err == nil || !errors.Is(err, digest.ErrMismatch) {
			return HowKept, err
		}
	}
	if sourceErr != nil {
		return "", fmt.Errorf("layout %q: blob %s is damaged: %w", c.to.dir, desc.Digest, incomplete(sourceErr))
	}
	if c.o.DryRun {
		return HowRepaired, nil
	}
	if here.IsDir() {
		c.to.sys.remove(c.to.root, blobPath(desc.Digest)) // only if it is empty; otherwise the rename fails
	}
	return HowRepaired, c.put(ctx, desc)
}

// check hashes an open blob from its start.
func (c *copier) check(ctx context.Context, f *os.File, desc oci.Descriptor) error {
	task := progress.NewTask(c.from.report, progress.Event{Digest: desc.Digest, Size: desc.Size})
	defer task.Stop()
	r := progress.Reader(digest.NewReader(contextReader{ctx, io.NewSectionReader(f, 0, 1<<62)}, desc.Digest, desc.Size), task)
	_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, make([]byte, 256<<10))
	return err
}

// put copies the bytes of a blob.
func (c *copier) put(ctx context.Context, desc oci.Descriptor) error {
	r, err := c.from.Blob(desc)
	if err != nil {
		return err
	}
	defer r.Close()
	_, _, err = c.to.Put(contextReader{ctx, r}, desc.Digest)
	return err
}

// share links a blob, or clones it. It reports false if the file system can do neither, or
// if the target got the blob from somebody else meanwhile.
func (c *copier) share(source *os.File, desc oci.Descriptor) (How, bool) {
	name := blobPath(desc.Digest)
	if c.to.mkdirs(path.Dir(name)) != nil {
		return "", false
	}
	if c.link(source, name) {
		return HowLinked, true
	}
	return HowCloned, c.clone(source, name)
}

// link gives the file of the source its name here. The paths are walked once more for it, so
// it is made sure that it was this file and that it got here.
func (c *copier) link(source *os.File, name string) bool {
	if c.from.path == "" || c.to.path == "" {
		return false
	}
	// What is linked must be durable: who wrote it may not have cared. Read-only file
	// systems and other users' files cannot always be synced, and then need not be.
	if err := c.to.sys.sync(source); err != nil && runtime.GOOS != "windows" && !errors.Is(err, errors.ErrUnsupported) {
		return false
	}
	to := filepath.Join(c.to.path, filepath.FromSlash(name))
	if c.to.sys.link(filepath.Join(c.from.path, filepath.FromSlash(name)), to) != nil {
		return false
	}
	here, err := c.to.root.Lstat(name)
	if err != nil {
		return false
	}
	if info, err := source.Stat(); err != nil || !os.SameFile(info, here) {
		return false // put replaces whatever it is
	}
	c.markDirty(path.Dir(name))
	return true
}

// clone makes a file that shares the blocks of the source.
func (c *copier) clone(source *os.File, name string) bool {
	if runtime.GOOS != "linux" {
		return false
	}
	f, tmp, err := c.to.temp()
	if err != nil {
		return false
	}
	if c.to.sys.clone(f, source) != nil {
		f.Close()
		c.to.sys.remove(c.to.root, tmp)
		return false
	}
	return c.to.publish(f, tmp, name) == nil
}

func (c *copier) markDirty(dir string) {
	if c.dirty == nil {
		c.dirty = map[string]bool{}
	}
	c.dirty[dir] = true
}

// syncDirs makes the names of linked blobs durable.
func (c *copier) syncDirs() error {
	for dir := range c.dirty {
		if err := c.to.syncDir(dir); err != nil {
			return fmt.Errorf("layout %q: sync %s: %w", c.to.dir, dir, cause(err))
		}
		delete(c.dirty, dir)
	}
	return nil
}

// sameFileSystem guesses whether blobs can be linked.
func (c *copier) sameFileSystem() bool {
	a, errA := c.from.root.Stat(".")
	b, errB := c.to.root.Stat(".")
	return errA == nil && errB == nil && c.from.path != "" && c.to.path != "" && sameDevice(a, b) &&
		strings.EqualFold(filepath.VolumeName(c.from.path), filepath.VolumeName(c.to.path))
}
