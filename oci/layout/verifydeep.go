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
	"ocikit/oci/disk"
	"ocikit/oci/graph"
)

// maxNesting is how deep indexes nest before a warning is due. Other tools give up at two
// levels or at a few; images in use have one or two.
const maxNesting = 8

// A nameCheck finds tags that name more than one image, and, if deep, those that are listed twice or
// that other tools refuse.
type nameCheck struct {
	deep  bool
	first map[string]digest.Digest // what a tag names where it comes first
	found []Finding
}

func (c *nameCheck) add(code string, e oci.Descriptor, got, want string) {
	c.found = append(c.found, Finding{Code: code, Path: indexFile, Digest: e.Digest.String(), Got: got, Want: want})
}

// check checks the names of one entry of index.json.
func (c *nameCheck) check(e oci.Descriptor) {
	c.checkDigest(e)
	tag := e.Annotations.Get(oci.AnnotationRefName)
	if tag == "" {
		return
	}

	switch d, ok := c.first[tag]; {
	case ok && d != e.Digest:
		c.add(CodeNameAmbiguous, e, fmt.Sprintf("%q", tag), "one image, it names "+d.String()+" too")
	case ok && c.deep:
		c.add(CodeNameDuplicate, e, fmt.Sprintf("%q twice", tag), "one entry")
	case !ok:
		c.first[tag] = e.Digest
		if !c.deep {
			return
		}
		if err := oci.CheckTag(tag); err != nil {
			c.add(CodeNameInvalid, e, err.Error(), "")
		}
	}
}

// checkDigest compares the digest that a name may end with, as containerd and others write it, with
// that of the image.
func (c *nameCheck) checkDigest(e oci.Descriptor) {
	if !c.deep {
		return
	}
	for _, key := range []string{oci.AnnotationRefName, oci.AnnotationImageName} {
		if _, d := oci.CutDigest(e.Annotations.Get(key)); !d.IsZero() && d != e.Digest {
			c.add(CodeNameDigest, e, fmt.Sprintf("%q", e.Annotations.Get(key)), e.Digest.String())
		}
	}
}

// checkSubject looks for the subject of a manifest or an index. It may be absent: a
// signature can travel alone ("Subject" in manifest.md).
func (v *verifier) checkSubject(desc oci.Descriptor, doc []byte) {
	subject := graph.Subject(doc)
	if subject == nil {
		return
	}
	size, err := v.src.Stat(subject.Digest)
	switch {
	case err != nil:
		v.add(CodeSubjectMissing, Finding{Digest: desc.Digest.String(), Got: "no " + subject.Digest.String()})
	case size != subject.Size:
		v.add(CodeBlobSize, Finding{Digest: subject.Digest.String(), Path: blobPath(subject.Digest),
			Got: fmt.Sprint(size), Want: fmt.Sprintf("%d, as the subject of %s", subject.Size, desc.Digest)})
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

// known reports whether layouts hold a file of that name beside the blobs. Some layouts are
// archives for Docker at the same time, with files of their own.
func known(name string) bool {
	return slices.Contains([]string{layoutFile, indexFile, blobsDir, disk.LockFile, WaitingFile, "manifest.json", "repositories"}, name)
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
	return disk.TryLock(f)
}

// checkNesting reports indexes that lead back to themselves and chains of them that are
// long. A loop cannot have right digests, so documents are read as they are here.
func (v *verifier) checkNesting(roots []oci.Descriptor) {
	// The stack is kept here, not by calls: a hostile layout nests as deep as it likes. An
	// index is opened once, so that many that share one cost no more than their number.
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

// document reads a document, in a layout whether its digest is right or not.
func (v *verifier) document(d digest.Digest) ([]byte, error) {
	if v.l != nil {
		return v.l.readFile(blobPath(d), oci.MaxDocument)
	}
	size, err := v.src.Stat(d)
	if err != nil {
		return nil, err
	}
	return v.src.Document(oci.Descriptor{Digest: d, Size: size})
}

// indexesIn returns the indexes that an index names, whether its digest is right or not.
func (v *verifier) indexesIn(d digest.Digest) []digest.Digest {
	data, err := v.document(d)
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
