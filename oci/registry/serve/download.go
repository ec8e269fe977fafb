package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
	"ocikit/oci/progress"
	"ocikit/oci/registry/pull"
	"ocikit/oci/registry/serve/exchange"
)

// sendBlob answers with a blob that the layout lacks, while it comes from the upstream. It reports
// false if the layout has it.
func (o *origin) sendBlob(w *exchange.Recorder, r *http.Request, rt exchange.Route) (bool, error) {
	d, err := parseDigest(rt.Ref)
	if err != nil {
		return true, err
	}

	if o.s.hasBlob(o.repo, d) {
		return false, nil
	}

	absent := exchange.Fail(http.StatusNotFound, exchange.CodeBlobUnknown, "blob %s is not known in %q", d, rt.Repo)

	if r.Method == http.MethodHead {
		err := o.headBlob(w, r, d)
		if err != nil {
			err = o.failure(err, absent)
		}
		return true, err
	}

	dl := o.s.downloads.join(o, d)
	defer o.s.downloads.leave(dl)
	if err := dl.started(r.Context()); err != nil {
		return true, o.failure(err, absent)
	}

	// A client cannot check a part of a blob without the bytes behind it, so it gets one only when
	// all is checked. A blob no longer than what is withheld cannot be sent any earlier.
	span := r.Header.Get("Range")
	if span != "" && !strings.HasSuffix(span, "-") || dl.size <= withheld {
		if err := dl.finished(r.Context()); err != nil {
			return true, o.failure(err, absent)
		}
	}

	w.Access.Upstream = "fetched"
	f := &follower{ctx: r.Context(), w: w, dl: dl}
	serveContent(w, r, f, oci.Descriptor{MediaType: oci.MediaTypeOctetStream, Digest: d}, true)
	if f.err != nil {
		// The answer has begun, so that it ends before its length is all there is left to say.
		w.Access.Error = f.err.Error()
		w.Abort = true
	}

	return true, nil
}

// headBlob passes on a HEAD as one: it begins no download.
func (o *origin) headBlob(w *exchange.Recorder, r *http.Request, d digest.Digest) error {
	size, err := o.c.HeadBlob(r.Context(), o.path, d)
	if err != nil {
		return err
	}

	w.Access.Upstream = "asked"
	w.Header().Set("Content-Type", oci.MediaTypeOctetStream)
	w.Header().Set("Docker-Content-Digest", d.String())
	if size >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// downloads are the blobs that are on their way, each once however many ask for it.
type downloads struct {
	ctx context.Context // ends with the server

	mu sync.Mutex
	of map[string]*download // by repository and digest
}

// A download is a blob on its way into a layout. It goes on while somebody waits for it; what
// came until then is kept for the next time.
type download struct {
	key    string
	cancel context.CancelFunc
	users  int // guarded by downloads.mu

	mu    sync.Mutex
	moved chan struct{} // closed, and made anew, when one of these has changed:
	f     *os.File      // the bytes; nil until it is known how many there are
	size  int64
	have  int64
	ended bool
	err   error
}

// join has the caller wait for a blob, which begins to come if it does not yet. The caller leaves.
func (ds *downloads) join(o *origin, d digest.Digest) *download {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	key := o.repo + "@" + d.String()
	dl := ds.of[key]
	if dl == nil {
		ctx, cancel := context.WithCancel(ds.ctx)
		dl = &download{key: key, cancel: cancel, users: 1, moved: make(chan struct{})} // one user is who writes
		ds.of[key] = dl
		o.s.done.Go(func() {
			defer cancel()
			err := dl.run(ctx, o, d)
			ds.forget(dl) // first: who hears of its end and asks again must not find it any more
			dl.change(func() { dl.ended, dl.err = true, err })
			ds.leave(dl)
		})
	}

	dl.users++
	return dl
}

// forget has the next one who asks begin anew, or find the blob in the layout.
func (ds *downloads) forget(dl *download) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.of[dl.key] == dl {
		delete(ds.of, dl.key)
	}
}

// leave ends the waiting of one user. The last one stops the download.
func (ds *downloads) leave(dl *download) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	switch dl.users--; {
	case dl.users == 1 && ds.of[dl.key] == dl: // who writes is left
		delete(ds.of, dl.key)
		dl.cancel()
	case dl.users == 0 && dl.f != nil:
		dl.f.Close()
	}
}

