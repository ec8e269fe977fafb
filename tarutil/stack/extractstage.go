package stack

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"ocikit/tarutil"
	"ocikit/tarutil/internal/handle"
)

// A stage is a directory in which the contents of layers wait until it is known which of them are
// right, and which are left. Nothing in it has a name that a layer chose.
type stage struct {
	ExtractOptions
	dirHandle
	root *os.Root
	name string // of the directory in root
	made atomic.Pointer[creation]

	work    chan *scanBatch
	writers sync.WaitGroup
	data    sync.Pool // of *[stageData]byte, the contents of a batch or a piece of a large file
}

const (
	smallFile = 128 << 10     // the size up to which files are handed to a worker whole
	stageData = 2 * smallFile // the contents that travel together
)

// StagePrefix is what the names of stages begin with. One that is there while nobody extracts is of a
// process that was killed, and nothing in it is of use.
const StagePrefix = ".ocikit-stage-"

// An outgoing is a small file to be written.
type outgoing struct {
	entry    int // in its batch
	attrs    *attributes
	from, to int // in the data of its batch
}

// newStage makes a stage in root. Writers work until wait is called.
func newStage(ctx context.Context, root *os.Root, opts ExtractOptions) (*stage, error) {
	var random [6]byte
	rand.Read(random[:])
	st := &stage{ExtractOptions: opts, root: root, name: StagePrefix + hex.EncodeToString(random[:]), work: make(chan *scanBatch)}
	st.data.New = func() any { return new([stageData]byte) }

	if err := root.Mkdir(st.name, 0o700); err != nil {
		return nil, handle.Cause(err)
	}

	top, err := openTop(root)
	if err == nil {
		defer top.close()
		st.dirHandle, err = top.openDir(st.name)
	}
	if err != nil {
		root.Remove(st.name) // as far as that can be done
		return nil, handle.Cause(err)
	}

	// Making a file takes longer than reading a small one, so a few goroutines do nothing else.
	if opts.Workers <= 0 {
		opts.Workers = 2 * runtime.GOMAXPROCS(0)
	}
	for range opts.Workers {
		st.writers.Go(func() {
			for b := range st.work {
				st.writeBatch(ctx, b)
			}
		})
	}

	return st, nil
}

// wait ends the writers, when nobody sends any more.
func (st *stage) wait() {
	close(st.work)
	st.writers.Wait()
}

// remove removes the stage and what is left in it. Once it has, it does nothing.
func (st *stage) remove() error {
	if st.name == "" {
		return nil
	}
	st.close()

	// After an extraction the stage is empty as a rule. What os.Root asks Windows for when it removes
	// something is not known to its older releases, nor to wine; the old way removes an empty
	// directory alone, so the path can be trusted.
	err := st.root.RemoveAll(st.name)
	if err != nil && runtime.GOOS == "windows" && os.Remove(filepath.Join(st.root.Name(), st.name)) == nil {
		err = nil
	}
	st.name = ""

	return handle.Cause(err)
}

// stagedName returns what a file is called in the stage.
func stagedName(layer, entry int32) string {
	return strconv.Itoa(int(layer)) + "." + strconv.Itoa(int(entry))
}

// discard removes a file that no name is left of. What cannot be removed now is removed with the
// stage.
func (st *stage) discard(f *stackFile) { st.removeFile(stagedName(f.layer, f.entry)) }

