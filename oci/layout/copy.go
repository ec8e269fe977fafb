package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/disk"
	"ocikit/oci/graph"
	"ocikit/oci/progress"
	"ocikit/oci/source"
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

	Rules graph.Rules // what of the images may be absent

	Report   func(desc oci.Descriptor, how How) error // of each blob, if not nil
	Progress func(progress.Event)                     // of blobs whose bytes are not read, and of the plan; may be nil
}

// Copy brings images into the layout from any source, which may be another layout or this one. Each
// of images is a descriptor whose annotation [oci.AnnotationRefName] is the tag to give it here;
// without one it gets an entry without a name. From another layout a blob is linked or cloned where
// the file system can, else its bytes are copied and verified. A link is the same file, so its
// bytes are not read, unless the options say so; its size is checked, and documents are verified in
// any case. A blob that is here already is verified, and replaced if it is damaged.
//
// The source may lack blobs that are here. A blob that is in neither gives [ErrIncomplete], and
// no name is set, unless the rules allow that it is absent. Names are set under the lock, all
// at once and last; two images that would get one give [graph.ErrAmbiguous] before anything is done.
//
// An entry of an unknown type is copied as the blob that it is; an image of Docker's schema 1, whose
// layers nobody would find, is an error that wraps [oci.ErrMalformed].
//
// With DryRun l may be nil, for a layout that does not exist yet.
//
// There may be a hundred thousand images, so they are where the caller has them. They are not changed.
func (l *Layout) Copy(ctx context.Context, from source.Source, images []*oci.Descriptor, o CopyOptions) error {
	if err := graph.CheckNames(values(images)); err != nil {
		return err
	}

	// What names nothing is whole by itself, whatever its type. Of these images the layers would be
	// left behind.
	for _, desc := range images {
		if oci.IsSchema1(desc.MediaType) {
			return fmt.Errorf("%s is of type %q, want a manifest or an index: %w", desc.Digest, desc.MediaType, oci.ErrMalformed)
		}
	}

	c := &copier{to: l, from: from, o: o, dirty: map[string]bool{}}
	c.dir, _ = source.Unwrap(from).(*Layout)
	entries, err := c.plan(images)
	if err != nil {
		return err
	}

	if err := c.bring(ctx); err != nil || o.DryRun {
		return err
	}

	// Blobs must be durable before index.json names them. Most of the syncing is done here,
	// without the lock.
	if err := c.syncDirs(); err != nil {
		return err
	}

	p := newPlacement(withoutDiffIDs(entries))
	return l.edit(ctx, p.see, func(*oci.Index) ([]*oci.Descriptor, error) {
		return p.done(), c.complete(ctx)
	})
}

// plan works out what is to be brought, and returns the entries that index.json gets.
func (c *copier) plan(images []*oci.Descriptor) ([]*oci.Descriptor, error) {
	c.sizes = map[digest.Digest]int64{}
	defer func() { c.sizes = nil }()
	if err := c.collect(images); err != nil || !c.o.Referrers {
		return images, err
	}

	refs, err := c.referrers(slices.Collect(values(images)))
	if err != nil {
		return nil, err
	}

	entries := slices.Clip(images)
	for _, r := range refs {
		if len(images) == 1 {
			r = r.Beside(*images[0])
		}
		entries = append(entries, &r)
	}
	return entries, nil
}

// withoutDiffIDs returns entries without those that belong to descriptors in a pipe, not to index.json.
func withoutDiffIDs(entries []*oci.Descriptor) []*oci.Descriptor {
	entries = slices.Clone(entries)
	for i, e := range entries {
		if e.Annotations.Get(oci.AnnotationDiffID) != "" {
			bare := e.WithAnnotation(oci.AnnotationDiffID, "")
			entries[i] = &bare
		}
	}
	return entries
}

// values returns the descriptors of a list.
func values(list []*oci.Descriptor) iter.Seq[oci.Descriptor] {
	return func(yield func(oci.Descriptor) bool) {
		for _, d := range list {
			if !yield(*d) {
				return
			}
		}
	}
}

// bring brings all blobs, and says of each how. Children come before parents, so a copy that is cut
// short leaves no manifest without its layers.
func (c *copier) bring(ctx context.Context) error {
	c.report(progress.Event{Kind: progress.Plan, Count: len(c.blobs), Size: c.total()})
	for _, b := range c.blobs {
		desc := b.descriptor()
		how, err := c.blob(ctx, desc)
		if err != nil {
			return err
		}
		c.tell(desc, how)
		if c.o.Report != nil {
			if err := c.o.Report(desc, how); err != nil {
				return err
			}
		}
	}
	return nil
}

// complete brings what is no longer here. A GC may have come since the blobs were brought; under the
// lock, where complete is called, none can.
func (c *copier) complete(ctx context.Context) error {
	for _, b := range c.blobs {
		if _, err := c.to.Stat(b.digest); errors.Is(err, ErrNotFound) {
			if _, err := c.blob(ctx, b.descriptor()); err != nil {
				return err
			}
		}
	}
	return c.syncDirs()
}

