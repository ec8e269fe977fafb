package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"ocikit/oci"
)

// ErrPatchBlobs means that a patch of a manifest would make it name other blobs, whose diff IDs and
// history would not follow.
var ErrPatchBlobs = errors.New("a patch cannot name another config or other layers")

// ErrDockerTypes means that an image would need the media types of OCI.
var ErrDockerTypes = errors.New("Docker's media types know no such member")

// Patch applies a JSON patch to the manifest or the index itself. A patch may change what a
// manifest says of its config and layers, such as annotations. It may not name another config or
// other layers: that gives [ErrPatchBlobs].
func (im *Image) Patch(patch oci.JSONPatch) error {
	before, err := oci.Encode(im.doc)
	if err != nil {
		return err
	}

	after, err := patch.Apply(before)
	if err != nil {
		return err
	}

	doc, err := oci.ParseObject(after)
	if err == nil && oci.IsIndex(im.desc.MediaType) {
		_, err = oci.DecodeIndex(im.desc, after)
		if _, ok := doc["manifests"]; err == nil && !ok {
			err = fmt.Errorf("an index without \"manifests\": %w", oci.ErrMalformed)
		}
	} else if err == nil {
		return im.patched(before, after, doc)
	}

	if err != nil {
		return fmt.Errorf("after the JSON patch: %w", err)
	}

	im.doc = doc
	return nil
}

// patched takes a manifest as a patch has left it, with what it says of the layers.
func (im *Image) patched(before, after []byte, doc oci.Object) error {
	was, err := oci.DecodeManifest(im.desc, before)
	if err != nil {
		return err
	}

	is, err := oci.DecodeManifest(im.desc, after)
	if err != nil {
		return fmt.Errorf("after the JSON patch: %w", err)
	}

	same := func(a, b oci.Descriptor) bool { return a.Digest == b.Digest && a.Size == b.Size }
	if !same(was.Config, is.Config) || was.Config.MediaType != is.Config.MediaType || !slices.EqualFunc(was.Layers, is.Layers, same) {
		return ErrPatchBlobs
	}

	var raws []json.RawMessage
	if err := doc.Get("layers", &raws); err != nil {
		return err
	}

	// Diff IDs are those of the config, which no patch of a manifest changes.
	for i, d := range is.Layers {
		if id, ok := im.layers[i].desc.DiffID(); ok {
			d = d.WithAnnotation(oci.AnnotationDiffID, id.String())
		}
		im.layers[i].desc, im.layers[i].raw = d, raws[i]
	}

	im.doc = doc
	return nil
}

// SetArtifactType says what kind of artifact the manifest or the index is; "" removes that. An image
// of Docker's family gives [ErrDockerTypes].
func (im *Image) SetArtifactType(t string) error {
	if err := im.needOCI("artifact type"); err != nil {
		return err
	}
	if delete(im.doc, "artifactType"); t != "" {
		im.doc["artifactType"] = encodeText(t)
	}
	return nil
}

// SetSubject lets the manifest or the index refer to another one, by media type, digest and size;
// nil removes that. It cannot refer to itself. An image of Docker's family gives [ErrDockerTypes].
func (im *Image) SetSubject(subject *oci.Descriptor) (err error) {
	if err := im.needOCI("subject"); err != nil {
		return err
	}
	if delete(im.doc, "subject"); subject != nil {
		if subject.Digest == im.desc.Digest {
			return fmt.Errorf("%s: a manifest cannot be its own subject", subject.Digest)
		}
		im.doc["subject"], err = oci.Encode(subject.Bare())
	}
	return err
}

// needOCI is an error if Docker's media types have no such member.
func (im *Image) needOCI(member string) error {
	if im.family() == oci.FamilyDocker {
		return fmt.Errorf("%s: %s: %w", im.desc.Digest, member, ErrDockerTypes)
	}
	return nil
}
