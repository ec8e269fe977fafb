package layout

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
)

// maxNesting is how deep indexes nest before a warning is due. Other tools give up at two
// levels or at a few; images in use have one or two.
const maxNesting = 8

// checkNames reports tags that name more than one image, and, if asked for more, those that
// are listed twice or that other tools refuse.
func (v *verifier) checkNames(x oci.Index) {
	first := map[string]digest.Digest{}
	for _, e := range x.Manifests {
		tag := e.Annotations[oci.AnnotationRefName]
		if tag == "" {
			continue
		}
		switch d, ok := first[tag]; {
		case ok && d != e.Digest:
			v.add(CodeNameAmbiguous, Finding{Path: indexFile, Digest: e.Digest.String(),
				Got: fmt.Sprintf("%q", tag), Want: "one image, it names " + d.String() + " too"})
		case ok && v.opts.Deep:
			v.add(CodeNameDuplicate, Finding{Path: indexFile, Digest: e.Digest.String(), Got: fmt.Sprintf("%q twice", tag), Want: "one entry"})
		case !ok:
			first[tag] = e.Digest
			if err := oci.CheckTag(tag); err != nil && v.opts.Deep {
				v.add(CodeNameInvalid, Finding{Path: indexFile, Digest: e.Digest.String(), Got: err.Error()})
			}
		}
	}
}

// checkSubject looks for the subject of a manifest or an index. It may be absent: a
// signature can travel alone ("Subject" in manifest.md).
func (v *verifier) checkSubject(desc oci.Descriptor, doc []byte) {
	var d struct {
		Subject *oci.Descriptor `json:"subject"`
	}
	if json.Unmarshal(doc, &d) != nil || d.Subject == nil {
		return
	}
	size, err := v.l.Stat(d.Subject.Digest)
	switch {
	case err != nil:
		v.add(CodeSubjectMissing, Finding{Digest: desc.Digest.String(), Got: "no " + d.Subject.Digest.String()})
	case size != d.Subject.Size:
		v.add(CodeBlobSize, Finding{Digest: d.Subject.Digest.String(), Path: blobPath(d.Subject.Digest),
			Got: fmt.Sprint(size), Want: fmt.Sprintf("%d, as the subject of %s", d.Subject.Size, desc.Digest)})
	}
}

// checkFiles reports what is in the layout's directory and belongs to no layout. Directories
// are not looked into: they may be layouts of their own.
func (v *verifier) checkFiles() {
	for _, dir := range []string{".", blobsDir} {
		entries, err := v.l.readDir(dir)
		if err != nil {
			continue // it was, or will be, said by others
		}
		for _, e := range entries {
			v.checkFile(path.Join(dir, e.Name()), e)
		}
	}
}

// known are the files beside the blobs that layouts hold, also those that are archives for
// Docker at the same time.
func known(name string) bool {
	return slices.Contains([]string{layoutFile, indexFile, blobsDir, lockFile, ".ocikit-lock", WaitingFile, "manifest.json", "repositories"}, name)
}

func (v *verifier) checkFile(name string, e fs.DirEntry) {
	switch {
	case e.Type()&fs.ModeSymlink != 0 && (known(name) || strings.HasPrefix(name, blobsDir)):
		v.add(CodeFileLink, Finding{Path: name, Got: "a symbolic link"})
	case e.IsDir(), known(name), path.Dir(name) == blobsDir:
	case isTemp(name) || strings.HasPrefix(name, UploadPrefix):
		if e.Type().IsRegular() && v.l.abandoned(name) {
			v.add(CodeFileLeftover, Finding{Path: name})
		}
	default:
		v.add(CodeFileForeign, Finding{Path: name, Got: "a " + kindOf(e)})
	}
}

// abandoned reports whether no living process holds the lock of a temporary file.
func (l *Layout) abandoned(name string) bool {
	f, _, err := l.open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	return tryLock(f)
}

// checkNesting reports indexes that lead back to themselves and chains of them that are
// long. A loop cannot have right digests, so documents are read as they are here.
func (v *verifier) checkNesting(roots []oci.Descriptor) {
	type frame struct {
		d        digest.Digest
		children []digest.Digest
		depth    int // of the deepest child
	}
	depths := map[digest.Digest]int{} // 0: on the stack
	open := func(d digest.Digest) *frame { depths[d] = 0; return &frame{d: d, children: v.indexesIn(d)} }
	cycles := map[digest.Digest]bool{}
	for _, root := range roots {
		if _, seen := depths[root.Digest]; seen || !oci.IsIndex(root.MediaType) {
			continue
		}
		stack := []*frame{open(root.Digest)}
		for len(stack) > 0 {
			top := stack[len(stack)-1]
			if len(top.children) == 0 {
				depths[top.d] = top.depth + 1
				stack = stack[:len(stack)-1]
				if len(stack) > 0 {
					parent := stack[len(stack)-1]
					parent.depth = max(parent.depth, top.depth+1)
				}
				continue
			}
			child := top.children[0]
			top.children = top.children[1:]
			switch depth, seen := depths[child]; {
			case !seen:
				stack = append(stack, open(child))
			case depth == 0 && !cycles[child]:
				cycles[child] = true
				v.add(CodeIndexCycle, Finding{Digest: child.String(), Path: blobPath(child), Got: "named by " + top.d.String()})
			default:
				top.depth = max(top.depth, depth)
			}
		}
		if n := depths[root.Digest]; n > maxNesting {
			v.add(CodeIndexDepth, Finding{Digest: root.Digest.String(), Path: blobPath(root.Digest), Got: fmt.Sprintf("%d levels", n), Want: fmt.Sprintf("at most %d", maxNesting)})
		}
	}
}

// indexesIn returns the indexes that an index names, whether its digest is right or not.
func (v *verifier) indexesIn(d digest.Digest) []digest.Digest {
	data, err := v.l.readFile(blobPath(d), oci.MaxDocument)
	if err != nil {
		return nil
	}
	var x struct {
		Manifests []struct {
			MediaType string        `json:"mediaType"`
			Digest    digest.Digest `json:"digest"`
		} `json:"manifests"`
	}
	if json.Unmarshal(data, &x) != nil {
		return nil
	}
	var found []digest.Digest
	for _, m := range x.Manifests {
		if oci.IsIndex(m.MediaType) && !m.Digest.IsZero() {
			found = append(found, m.Digest)
		}
	}
	return found
}
