package tarutil

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync"
)

// ExtractOptions say how [Stack.Extract] writes files.
type ExtractOptions struct {
	// Owners gives files their owners, and makes devices; it needs the rights of root. Without
	// it everything belongs to the user, devices are skipped, and files lose their setuid and
	// setgid bits, which would mean the rights of the user and not those of the image.
	Owners bool
	// Workers is how many files are written at once; 0 stands for two a processor.
	Workers int
}

// Extracted is what [Stack.Extract] did, and what it left out.
type Extracted struct {
	Files   int // names made
	Devices int // devices, and on systems without them fifos, that were skipped
	SetID   int // files that lost their setuid or setgid bit
	Xattrs  int // extended attributes that the file system or the user may not have
}

// Extract writes the stack below root, which must be empty. Every file is made by its name
// in its directory's handle, and only where nothing is; so no name in a layer can lead out of
// root, and nothing that is there already is opened, followed or changed.
//
// Directories are made first, then files, several at once, then links to files, then symbolic
// links, fifos and devices: while contents are written there is no link that could be
// followed. Attributes of directories come last, so that their times are right.
//
// Permissions are those of the image, whatever the umask, with the sticky, setuid and setgid
// bits (but see Owners). Of extended attributes security.capability, POSIX ACLs and user.* are
// written, but for user.overlay.*; no other program's attributes are. Directories that no
// layer has an entry for get 0755 and the time 0.
//
// On an error what was made is left for the caller to remove.
func (s *Stack) Extract(ctx context.Context, root *os.Root, opts ExtractOptions) (Extracted, error) {
	if opts.Workers <= 0 {
		opts.Workers = 2 * runtime.GOMAXPROCS(0)
	}
	x := &extraction{stack: s, opts: opts, dirs: newDirCache(root, s.tree.root)}
	defer x.dirs.close()
	err := x.run(ctx)
	return x.done, err
}

// An extraction is one run of Extract.
type extraction struct {
	stack *Stack
	opts  ExtractOptions
	dirs  *dirCache
	mu    sync.Mutex // guards done
	done  Extracted
}

