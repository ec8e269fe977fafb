package serve

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/registry/serve/exchange"
)

// storeManifest stores the bytes, and the names in index.json. Nothing is stored if a blob
// that the manifest names is absent, unless [Options.Sparse] allows that, or of another size.
func (s *Server) storeManifest(r *http.Request, repo string, m manifest, data []byte, tags []string) error {
	l, err := layout.OpenBelow(s.root, repo)
	if isAbsent(err) {
		// A manifest that is refused leaves no empty repository behind.
		if err := s.checkRefs(emptyStore{}, m); err != nil {
			return err
		}
		l, err = s.makeRepo(repo)
	}
	if err != nil {
		return err
	}
	defer l.Close()
	return s.commit(r.Context(), repo, l, &change{m: m, data: data, tags: tags})
}

// storeDocument stores the bytes of a manifest, if what it names is there. The lock of the layout is held,
// so that nobody removes that meanwhile.
func (s *Server) storeDocument(l *layout.Layout, c *change) error {
	if err := s.checkRefs(l, c.m); err != nil {
		return err
	}
	_, _, err := l.Put(bytes.NewReader(c.data), c.m.desc.Digest)
	return err
}

// An emptyStore is what a repository has that is not there.
type emptyStore struct{ graph.Store }

func (emptyStore) Stat(digest.Digest) (int64, error) { return 0, graph.ErrNotFound }

// checkRefs returns an error if something that the manifest names is absent, or of another size.
// Manifests in an index are not looked into: their own references were checked when they came.
func (s *Server) checkRefs(store graph.Store, m manifest) error {
	rules := graph.Rules{Sparse: s.opts.Sparse, Blobs: s.opts.Sparse}
	for _, ref := range m.refs {
		switch state, err := rules.StateOf(store, m.desc.MediaType, ref); {
		case state == graph.Absent:
			f := exchange.Fail(http.StatusBadRequest, exchange.CodeManifestBlobUnknown, "blob %s is not known", ref.Digest)
			f.Detail = map[string]string{"digest": ref.Digest.String()}
			return f
		case errors.Is(err, digest.ErrMismatch):
			return exchange.Fail(http.StatusBadRequest, exchange.CodeManifestInvalid, "%v", err)
		case state == graph.Damaged:
			return err
		}
	}
	return nil
}

// setNames gives the manifest its entries in index.json: one for each tag, in place of what
// the tag named before; without tags one that has no name, unless it is listed already.
// Entries without a name that the manifest, or a tag, holds from now on are dropped.
func setNames(x *oci.Index, m manifest, tags []string) {
	for _, tag := range tags {
		entry := m.desc.WithAnnotation(oci.AnnotationRefName, tag)
		i := slices.IndexFunc(x.Manifests, func(e oci.Descriptor) bool { return slices.Contains(names(e), tag) })
		if i < 0 {
			x.Manifests = append(x.Manifests, entry)
			continue
		}
		x.Manifests[i] = entry

		// A second entry with the tag would make it ambiguous.
		rest := slices.DeleteFunc(x.Manifests[i+1:], func(e oci.Descriptor) bool { return slices.Contains(names(e), tag) })
		x.Manifests = x.Manifests[:i+1+len(rest)]
	}

	held := map[digest.Digest]bool{}
	for _, ref := range m.refs {
		held[ref.Digest] = true
	}

	if len(tags) > 0 {
		held[m.desc.Digest] = true
	}

	x.Manifests = slices.DeleteFunc(x.Manifests, func(e oci.Descriptor) bool { return held[e.Digest] && len(names(e)) == 0 })
	listed := func(e oci.Descriptor) bool { return e.Digest == m.desc.Digest }
	if len(tags) == 0 && !slices.ContainsFunc(x.Manifests, listed) {
		x.Manifests = append(x.Manifests, m.desc)
	}
}

// deleteManifest is DELETE of a tag or a manifest (end-9).
func (s *Server) deleteManifest(w *exchange.Recorder, r *http.Request, rt exchange.Route) error {
	tag, d, err := reference(rt.Ref)
	if err != nil {
		return err
	}

	l, err := s.openLayout(rt.Repo)
	if err != nil {
		return err
	}
	defer l.Close()

	// index.json is written without the entries first. Once that is on the disk the blob goes.
	err = l.Update(r.Context(), func(x *oci.Index) error {
		n := len(x.Manifests)
		x.Manifests = slices.DeleteFunc(x.Manifests, func(e oci.Descriptor) bool {
			if tag != "" {
				return slices.Contains(names(e), tag)
			}
			return e.Digest == d
		})

		if tag != "" {
			if len(x.Manifests) == n {
				return unknownManifest(rt, nil)
			}
			return nil
		}

		// A digest may be that of a manifest which nothing lists, but not that of a layer.
		if desc, err := graph.Describe(l, d); err != nil || !oci.IsDocument(desc.MediaType) && len(x.Manifests) == n {
			return unknownManifest(rt, nil)
		}

		return checkUnused(l, x.Manifests, d)
	})
	if err == nil && tag == "" {
		err = l.Update(r.Context(), func(x *oci.Index) error { return removeUnlisted(l, x, d) })
	}
	if err != nil {
		return err
	}

	w.WriteHeader(http.StatusAccepted)
	return nil
}

