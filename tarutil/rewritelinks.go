package tarutil

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
)

// A linkPlan says what becomes of hard links whose target is left out.
type linkPlan struct {
	targets map[string]string // of hard links that are left out
	heirs   map[string]string // the first selected link, by the file left out
	given   map[string]bool   // files left out whose content has been written
}

// planLinks reads r once, to find hard links whose target is left out, and goes back to where
// it was. It does nothing if all is selected, or if r cannot seek.
func (rw *rewriter) planLinks(ctx context.Context, r io.Reader) error {
	if rw.opts.Only == nil && rw.opts.Exclude == nil && rw.opts.StripComponents <= 0 {
		return nil
	}
	seeker, ok := r.(io.Seeker)
	if !ok {
		return nil
	}
	start, err := seeker.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil // a pipe
	}
	in, err := newEntryReader(ctx, r, rw.opts.AllowNoEnd, rw.opts.MaxSparse)
	if err != nil {
		return err
	}
	plan := &linkPlan{make(map[string]string), make(map[string]string), make(map[string]bool)}
	for {
		hdr, err := in.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if hdr.Typeflag != typeLink {
			continue
		}
		if !rw.selected(hdr.Name) {
			plan.targets[hdr.Name] = hdr.Linkname
		} else if target := plan.resolve(rw, hdr.Linkname); !rw.selected(target) && plan.heirs[target] == "" {
			plan.heirs[target] = hdr.Name
		}
	}
	rw.links = plan
	_, err = seeker.Seek(start, io.SeekStart)
	return err
}

// resolve follows hard links that are left out.
func (p *linkPlan) resolve(rw *rewriter, target string) string {
	for range len(p.targets) + 1 { // no longer, should they run in a circle
		next, ok := p.targets[target]
		if !ok || rw.selected(target) {
			break
		}
		target = next
	}
	return target
}

// relink sets the target of a selected hard link to its place in the output. It says skip
// if the link has become the file itself.
func (rw *rewriter) relink(hdr *tar.Header) (skip bool, err error) {
	target := hdr.Linkname
	if rw.links != nil {
		target = rw.links.resolve(rw, target)
	}
	if rw.selected(target) {
		hdr.Linkname = rw.place(target)
		return false, nil
	}
	if rw.links == nil {
		return false, fmt.Errorf("hard link to %q, which is left out: select it too, or read the tar from a file", target)
	}
	if !rw.links.given[target] {
		return false, fmt.Errorf("%w: hard link to %q, which does not come before it", ErrMalformed, target)
	}
	heir := rw.links.heirs[target]
	hdr.Linkname = rw.place(heir)
	return heir == hdr.Name, nil
}