// A copier is one run of Copy.
type copier struct {
	to    *Layout
	from  source.Source
	dir   *Layout // the source, if it is a layout: its files can be shared
	o     CopyOptions
	blobs []blob                  // children before parents
	sizes map[digest.Digest]int64 // of blobs, by their descriptors, while they are collected
	dirty map[string]bool         // directories that are not synced yet
}

// A blob is what counts of a descriptor while its blob is brought.
type blob struct {
	mediaType string
	digest    digest.Digest
	size      int64
	data      *[]byte // the blob itself, if embedded
}

func (b blob) descriptor() oci.Descriptor {
	d := oci.Descriptor{MediaType: b.mediaType, Digest: b.digest, Size: b.size}
	if b.data != nil {
		d.Data = *b.data
	}
	return d
}

func (c *copier) total() int64 {
	var n int64
	for _, b := range c.blobs {
		n += b.size
	}
	return n
}

// tell reports a blob that was kept, shared or left out: nothing reported it while it was read.
func (c *copier) tell(desc oci.Descriptor, how How) {
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
	c.report(e)
}

func (c *copier) report(e progress.Event) {
	if c.o.Progress != nil {
		c.o.Progress(e)
	}
}

// collect adds what images are made of, children before parents. Documents come from the source,
// or from the target if the source lacks them.
func (c *copier) collect(images []*oci.Descriptor) error {
	store := graph.Store(c.from)
	if c.to != nil {
		store = graph.Either(c.from, c.to)
	}

	w := graph.NewWalker(store, graph.DefaultLimits())
	root := make([]oci.Descriptor, 1)
	for _, im := range images {
		root[0] = *im
		err := w.Whole(root, c.o.Rules, func(n graph.Node) error {
			if err := n.Desc.CheckData(); err != nil {
				return err
			}
			return c.add(n.Desc)
		})
		if err != nil {
			return err
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
	if known {
		return nil
	}

	c.sizes[desc.Digest] = desc.Size
	b := blob{mediaType: desc.MediaType, digest: desc.Digest, size: desc.Size}
	if desc.Data != nil {
		data := desc.Data
		b.data = &data
	}
	c.blobs = append(c.blobs, b)
	return nil
}

// referrers adds what refers to the images, and returns the entries that it gets.
func (c *copier) referrers(images []oci.Descriptor) ([]oci.Descriptor, error) {
	found, err := source.Referrers(c.from, images)
	if err != nil {
		return nil, err
	}
	var entries []oci.Descriptor
	for _, r := range found {
		entries = append(entries, r.Desc)
	}
	return entries, c.collect(pointers(entries))
}

// blob brings one blob.
func (c *copier) blob(ctx context.Context, desc oci.Descriptor) (How, error) {
	d := desc.Digest
	if !d.Verifiable() {
		return "", fmt.Errorf("blob %s: %w", d, digest.ErrUnsupported)
	}

	var here fs.FileInfo
	statErr := fs.ErrNotExist
	if c.to != nil {
		here, statErr = c.to.lstat(d)
	}

	// A registry is not asked for what is here. A layout is: its file may be this one.
	if statErr == nil && c.dir == nil {
		if ok, err := c.whole(ctx, desc, here); ok || err != nil {
			return HowKept, err
		}
	}

	// err says why the source cannot give the blob. That is not an error yet: it may be here
	// already.
	original, err := c.open(desc)
	if original != nil {
		defer original.Close()
	}

	switch {
	case statErr == nil:
		return c.replace(ctx, desc, original, here, err)
	case !errors.Is(statErr, fs.ErrNotExist):
		return "", fmt.Errorf("layout %q: blob %s: %w", c.to.dir, d, cause(statErr))
	case errors.Is(err, ErrNotFound) && oci.IsForeignLayer(desc.MediaType):
		return HowAbsent, nil
	case errors.Is(err, ErrNotFound) && desc.Data != nil:
		// The descriptor holds the blob itself; most readers look for a file.
		if err := desc.CheckData(); err != nil || c.o.DryRun {
			return HowCopied, err
		}
		return HowCopied, c.put(ctx, desc)
	case err != nil:
		return "", graph.Incomplete(err)
	}

	return c.addOne(ctx, desc, original)
}

// addOne brings a blob that the layout lacks; original is its file, if it comes from a layout.
func (c *copier) addOne(ctx context.Context, desc oci.Descriptor, original *os.File) (How, error) {
	if c.o.DryRun {
		if c.o.NoLink || original == nil || c.to == nil || !c.sameFileSystem() {
			return HowCopied, nil
		}
		return HowLinked, nil
	}

	// A blob that is shared is not read on its way, so with Options.Verify it is read before. A
	// copy is hashed in any case.
	if original != nil && c.o.Verify {
		if err := c.check(ctx, original, desc); err != nil {
			return "", err
		}
	}

	if original != nil && !c.o.NoLink {
		if how, done := c.share(original, desc); done {
			return how, nil
		}
	}

	return HowCopied, c.put(ctx, desc)
}

// open opens the file of a blob in the source, if that is a layout. Of other sources it says
// whether the blob can be had: nothing is opened.
func (c *copier) open(desc oci.Descriptor) (*os.File, error) {
	if c.dir == nil {
		_, err := graph.Rules{}.StateOf(c.from, "", desc)
		return nil, err
	}
	f, err := c.dir.sized(desc)
	if errors.Is(err, ErrNotFound) && c.from != source.Source(c.dir) {
		_, err = graph.Rules{}.StateOf(c.from, "", desc) // a document that was made of others
		return nil, err
	}
	if errors.Is(err, digest.ErrMismatch) {
		err = fmt.Errorf("layout %q: %w", c.dir.dir, err)
	}
	return f, err
}

// whole reports whether a blob that is here has the right bytes.
func (c *copier) whole(ctx context.Context, desc oci.Descriptor, here fs.FileInfo) (bool, error) {
	if !here.Mode().IsRegular() || here.Size() != desc.Size {
		return false, nil
	}

	f, err := c.to.OpenBlob(desc.Digest)
	if err != nil {
		return false, err
	}
	defer f.Close()

	err = c.check(ctx, f, desc)
	if errors.Is(err, digest.ErrMismatch) {
		return false, nil
	}
	return err == nil, err
}

// replace looks at a blob that is here already, and brings it anew if it is damaged.
func (c *copier) replace(ctx context.Context, desc oci.Descriptor, original *os.File, here fs.FileInfo, sourceErr error) (How, error) {
	// A hard link of the source is as good as the source.
	if original != nil && sourceErr == nil && !c.o.Verify {
		if info, err := original.Stat(); err == nil && os.SameFile(info, here) {
			return HowKept, nil // one file for both: nothing to compare it with
		}
	}

	if c.dir != nil { // else that was looked at before
		if ok, err := c.whole(ctx, desc, here); ok || err != nil {
			return HowKept, err
		}
	}

	if sourceErr != nil {
		return "", fmt.Errorf("layout %q: blob %s is damaged: %w", c.to.dir, desc.Digest, graph.Incomplete(sourceErr))
	}

	if c.o.DryRun {
		return HowRepaired, nil
	}

	// Nothing can be renamed onto a directory. One that is not empty stays, and is the error.
	if here.IsDir() {
		c.to.sys.remove(c.to.root, blobPath(desc.Digest)) // only if it is empty; otherwise the rename fails
	}

	return HowRepaired, c.put(ctx, desc)
}

// check hashes an open blob from its start.
func (c *copier) check(ctx context.Context, f *os.File, desc oci.Descriptor) error {
	task := progress.NewTask(c.o.Progress, progress.Event{Digest: desc.Digest, Size: desc.Size})
	r := progress.Reader(digest.NewReader(contextReader{ctx, io.NewSectionReader(f, 0, 1<<62)}, desc.Digest, desc.Size), task)
	_, err := oci.Copy(io.Discard, r)
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
func (c *copier) share(original *os.File, desc oci.Descriptor) (How, bool) {
	name := blobPath(desc.Digest)
	if c.to.mkdirs(path.Dir(name)) != nil {
		return "", false
	}
	if c.link(original, name) {
		return HowLinked, true
	}
	return HowCloned, c.clone(original, name)
}

// link gives the file of the source its name here. The paths are walked once more for it, so
// it is made sure that it was this file and that it got here.
func (c *copier) link(original *os.File, name string) bool {
	if c.dir.path == "" || c.to.path == "" {
		return false
	}

	// The linked file must be durable, and its writer may not have synced it. Read-only file systems
	// and other users' files cannot always be synced, and then need not be.
	if err := c.to.sys.sync(original); err != nil && runtime.GOOS != "windows" && !errors.Is(err, errors.ErrUnsupported) {
		return false
	}

	to := filepath.Join(c.to.path, filepath.FromSlash(name))
	if c.to.sys.link(filepath.Join(c.dir.path, filepath.FromSlash(name)), to) != nil {
		return false
	}

	here, err := c.to.root.Lstat(name)
	if err != nil {
		return false
	}

	if info, err := original.Stat(); err != nil || !os.SameFile(info, here) {
		return false // put replaces whatever it is
	}

	c.dirty[path.Dir(name)] = true
	return true
}

// clone makes a file that shares the blocks of the source.
func (c *copier) clone(original *os.File, name string) bool {
	if runtime.GOOS != "linux" {
		return false
	}
	f, tmp, err := c.to.temp()
	if err != nil {
		return false
	}
	if c.to.sys.clone(f, original) != nil {
		f.Close()
		c.to.sys.remove(c.to.root, tmp)
		return false
	}
	return c.to.publish(f, tmp, name) == nil
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
	a, errA := c.dir.root.Stat(".")
	b, errB := c.to.root.Stat(".")
	return errA == nil && errB == nil && c.dir.path != "" && c.to.path != "" && disk.SameDevice(a, b) &&
		strings.EqualFold(filepath.VolumeName(c.dir.path), filepath.VolumeName(c.to.path))
}
