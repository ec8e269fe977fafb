package operands

import (
	"errors"
	"fmt"
	"io/fs"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/digest"
	"ocikit/oci/set"
)

// A Lock is the file of --lock. The methods of a nil *Lock do nothing: there is no such flag.
type Lock struct {
	file    string
	digests set.Lock
	changed bool
}

// ReadLock reads a lock file, which need not be there; without a name there is no lock.
func ReadLock(env *cli.Env, file string) (*Lock, error) {
	switch file {
	case "":
		return nil, nil
	case "-":
		return nil, cli.Usagef("--lock: want a file, which is read and written")
	}

	l := &Lock{file: file, digests: set.Lock{}}
	in, err := env.Input(file)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	defer in.Close()

	if l.digests, err = set.ReadLock(in); err != nil {
		err = fmt.Errorf("%q: %w", file, err)
	}

	return l, err
}

// Pin returns an image by the digest that its name is locked to, and reports whether it is. One that
// is asked for by its digest has no need of that.
func (l *Lock) Pin(w Wanted) (Wanted, bool) {
	if l == nil || !w.Ref.Digest.IsZero() {
		return w, false
	}
	d, ok := l.digests[lockName(w)]
	w.Ref.Digest = d
	return w, ok
}

// Add locks the name of an image to its digest, unless it is locked.
func (l *Lock) Add(w Wanted, d digest.Digest) {
	if l == nil || !w.Ref.Digest.IsZero() {
		return
	}
	if _, ok := l.digests[lockName(w)]; !ok {
		l.digests[lockName(w)], l.changed = d, true
	}
}

// lockName is what a lock file calls an image: where it is, not what it is called in a store.
func lockName(w Wanted) string { return w.Ref.Repository() + ":" + w.Ref.Name() }

// Write replaces the file, if there is something new.
func (l *Lock) Write(env *cli.Env) error {
	if l == nil || !l.changed {
		return nil
	}
	return env.ToOutput(l.file, false, l.digests.Write)
}