// removeUnlisted removes the blob of a manifest once index.json is without it, so that no
// crash leaves an entry without a blob. A manifest that was pushed again meanwhile stays.
func removeUnlisted(l *layout.Layout, x *oci.Index, d digest.Digest) error {
	if slices.ContainsFunc(x.Manifests, func(e oci.Descriptor) bool { return e.Digest == d }) || checkUnused(l, x.Manifests, d) != nil {
		return nil
	}
	if err := l.RemoveBlob(d); !errors.Is(err, layout.ErrNotFound) {
		return err
	}
	return nil
}

// A change is one manifest on its way into a repository.
type change struct {
	m    manifest
	data []byte
	tags []string

	lead chan struct{} // it is this one's turn to write for all who wait
	done chan error    // another one has written it
}

// turns are the changes of one repository that wait. Writing index.json takes as long as all its
// names need, and a wait for the disk, however little has changed. So what comes while it is
// written is written together, by the first that waits.
type turns struct {
	mu      sync.Mutex
	waiting []*change
	busy    bool // somebody writes, or is told to
	users   int  // guarded by indexes.mu
}

// turnsOf returns the turns of a repository; they are forgotten when everybody who got them has left.
func (c *indexes) turnsOf(repo string) (t *turns, leave func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t = c.turns[repo]
	if t == nil {
		t = &turns{}
		c.turns[repo] = t
	}

	t.users++
	return t, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(c.turns, repo)
		}
	}
}

// wait returns a nil batch once another one has written the change, with its error. Otherwise it
// returns the changes that the caller has to write, its own as the first.
func (t *turns) wait(c *change) (batch []*change, err error) {
	c.lead, c.done = make(chan struct{}, 1), make(chan error, 1)
	t.mu.Lock()
	t.waiting = append(t.waiting, c)
	if !t.busy {
		t.busy = true
		c.lead <- struct{}{}
	}

	t.mu.Unlock()

	select {
	case err := <-c.done:
		return nil, err
	case <-c.lead:
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	batch, t.waiting = t.waiting, nil
	return batch, nil
}

// pass gives the turn to the next one. Those that are left were not written; they wait again.
func (t *turns) pass(left []*change) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = append(left, t.waiting...)
	if t.busy = len(t.waiting) > 0; t.busy {
		t.waiting[0].lead <- struct{}{}
	}
}

// errUnwritten is what those hear who waited for one that did not come to an end.
var errUnwritten = errors.New("not written")

// commit stores a manifest and its names in a repository, durably.
func (s *Server) commit(ctx context.Context, repo string, l *layout.Layout, c *change) error {
	t, leave := s.indexes.turnsOf(repo)
	defer leave()
	batch, err := t.wait(c)
	if batch == nil {
		return err
	}

	// The lock is waited for as long as this one's client waits; if that goes, the others go on.
	unlock, err := l.Lock(ctx)
	if err != nil {
		t.pass(batch[1:])
		return err
	}
	defer unlock()

	results := make([]error, len(batch))
	for i := range results {
		results[i] = errUnwritten
	}

	defer func() {
		for i, other := range batch[1:] {
			other.done <- results[i+1]
		}
		t.pass(nil)
	}()

	s.write(repo, l, batch, results)
	return results[0]
}

// write stores manifests and then all their names in one go. The lock of the layout is held.
func (s *Server) write(repo string, l *layout.Layout, batch []*change, results []error) {
	lstat := func() (fs.FileInfo, error) { return s.root.Lstat(path.Join(repo, "index.json")) }
	v, err := s.indexes.get(repo, lstat), error(nil)
	if v == nil {
		v, err = load(l, lstat)
	}

	// All at once, since each of them waits for the disk.
	stored := make([]error, len(batch)) // why a manifest was not
	if err == nil {
		var wg sync.WaitGroup
		for i, c := range batch {
			wg.Go(func() { stored[i] = s.storeDocument(l, c) })
		}
		wg.Wait()
		err = s.writeNames(repo, l, v, batch, stored)
	}

	for i := range results {
		if results[i] = stored[i]; results[i] == nil {
			results[i] = err
		}
	}
}

// writeNames writes the names of the manifests that were stored.
func (s *Server) writeNames(repo string, l *layout.Layout, v *index, batch []*change, stored []error) error {
	// Readers wait until index.json is durable: nobody sees names that a crash could take back.
	v.mu.Lock()
	defer v.mu.Unlock()
	changed := false
	for i, c := range batch {
		if stored[i] != nil {
			continue
		}
		more, err := v.set(c.m, c.tags)
		if err != nil { // some of its names may be set
			s.indexes.forget(repo)
			return err
		}
		changed = changed || more
	}

	if !changed {
		return nil
	}

	// Until it is written the index says what no file says. Without info it is found in no file's
	// place.
	v.info = nil
	if err := v.write(l); err != nil {
		s.indexes.forget(repo)
		return err
	}

	// It is durable, whatever comes now.
	f, err := l.OpenIndex()
	if err != nil {
		s.indexes.forget(repo)
		return nil
	}

	if v.info, err = f.Stat(); err != nil {
		f.Close()
		s.indexes.forget(repo)
	} else {
		s.indexes.put(repo, v, f, v.info.Size())
	}
	return nil
}