func (x *extraction) run(ctx context.Context) error {
	var dirs, others []*node
	x.stack.tree.root.visit(func(n *node) {
		if n.file.flag == typeDir {
			dirs = append(dirs, n)
		} else if n.file.flag != typeReg || !n.isFirst() {
			others = append(others, n)
		}
	})
	for _, n := range dirs[1:] {
		if err := x.at(ctx, n, func(d *openedDir) error { return d.root.Mkdir(n.name, 0o700) }); err != nil {
			return err
		}
	}
	if err := x.contents(ctx); err != nil {
		return err
	}
	for _, n := range others {
		if n.file.flag == typeReg {
			if err := x.link(ctx, n); err != nil {
				return err
			}
		}
	}
	for _, n := range others {
		if n.isFirst() {
			if err := x.special(ctx, n); err != nil {
				return err
			}
		}
	}
	for _, n := range others {
		if n.file.flag != typeReg && !n.isFirst() {
			if err := x.link(ctx, n); err != nil {
				return err
			}
		}
	}
	for i := len(dirs) - 1; i >= 0; i-- { // what is in a directory comes behind it
		if n := dirs[i]; n.dir != nil || !n.file.implied {
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
	if err := checkSystemName(n.name); err != nil {
		return fmt.Errorf("file %q: %w", n.path(), err)
	}
	d, err := x.dirs.open(n.dir)
	if err == nil {
		defer x.dirs.release(d)
		err = do(d)
	}
	if err != nil {
		return fmt.Errorf("file %q: %w", n.path(), rootCause(err))
	}
	return nil
}

// rootCause takes the names off an error of package os.
func rootCause(err error) error {
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err
	}
	return cause(err)
}

// checkSystemName refuses what is one name in an image and several on this system.
func checkSystemName(name string) error {
	if os.PathSeparator != '/' && (strings.ContainsAny(name, `\:`) || !fs.ValidPath(name)) {
		return fmt.Errorf("%w: this system cannot hold it", ErrBadPath)
	}
	return nil
}

// contents writes all regular files: layers are read in parallel, and small files written by
// workers.
func (x *extraction) contents(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	jobs := make(chan *fileJob)
	var writers sync.WaitGroup
	for range x.opts.Workers {
		writers.Go(func() {
			for j := range jobs {
				if err := x.write(ctx, j); err != nil {
					cancel(err)
				}
			}
		})
	}
	buffers := sync.Pool{New: func() any { return new([smallFile]byte) }}
	var readers sync.WaitGroup
	slots := make(chan struct{}, x.stack.opts.Workers)
	for i := range x.stack.layers {
		slots <- struct{}{}
		readers.Go(func() {
			defer func() { <-slots }()
			if err := x.layer(ctx, i, jobs, &buffers); err != nil {
				cancel(layerError(x.stack.layers[i], err))
			}
		})
	}
	readers.Wait()
	close(jobs)
	writers.Wait()
	return context.Cause(ctx)
}

// smallFile is the size up to which files are handed to a worker whole.
const smallFile = 128 << 10

// A fileJob is a file to be written. One of content and data is nil.
type fileJob struct {
	n       *node
	attrs   *attributes
	size    int64
	content io.Reader
	buffer  *[smallFile]byte
	pool    *sync.Pool
}

// layer reads a layer, if files of it are wanted.
func (x *extraction) layer(ctx context.Context, i int, jobs chan<- *fileJob, buffers *sync.Pool) error {
	var in *layerEntries
	for _, n := range x.stack.names[i] {
		if n.file.flag != typeReg || !n.isFirst() {
			continue
		}
		if in == nil {
			var err error
			if in, err = openEntries(ctx, x.stack.layers[i], x.stack.opts.MaxSparse); err != nil {
				return err
			}
			defer in.Close()
		}
		attrs, size, err := in.seek(n.file)
		if err != nil {
			return err
		}
		j := &fileJob{n: n, attrs: attrs, size: size, content: in}
		if size > smallFile {
			if err := x.write(ctx, j); err != nil {
				return err
			}
			continue
		}
		j.content, j.pool, j.buffer = nil, buffers, buffers.Get().(*[smallFile]byte)
		if _, err := io.ReadFull(in, j.buffer[:size]); err != nil {
			return err
		}
		select {
		case jobs <- j:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if in == nil {
		return nil
	}
	return in.drain()
}

// write makes one regular file.
func (x *extraction) write(ctx context.Context, j *fileJob) error {
	if j.buffer != nil {
		defer j.pool.Put(j.buffer)
	}
	return x.at(ctx, j.n, func(d *openedDir) error {
		f, err := d.root.OpenFile(j.n.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if j.buffer != nil {
			_, err = f.Write(j.buffer[:j.size])
		} else {
			err = copyContent(ctx, f, j.content, j.size)
		}
		if err == nil {
			err = x.setAttributes(d, j.n.name, f, j.attrs, typeReg)
		}
		if closed := f.Close(); err == nil {
			err = closed
		}
		x.count(func(e *Extracted) { e.Files++ })
		return err
	})
}

// copyContent copies exactly size bytes.
func copyContent(ctx context.Context, f *os.File, r io.Reader, size int64) error {
	buf := make([]byte, min(size, 1<<20))
	for size > 0 {
		n, err := io.ReadFull(r, buf[:min(size, int64(len(buf)))])
		if err != nil {
			return err
		}
		if _, err := f.Write(buf[:n]); err != nil {
			return err
		}
		size -= int64(n)
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

func (x *extraction) count(add func(*Extracted)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	add(&x.done)
}

// link makes one more name of a file. Neither path leads through a link, for they are real
// paths, and symbolic links to lead elsewhere are not there yet or not on the way.
func (x *extraction) link(ctx context.Context, n *node) error {
	if x.skips(n.file) {
		x.count(func(e *Extracted) { e.Devices++ })
		return nil
	}
	return x.at(ctx, n, func(*openedDir) error {
		x.done.Files++
		return x.dirs.root.Link(n.file.first.path(), n.path())
	})
}

// skips says whether f is not made here.
func (x *extraction) skips(f *stackFile) bool {
	switch f.flag {
	case typeChar, typeBlock:
		return !makesNodes || !x.opts.Owners
	case typeFifo:
		return !makesNodes
	}
	return false
}

// special makes a symbolic link, a fifo or a device.
func (x *extraction) special(ctx context.Context, n *node) error {
	f := n.file
	if x.skips(f) {
		x.count(func(e *Extracted) { e.Devices++ })
		return nil
	}
	return x.at(ctx, n, func(d *openedDir) error {
		var err error
		if f.flag == typeSymlink {
			err = d.root.Symlink(f.target, n.name)
		} else {
			err = d.makeNode(n.name, f.flag, f.attrs)
			if f.flag != typeFifo && errors.Is(err, fs.ErrPermission) { // root of a user namespace
				x.count(func(e *Extracted) { e.Devices++ })
				return nil
			}
		}
		if err == nil {
			x.done.Files++
			err = x.setAttributes(d, n.name, nil, f.attrs, f.flag)
		}
		return err
	})
}

// finishDir gives a directory its attributes.
func (x *extraction) finishDir(ctx context.Context, n *node) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d, err := x.dirs.open(n)
	if err == nil {
		defer x.dirs.release(d)
		var f *os.File
		if f, err = d.handle(); err == nil {
			err = x.setAttributes(d, ".", f, n.file.attrs, typeDir)
		}
	}
	if err != nil {
		return fmt.Errorf("directory %q: %w", n.path(), rootCause(err))
	}
	return nil
}

// setAttributes gives a file its attributes; f is it, if it is open, else it is the name in d.
// The owner comes first, since that takes capabilities and setuid bits away.
func (x *extraction) setAttributes(d *openedDir, name string, f *os.File, a *attributes, flag byte) error {
	if x.opts.Owners {
		if err := d.chown(name, f, a); err != nil {
			return err
		}
	}
	if flag != typeSymlink {
		mode := a.mode
		if !x.opts.Owners && flag == typeReg && mode&0o6000 != 0 {
			mode &^= 0o6000
			x.count(func(e *Extracted) { e.SetID++ })
		}
		if err := d.chmod(name, f, mode); err != nil {
			return err
		}
	}
	for key, value := range a.records {
		attr, ok := strings.CutPrefix(key, xattrPrefix)
		if !ok {
			continue
		}
		set := false
		if writesXattr(attr) {
			var err error
			if set, err = d.setXattr(name, f, attr, value); err != nil {
				return fmt.Errorf("extended attribute %q: %w", attr, err)
			}
		}
		if !set {
			x.count(func(e *Extracted) { e.Xattrs++ })
		}
	}
	return d.setTime(name, f, a)
}

// writesXattr says whether an extended attribute belongs to the image, and not to a program
// that looks after files of the machine.
func writesXattr(attr string) bool {
	return attr == capabilityXattr || strings.HasPrefix(attr, "system.posix_acl_") ||
		strings.HasPrefix(attr, "user.") && XattrsAll.keeps(attr)
}