func (dl *download) change(set func()) {
	dl.mu.Lock()
	defer dl.mu.Unlock()
	set()
	close(dl.moved)
	dl.moved = make(chan struct{})
}

// run fetches the blob into the layout.
func (dl *download) run(ctx context.Context, o *origin, d digest.Digest) error {
	// The answers to clients need a Content-Length before the first byte is here.
	size, err := o.c.HeadBlob(ctx, o.path, d)
	if err != nil {
		return err
	}

	if size < 0 {
		return fmt.Errorf("blob %s: the upstream does not say how long it is: %w", d, oci.ErrMalformed)
	}

	l, err := o.open()
	if err != nil {
		return err
	}
	defer l.Close()

	// An earlier download may have left a beginning. If another process fetches the blob, this
	// waits for it.
	part, err := l.OpenPartial(ctx, d)
	if err != nil {
		return err
	}
	defer part.Close()

	// Another process may have brought it meanwhile.
	if f, err := l.OpenBlob(d); err == nil {
		if size, err = l.Stat(d); err != nil {
			return errors.Join(err, f.Close())
		}
		dl.change(func() { dl.f, dl.size, dl.have = f, size, size })
		return part.Discard()
	}

	// A beginning that is longer than the blob is damaged.
	if part.Size() > size {
		if err := part.Reset(); err != nil {
			return err
		}
	}

	f, err := part.Open()
	if err != nil {
		return err
	}

	dl.change(func() { dl.f, dl.size, dl.have = f, size, part.Size() })

	return dl.fetch(ctx, o, oci.Descriptor{MediaType: oci.MediaTypeOctetStream, Digest: d, Size: size}, part)
}

// fetch fetches what part lacks of a blob.
func (dl *download) fetch(ctx context.Context, o *origin, desc oci.Descriptor, part *layout.Partial) error {
	t := progress.NewTask(o.s.opts.Progress, progress.Event{Name: o.repo, Digest: desc.Digest, Offset: part.Size(), Size: desc.Size})
	defer t.Stop()
	_, err := pull.Rest(ctx, o.c, o.path, desc, part, func(n int64) {
		t.Add(int(n - dl.have))
		dl.change(func() { dl.have = n })
	})

	// Bytes of another digest are not a beginning to go on from.
	if pull.IsWrong(err) {
		return errors.Join(err, part.Discard())
	}

	if err == nil {
		t.Done()
	}

	return err
}

// await waits until is reports true, under the lock, or the download has failed.
func (dl *download) await(ctx context.Context, is func() bool) error {
	for {
		dl.mu.Lock()
		ok, err, moved := is(), dl.err, dl.moved
		dl.mu.Unlock()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-moved:
		}
	}
}

// started waits until the blob is known to be there, with its size.
func (dl *download) started(ctx context.Context) error {
	return dl.await(ctx, func() bool { return dl.f != nil })
}

// finished waits until the blob is in the layout.
func (dl *download) finished(ctx context.Context) error {
	return dl.await(ctx, func() bool { return dl.ended })
}

// withheld is how much of the end of a blob nobody gets before its digest was checked: a blob
// that is not the right one does not become whole anywhere.
const withheld = 64 << 10

// A follower reads a blob that is on its way, behind who writes it.
type follower struct {
	ctx context.Context
	w   *exchange.Recorder
	dl  *download
	at  int64
	err error
}

func (f *follower) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.at
	case io.SeekEnd:
		offset += f.dl.size
	}
	if offset < 0 {
		return f.at, errors.New("seek before the beginning")
	}
	f.at = offset
	return offset, nil
}

func (f *follower) Read(p []byte) (int, error) {
	dl := f.dl
	if f.at >= dl.size {
		return 0, io.EOF
	}

	// Until the digest is checked the reader stops short of the end.
	limit := dl.size
	f.err = dl.await(f.ctx, func() bool {
		if !dl.ended {
			limit = min(dl.have, dl.size-withheld)
		} else {
			limit = dl.size
		}
		return limit > f.at
	})

	if f.err != nil {
		return 0, f.err
	}

	f.w.Extend() // waiting for the upstream is not a fault of the client's
	n, err := dl.f.ReadAt(p[:min(int64(len(p)), limit-f.at)], f.at)
	f.at += int64(n)
	if n > 0 {
		err = nil
	}

	f.err = err
	return n, err
}
