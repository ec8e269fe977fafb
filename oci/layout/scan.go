package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/progress"
)

// Scan is [graph.Scan] of the layout: several goroutines read documents, but visit runs in the
// goroutine of the caller. With a long list of roots, the function given to [Layout.Watch] is told
// how far the walk is. Scan ends with ctx.
func (l *Layout) Scan(ctx context.Context, roots []oci.Descriptor, visit func(graph.Node) error) error {
	w := graph.NewWalker(l, graph.Limits{})
	w.Descend, w.Ahead = true, runtime.GOMAXPROCS(0)
	return l.walk(ctx, w, roots, visit)
}

// watchedMin is how many roots a walk must have for its progress to be told: fewer take no second.
const watchedMin = 5000

// walk is the walk of a walker of the layout, as Scan promises it.
func (l *Layout) walk(ctx context.Context, w *graph.Walker, roots []oci.Descriptor, visit func(graph.Node) error) error {
	task := l.walkTask(roots)
	defer task.Stop()

	err := w.Walk(roots, func(n graph.Node) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if n.Depth == 0 {
			task.Add(int(documentSize(n.Desc)))
		}
		return visit(n)
	})
	if err == nil {
		task.Done()
	}

	return err
}

// walkTask begins to tell of a walk over many roots. Without many, or somebody who watches, it is nil.
func (l *Layout) walkTask(roots []oci.Descriptor) *progress.Task {
	if l.report == nil || len(roots) < watchedMin {
		return nil
	}

	var size int64
	for _, d := range roots {
		size += documentSize(d)
	}
	l.plan(1, size)

	return progress.NewTask(l.report, progress.Event{Name: "manifests", Size: size})
}

// documentSize is how much of a document may be read: descriptors may claim anything.
func documentSize(d oci.Descriptor) int64 { return min(max(d.Size, 0), oci.MaxDocument) }

// A blobEntry is a file below blobs.
type blobEntry struct {
	path  string // below the layout
	d     digest.Digest
	entry fs.DirEntry
	err   error // why its name is not a digest
	dir   bool  // it is beside the directories of algorithms, not in one
}

// eachBlob calls visit for each file below blobs, in the order of their directories. A hundred
// thousand names are not held at once.
func (l *Layout) eachBlob(visit func(blobEntry) error) error {
	algs, err := l.readDir(blobsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // an empty layout may lack it
	}

	if err != nil {
		return fmt.Errorf("layout %q: %s: %w", l.dir, blobsDir, cause(err))
	}

	for _, alg := range algs {
		dir := path.Join(blobsDir, alg.Name())
		if !alg.IsDir() {
			if err := visit(blobEntry{path: dir, entry: alg, err: digest.ErrMalformed, dir: true}); err != nil {
				return err
			}
			continue
		}
		if err := l.eachFile(dir, alg.Name(), visit); err != nil {
			return err
		}
	}

	return nil
}

// eachFile is eachBlob for the directory of one algorithm.
func (l *Layout) eachFile(dir, alg string, visit func(blobEntry) error) error {
	root, below := l.within(dir)
	f, err := root.Open(below)
	if err != nil {
		return fmt.Errorf("layout %q: %s: %w", l.dir, dir, cause(err))
	}
	defer f.Close()

	for {
		files, err := f.ReadDir(1000)
		for _, e := range files {
			b := blobEntry{path: dir + "/" + e.Name(), entry: e}
			b.d, b.err = digest.Parse(alg + ":" + e.Name())
			if err := visit(b); err != nil {
				return err
			}
		}

		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("layout %q: %s: %w", l.dir, dir, cause(err))
		}
	}
}

// A blobFile is a regular file below blobs whose name is a digest.
type blobFile struct {
	d        digest.Digest
	info     fs.FileInfo
	document bool // a manifest or an index, as far as that is known
}

// eachBlobFile is eachBlob for the regular files whose names are digests.
func (l *Layout) eachBlobFile(visit func(d digest.Digest) error) error {
	return l.eachBlob(func(b blobEntry) error {
		if b.err != nil || !b.entry.Type().IsRegular() {
			return nil
		}
		return visit(b.d)
	})
}

// A BlobInfo is a blob's name and the size of its file.
type BlobInfo struct {
	Digest digest.Digest
	Size   int64
}

// Blobs lists the files among the blobs that have digests for names, in no order. Their bytes
// are not read.
func (l *Layout) Blobs() ([]BlobInfo, error) {
	var list []BlobInfo
	err := l.eachBlobFile(func(d digest.Digest) error {
		info, err := l.lookAt(d)
		if err == nil && info != nil {
			list = append(list, BlobInfo{d, info.Size()})
		}
		return err
	})
	return list, err
}

// lookAt returns what is known of a file that was listed, or nil if it went while we looked.
func (l *Layout) lookAt(d digest.Digest) (fs.FileInfo, error) {
	info, err := l.lstat(d)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("layout %q: blob %s: %w", l.dir, d, cause(err))
	}
	return info, nil
}
