package layout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"ocikit/digest"
	"ocikit/oci/disk"
)

// ErrUnsafe means that garbage cannot be told from what is needed.
var ErrUnsafe = errors.New("not collecting garbage")

// minUploadAge is how long the file of an upload session, see [UploadPrefix], must have been
// idle to be garbage, whatever GCOptions say: its client may come back.
const minUploadAge = 24 * time.Hour

// GCOptions say what is garbage, and what is done about it.
type GCOptions struct {
	Delete bool          // remove it; otherwise it is only reported
	MinAge time.Duration // younger files stay: they may belong to an image in the making
	Now    time.Time     // what ages are measured against
	Sparse bool          // blobs that images name may be absent, and lead to nothing then
}

// Garbage is a file that nothing needs.
type Garbage struct {
	Digest digest.Digest // zero for a leftover of a writer
	Path   string        // below the layout
	Size   int64
	Age    time.Duration
}

// A GCSummary counts what a collection found.
type GCSummary struct {
	Garbage, Young, Kept     int   // files: nothing needs them; nothing needs them yet; they are needed
	GarbageBytes, YoungBytes int64 // their sizes
}

// GC finds the blobs that no entry of index.json leads to and the files that killed writers left
// behind, and removes them if it is told to. It holds the lock of index.json all the time, so no
// image is named meanwhile. It follows indexes in indexes, subjects, referrers and documents of
// unknown types. It keeps the blobs of images that are not whole yet, see [Waiting]. A file is
// never touched if its name is not a digest of a known algorithm. Each file is handed to report
// before it is removed; an error of report ends the collection.
//
// If anything that is needed is absent or cannot be read, the error wraps [ErrUnsafe] and
// nothing is removed.
func (l *Layout) GC(ctx context.Context, o GCOptions, report func(Garbage) error) (GCSummary, error) {
	var sum GCSummary

	// A report does no harm, so links matter for a removal alone.
	if err := l.checkRealDirs(); err != nil && o.Delete {
		return sum, err
	}

	if o.Delete {
		unlock, err := l.Lock(ctx)
		if err != nil {
			return sum, err
		}
		defer unlock()
	}

	garbage, err := l.garbage(ctx, o, &sum)
	if err != nil {
		return sum, err
	}

	dirs := map[string]bool{}
	for _, g := range garbage {
		if err = context.Cause(ctx); err != nil {
			break
		}
		if err = report(g.Garbage); err != nil {
			break
		}
		if o.Delete {
			dirs[path.Dir(g.Path)] = true
			if err = l.remove(g); err != nil && !errors.Is(err, fs.ErrNotExist) {
				err = fmt.Errorf("layout %q: remove %s: %w", l.dir, g.Path, cause(err))
				break
			}
			err = nil // another process may have removed it first, at any moment
		}
	}

	// The directories are synced after an error too: what was removed must stay so if the
	// system crashes.
	for dir := range dirs {
		if syncErr := l.syncDir(dir); syncErr != nil {
			err = cmp.Or(err, fmt.Errorf("layout %q: sync %s: %w", l.dir, dir, cause(syncErr)))
		}
	}

	return sum, err
}

// garbageFile is Garbage as it was when it was judged.
type garbageFile struct {
	Garbage
	info     fs.FileInfo
	document bool
}

// garbage returns what may be removed, documents before what they refer to: should the
// collection be cut short, no manifest without its layers is left.
func (l *Layout) garbage(ctx context.Context, o GCOptions, sum *GCSummary) ([]garbageFile, error) {
	// The file itself, not what [Layout.Index] remembers of it: another program may have written it
	// in place within one tick of the clock, and what it names now must not go.
	roots, err := l.Roots(nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrUnsafe, err)
	}

	// A document that cannot be followed leaves a doubt about every other blob.
	r := newReach(ctx, l, o.Sparse)
	if err := cmp.Or(r.follow(roots), r.followWaiting()); err != nil {
		return nil, r.unsafe(err)
	}

	blobs, err := r.others(sum)
	if err != nil {
		return nil, err
	}

	// A referrer need not be named by anything, so every blob that may be a manifest is asked
	// for its subject.
	if err := r.followReferrers(blobs); err != nil {
		return nil, r.unsafe(err)
	}

	found, err := l.oldFiles(r, blobs, o, sum)
	slices.SortStableFunc(found, garbageFile.compare)
	return found, err
}

