package pack

import (
	"cmp"
	"context"
	"runtime"
	"sync"

	"ocikit/tarutil"
	"ocikit/tarutil/internal/handle"
)

// A packer is one run of Tar.
type packer struct {
	opts    *Options
	tw      *tarutil.Writer
	free    chan *batch
	work    chan *batch // to the readers
	ordered chan *batch // to the writer
	seen    map[handle.ID]*firstName
	pieces  [2][]byte
}

// A firstName is the entry that further names of a file are linked to.
type firstName struct {
	name string
	left uint64 // names still to come, as far as the tree holds them
}

func packTree(ctx context.Context, tw *tarutil.Writer, plan *plan, opts *Options) error {
	p := &packer{
		opts: opts, tw: tw,
		free:    make(chan *batch, batchCount),
		work:    make(chan *batch, batchCount),
		ordered: make(chan *batch, batchCount),
		seen:    make(map[handle.ID]*firstName),
	}

	// There are never more batches than these, which bounds the memory and means that no send
	// to a channel waits.
	for range batchCount {
		p.free <- &batch{done: make(chan struct{}, 1)}
	}

	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for range min(readerCount, max(2, runtime.GOMAXPROCS(0))) {
		wg.Go(func() {
			for b := range p.work {
				p.read(b)
				b.done <- struct{}{}
			}
		})
	}

	var walkErr error
	wg.Go(func() { walkErr = p.walk(ctx, plan) })
	err := p.write(ctx)
	cancel()

	// After an error, let go of what was read ahead.
	for b := range p.ordered {
		<-b.done
		b.drop()
	}

	// The walk also ends with an error when the writing has failed: then that is the cause.
	wg.Wait()
	if err == nil {
		err = walkErr
	}
	return err
}

// walk hands batches to the readers and, in order, to the writer.
func (p *packer) walk(ctx context.Context, plan *plan) error {
	defer close(p.ordered)
	defer close(p.work)

	var b *batch
	flush := func() {
		if b != nil {
			p.work <- b
			p.ordered <- b // neither waits: there are no more batches than places
			b = nil
		}
	}
	defer flush()

	w := &walker{opts: p.opts}
	w.send = func(it item) error {
		if b == nil {
			select {
			case b = <-p.free:
			case <-ctx.Done():
				it.release()
				return ctx.Err()
			}
		}
		if b.items = append(b.items, it); len(b.items) == batchItems {
			flush()
		}
		return nil
	}

	// The content of sources without a Dest, or with that of the root, goes to the root.
	trees := make([]*treeDir, len(plan.root.trees))
	for i := range trees {
		trees[i] = &plan.root.trees[i]
	}

	return w.walk(ctx, plan.root, trees, "")
}

// write writes the batches in order.
func (p *packer) write(ctx context.Context) error {
	for b := range p.ordered {
		<-b.done
		err := ctx.Err()
		for err == nil {
			if err = p.flush(ctx, b); err != nil || b.next == len(b.items) {
				break
			}
			p.read(b) // what did not fit into one buffer
		}
		b.drop()
		if err != nil {
			return err
		}
		p.free <- b
	}

	return nil
}

// flush writes what is in the buffer of b, and the large file behind it.
func (p *packer) flush(ctx context.Context, b *batch) error {
	for _, n := range b.notices {
		n.tell(n.path)
	}

	b.notices = nil

	// The readers encode each name of a file with its content, since they do not know which one comes
	// first. Here the order is known: of further names the entry is passed over, and a link written.
	at := 0
	for _, n := range b.links {
		first := p.first(n.id, n.links, n.hdr.Name)
		if first == "" {
			continue
		}
		if err := p.tw.WriteRaw(b.buf[at:n.start]); err != nil {
			return err
		}
		n.hdr.Linkname = first
		if err := p.tw.WriteHeader(n.hdr); err != nil {
			return err
		}
		at = n.end
	}

	if err := p.tw.WriteRaw(b.buf[at:]); err != nil {
		return err
	}

	// The error belongs to the item behind those in the buffer.
	b.buf, b.links = b.buf[:0], b.links[:0]
	if b.err != nil {
		return b.err
	}

	// It stands behind all that was in the buffer.
	if b.large != nil {
		if err := p.writeLarge(ctx, b.large); err != nil {
			return b.items[b.next].fail(err)
		}
		b.large.f.Close()
		b.large = nil
		b.advance()
	}

	return nil
}

// first returns the name that the file id was written under, or else "", and notes that
// it is now written under name. An identity is forgotten with the last of its names, so memory grows
// only with those whose other names are elsewhere or still to come.
func (p *packer) first(id handle.ID, links uint64, name string) string {
	f := p.seen[id]
	if f == nil {
		p.seen[id] = &firstName{name, links - 1}
		return ""
	}
	if f.left--; f.left == 0 {
		delete(p.seen, id)
	}
	return f.name
}

// holeToNotice is the size of a hole, in bytes, above which a file is worth a notice: with zeros in
// place of the hole the tar may not fit on the disk that holds the file.
const holeToNotice = 1 << 30

// writeLarge writes a file in pieces, reading one ahead.
func (p *packer) writeLarge(ctx context.Context, f *largeFile) error {
	// A further name of a file needs no content.
	if f.info.Links > 1 {
		if first := p.first(f.info.ID, f.info.Links, f.hdr.Name); first != "" {
			return p.tw.WriteHeader(tarutil.HardLink(*f.hdr, first))
		}
	}

	if hole := f.info.Hole; hole > holeToNotice && p.opts.HoleNotice != nil {
		p.opts.HoleNotice(f.hdr.Name, f.info.Size, hole)
	}

	if err := p.tw.WriteHeader(f.hdr); err != nil {
		return err
	}

	if p.pieces[0] == nil {
		p.pieces = [2][]byte{make([]byte, pieceBytes), make([]byte, pieceBytes)}
	}

	type piece struct {
		data []byte
		err  error
	}

	// One goroutine fills the two buffers in turn, while the other buffer is written.
	pieces := make(chan piece)
	stop := make(chan struct{})
	defer func() {
		close(stop)
		for range pieces { // wait for the reader
		}
	}()

	go func() {
		defer close(pieces)
		for i, left := 0, f.info.Size; left > 0; i++ {
			buf := p.pieces[i%2]
			buf = buf[:min(left, int64(len(buf)))]
			err := readFull(f.f, buf)
			left -= int64(len(buf))

			// Only a file that stayed the same to its end is one file.
			if left == 0 && err == nil {
				err = unchanged(f.f, &f.info)
			}
			select {
			case pieces <- piece{buf, err}:
			case <-stop:
				return
			}
			if err != nil {
				return
			}
		}
	}()

	for pc := range pieces {
		if err := cmp.Or(pc.err, ctx.Err()); err != nil {
			return err
		}
		if _, err := p.tw.Write(pc.data); err != nil {
			return err
		}
	}

	return nil
}
