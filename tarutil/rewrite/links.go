package rewrite

import (
	"archive/tar"
	"context"
	"fmt"
	"io"

	"ocikit/tarutil"
)

// A linkPlan says what becomes of selected hard links whose target is left out. The first of them, the
// heir, becomes the file, and the others become links to the heir.
type linkPlan struct {
	targets map[string]string // of the hard links that are left out themselves
	heirs   map[string]string // by the file that is left out: the first selected link to it
	given   map[string]bool   // files left out whose content was written under the name of their heir
}

// linkMemory is about how many bytes a hard link in the plan needs.
const linkMemory = 150

// planLinks reads r once to make the plan, and seeks back to where r was. It makes none if all is
// selected, so that no target is left out, or if r cannot seek.
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

	in, err := tarutil.NewEntryReader(ctx, r, rw.opts.readOptions())
	if err != nil {
		return err
	}

	budget := tarutil.NewBudget(0)

	// This pass looks at hard links only. It finds the files that are left out although a link to them
	// is selected, and the first such link. Links that are left out lead on to the file itself.
	plan := &linkPlan{make(map[string]string), make(map[string]string), make(map[string]bool)}
	for hdr, err := range in.All() {
		if err != nil {
			return err
		}
		if hdr.Typeflag != tar.TypeLink {
			continue
		}

		if err := budget.Take(linkMemory + len(hdr.Name) + len(hdr.Linkname)); err != nil {
			return in.EntryError(err)
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

// resolve follows hard links that are left out, to a name that is selected or to a file.
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

// relink sets the target of a selected hard link to its place in the output. It reports skip if the
// link is the heir of its target, which was written under the name of the link already.
func (rw *rewriter) relink(hdr *tar.Header) (skip bool, err error) {
	target := hdr.Linkname
	if rw.links != nil {
		target = rw.links.resolve(rw, target)
	}

	if rw.selected(target) {
		hdr.Linkname = rw.place(target)
		return false, nil
	}

	// The target is left out, so the link has to become the file, or a link to the one that did.
	if rw.links == nil {
		return false, fmt.Errorf("hard link to %q, which is left out: select it too, or read the tar from a file", target)
	}

	if !rw.links.given[target] {
		return false, fmt.Errorf("%w: hard link to %q, which does not come before it", tarutil.ErrMalformed, target)
	}

	heir := rw.links.heirs[target]
	hdr.Linkname = rw.place(heir)
	return heir == hdr.Name, nil
}