// oldFiles returns the files that nothing needs and that are old enough: blobs that r did not come to,
// and what writers left.
func (l *Layout) oldFiles(r *reach, blobs []blobFile, o GCOptions, sum *GCSummary) (found []garbageFile, err error) {
	add := func(g garbageFile, minAge time.Duration) {
		g.Size, g.Age = g.info.Size(), o.Now.Sub(g.info.ModTime())
		if sum.count(g.Garbage, minAge) {
			found = append(found, g)
		}
	}

	for _, b := range blobs {
		if r.blobs[b.d] || !b.d.Verifiable() {
			sum.Kept++
			continue
		}
		add(garbageFile{Garbage: Garbage{Digest: b.d, Path: blobPath(b.d)}, info: b.info, document: b.document}, o.MinAge)
	}

	leftovers, err := l.leftovers()
	if err != nil {
		return nil, err
	}

	for _, info := range leftovers {
		minAge := o.MinAge
		// The client of an upload may be away for hours.
		if !isTemp(info.Name()) {
			minAge = max(minAge, minUploadAge)
		}
		add(garbageFile{Garbage: Garbage{Path: info.Name()}, info: info}, minAge)
	}

	return found, nil
}

// count counts g, and reports whether it is old enough to go.
func (s *GCSummary) count(g Garbage, minAge time.Duration) bool {
	if g.Age < minAge {
		s.Young++
		s.YoungBytes += g.Size
		return false
	}
	s.Garbage++
	s.GarbageBytes += g.Size
	return true
}

// compare puts documents before all else, then goes by the path.
func (g garbageFile) compare(o garbageFile) int {
	switch {
	case g.document && !o.document:
		return -1
	case !g.document && o.document:
		return 1
	}
	return cmp.Compare(g.Path, o.Path)
}

// leftovers returns the temporary files and uploads that no living process holds.
func (l *Layout) leftovers() ([]fs.FileInfo, error) {
	entries, err := fs.ReadDir(l.root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("layout %q: %w", l.dir, cause(err))
	}
	var found []fs.FileInfo
	for _, e := range entries {
		if !isTemp(e.Name()) && !strings.HasPrefix(e.Name(), UploadPrefix) || !e.Type().IsRegular() {
			continue
		}
		if info, err := e.Info(); err == nil && l.abandoned(e.Name()) {
			found = append(found, info)
		}
	}
	return found, nil
}

// remove removes a file, unless it is another one than was judged: a writer may have stored the same
// blob anew.
func (l *Layout) remove(g garbageFile) error {
	info, err := l.root.Lstat(g.Path)
	if err != nil {
		return err
	}

	if !unchanged(g.info, info) {
		return nil
	}

	if g.Digest.IsZero() {
		// It may have been looked at just before its writer locked it.
		f, _, err := l.open(g.Path)
		if err != nil {
			return err
		}
		defer f.Close()
		if !disk.TryLock(f) {
			return nil
		}
	}

	return l.sys.remove(l.root, g.Path)
}

// checkRealDirs reports whether the blobs lie in directories, not behind links: then they may
// be shared with others who need them.
func (l *Layout) checkRealDirs() error {
	dirs := []string{blobsDir}
	entries, _ := l.readDir(blobsDir)
	for _, e := range entries {
		if e.Type()&fs.ModeSymlink != 0 {
			dirs = append(dirs, path.Join(blobsDir, e.Name()))
		}
	}
	for _, dir := range dirs {
		if info, err := l.root.Lstat(dir); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return fmt.Errorf("layout %q: %w: %s is a symbolic link, its blobs may be needed elsewhere", l.dir, ErrUnsafe, dir)
		}
	}
	return nil
}