// moveByPath moves a file to a path in root where nothing is.
func (st *stage) moveByPath(staged, path string) error {
	if _, err := st.root.Lstat(path); err == nil {
		return fs.ErrExist
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return st.root.Rename(st.name+"/"+staged, path)
}

// stages reports whether an entry has content that can become a file.
func stages(hdr *tar.Header) bool {
	dir, base := tarutil.SplitPath(hdr.Name)
	ignored, err := tarutil.CheckWhiteoutDir(dir)
	return isRegular(hdr.Typeflag) && err == nil && !ignored && !strings.HasPrefix(base, tarutil.WhiteoutPrefix)
}

// add takes the content of the last entry of b from in. A large file is written at once, since no
// batch could hold it; small ones are written when the batch is sent.
func (st *stage) add(ctx context.Context, b *scanBatch, in *layerEntries) error {
	e := &b.entries[len(b.entries)-1]
	attrs := newAttributes(e.hdr)
	e.later = st.privileges(attrs)

	if e.hdr.Size > smallFile {
		return st.write(ctx, b.layer, e, attrs, in)
	}

	if b.data == nil {
		b.data, b.written = st.data.Get().(*[stageData]byte), make(chan struct{})
	}

	f := outgoing{entry: len(b.entries) - 1, attrs: attrs, from: b.used, to: b.used + int(e.hdr.Size)}
	b.used = f.to
	b.files = append(b.files, f)
	_, err := io.ReadFull(in, b.data[f.from:f.to])
	return err
}

// send hands the small files of a batch to a writer. Without a stage there are none.
func (st *stage) send(ctx context.Context, b *scanBatch) error {
	if len(b.files) == 0 {
		return nil
	}
	select {
	case st.work <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writeBatch writes the small files of a batch, and lets those go on who wait for it.
func (st *stage) writeBatch(ctx context.Context, b *scanBatch) {
	for _, f := range b.files {
		if b.err = st.write(ctx, b.layer, &b.entries[f.entry], f.attrs, bytes.NewReader(b.data[f.from:f.to])); b.err != nil {
			break
		}
	}
	st.data.Put(b.data)
	b.data, b.files = nil, nil
	close(b.written)
}

// write makes one file in the stage.
func (st *stage) write(ctx context.Context, layer int32, e *scanned, attrs *attributes, content io.Reader) error {
	err := context.Cause(ctx)
	if err == nil {
		e.lacks, err = st.writeFile(ctx, stagedName(layer, e.index), attrs, content, e.hdr.Size)
	}
	if err != nil {
		return fmt.Errorf("file %q: %w", e.hdr.Name, handle.Cause(err))
	}
	return nil
}

func (st *stage) writeFile(ctx context.Context, name string, a *attributes, content io.Reader, size int64) (lacks lack, err error) {
	f, had, err := st.create(name, a)
	if err != nil {
		return lacks, err
	}

	if small, ok := content.(*bytes.Reader); ok {
		_, err = small.WriteTo(f)
	} else {
		buf := st.data.Get().(*[stageData]byte)
		err = copyContent(ctx, f, content, size, buf[:])
		st.data.Put(buf)
	}

	if err == nil {
		lacks, err = st.setAttributes(spot{st.dirHandle, name, f}, a, tar.TypeReg, had)
	}

	// A file system may say at the end only that a write failed.
	if closed := f.Close(); err == nil {
		err = closed
	}

	return lacks, err
}

// create makes a regular file. It has all its permissions from the start only if its owner is right
// from the start, too: so nothing can happen to it that its owner did not allow.
func (st *stage) create(name string, a *attributes) (*outFile, have, error) {
	c := st.made.Load()
	open, final := int32(0o600), st.mode(a, tar.TypeReg)&^setIDBits
	right := c != nil && !st.Owners || c.owner(a)

	// Some permissions would not let the user set attributes. The sticky bit is not given to files
	// that are made.
	if right && final&0o7000 == 0 && (final&0o200 != 0 || len(a.more().records) == 0) {
		open = final
	}

	f, err := st.dirHandle.create(name, open)
	if err != nil {
		return nil, have{}, err
	}

	// Whether a permission is given is found out once for each. A file with a permission that nobody
	// asked for shows that this file system has rules of its own.
	if c == nil || open&^c.tried != 0 {
		if uid, gid, mode, ok := f.asMade(); ok {
			now := creation{uid: uid, gid: gid, tried: open, granted: mode & open}
			if c != nil {
				now.tried |= c.tried
				now.granted |= c.granted
			}
			if mode&^open != 0 {
				now.tried, now.granted = 0o777, 0
			}
			c = &now
			st.made.Store(c)
		}
	}

	return f, have{owner: right, mode: right && open == final && c.mode(final)}, nil
}
