package oci

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"ocikit/digest"
)

// A Manifest describes one image or artifact (manifest.md of the image-spec). Members that
// the struct has no field for are kept in Extra.
type Manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType,omitempty"`
	ArtifactType  string       `json:"artifactType,omitempty"`
	Config        Descriptor   `json:"config"`
	Layers        []Descriptor `json:"layers"`
	Subject       *Descriptor  `json:"subject,omitempty"`
	Annotations   Annotations  `json:"annotations,omitempty"`
	Extra         Object       `json:"-"`
}

// An Index lists manifests and other indexes (image-index.md), and is what index.json of
// a layout holds. Members that the struct has no field for are kept in Extra.
type Index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType,omitempty"`
	ArtifactType  string       `json:"artifactType,omitempty"`
	Manifests     []Descriptor `json:"manifests"`
	Subject       *Descriptor  `json:"subject,omitempty"`
	Annotations   Annotations  `json:"annotations,omitempty"`
	Extra         Object       `json:"-"`
}

// Referring is what a document of any type says about the manifest that it refers to. Nothing else of
// it is checked when it is decoded.
type Referring struct {
	Subject *Descriptor `json:"subject"`
}

type (
	plainManifest Manifest
	plainIndex    Index
)

// UnmarshalJSON implements json.Unmarshaler, under the rules of [Decode].
func (m *Manifest) UnmarshalJSON(data []byte) (err error) {
	*m, err = newParser(data).manifest()
	return err
}

// check checks the shape: schemaVersion 2, a config, and no member of an index beside them, which
// would give the document two meanings (CVE-2021-41190).
func (m *Manifest) check() error {
	if err := checkShape("manifest", m.SchemaVersion, m.MediaType, IsManifest, m.Extra, "manifests"); err != nil {
		return err
	}
	if m.Config.Digest.IsZero() {
		return fmt.Errorf("manifest: no config")
	}
	return nil
}

// IsImage reports whether m is a manifest of an image with a file system, and not of some other
// artifact: the type of its config says so. Images of 2015 on Docker Hub have a config of no type.
// Artifacts for registries that take images alone, as models of ollama, signatures of cosign and
// modules of WebAssembly, borrow the type of the config: of these no blob is of the type of a layer.
func (m Manifest) IsImage() bool {
	isConfig := IsConfig(m.Config.MediaType) || m.Config.MediaType == MediaTypeOctetStream && m.MediaType == MediaTypeDockerManifest
	if !isConfig || len(m.Layers) == 0 {
		return isConfig
	}
	return slices.ContainsFunc(m.Layers, func(d Descriptor) bool { return IsLayer(d.MediaType) })
}

// UnmarshalJSON implements json.Unmarshaler, under the rules of [Decode]. A null list of manifests,
// which other tools have written, is an empty one.
func (x *Index) UnmarshalJSON(data []byte) (err error) {
	*x, err = newParser(data).index()
	return err
}

// check checks the shape as for a manifest.
func (x *Index) check() error {
	return checkShape("index", x.SchemaVersion, x.MediaType, IsIndex, x.Extra, "layers", "config")
}

func checkShape(what string, version int, mediaType string, ok func(string) bool, extra Object, foreign ...string) error {
	if version != 2 {
		return fmt.Errorf("%s: schemaVersion %d, want 2", what, version)
	}
	if mediaType != "" && !ok(mediaType) {
		return fmt.Errorf("%s: mediaType %q inside", what, mediaType)
	}
	for _, name := range foreign {
		if _, found := extra[name]; found {
			return fmt.Errorf("%s: it has the member %q too, so readers disagree about what it is", what, name)
		}
	}
	return nil
}

// checkType compares the mediaType inside a document, if there is one, with that of the descriptor
// it was read by: the two must match (manifest.md, "mediaType").
func checkType(desc Descriptor, inside string) error {
	if inside != "" && inside != desc.MediaType {
		return fmt.Errorf("%s: descriptor says %q, document says %q: %w", desc.Digest, desc.MediaType, inside, ErrMalformed)
	}
	return nil
}

// DecodeManifest decodes data, the blob that desc names, as a manifest. It does not check the
// digest. Another shape, or another mediaType inside than desc says, gives [ErrMalformed].
func DecodeManifest(desc Descriptor, data []byte) (Manifest, error) {
	var m Manifest
	if err := Decode(data, &m); err != nil {
		return m, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	return m, checkType(desc, m.MediaType)
}

// DecodeIndex decodes data, the blob that desc names, as an index, under the same rules as
// [DecodeManifest].
func DecodeIndex(desc Descriptor, data []byte) (Index, error) {
	var x Index
	if err := Decode(data, &x); err != nil {
		return x, fmt.Errorf("index %s: %w", desc.Digest, err)
	}
	return x, checkType(desc, x.MediaType)
}

// References returns the descriptors of what a document of the given type needs to be whole:
// config and layers of a manifest, manifests of an index; nothing of any other type. The
// subject is not among them: it need not exist.
func References(desc Descriptor, data []byte) ([]Descriptor, error) {
	doc, err := DecodeDocument(desc, data)
	return doc.Refs, err
}

// A Document is what manifests and indexes have in common.
type Document struct {
	Refs    []Descriptor // see [References]
	Subject *Descriptor
	// Listed is the document as it stands in a list of what refers to its subject. There the type of
	// the config stands for an artifact type that a manifest does not have (distribution-spec,
	// "Listing Referrers").
	Listed Descriptor
}

// DecodeDocument decodes data as [DecodeManifest] or [DecodeIndex] does, as the type of desc says. What
// is of any other type has nothing inside.
func DecodeDocument(desc Descriptor, data []byte) (Document, error) {
	listed := desc.Bare()
	switch {
	case IsManifest(desc.MediaType):
		m, err := DecodeManifest(desc, data)
		listed.Annotations, listed.ArtifactType = m.Annotations, cmp.Or(m.ArtifactType, m.Config.MediaType)
		return Document{append([]Descriptor{m.Config}, m.Layers...), m.Subject, listed}, err
	case IsIndex(desc.MediaType):
		x, err := DecodeIndex(desc, data)
		listed.Annotations, listed.ArtifactType = x.Annotations, x.ArtifactType
		return Document{x.Manifests, x.Subject, listed}, err
	}
	return Document{Listed: listed}, nil
}

// Describe returns the descriptor of data under a media type, with a sha256 digest.
func Describe(mediaType string, data []byte) Descriptor {
	return DescribeWith(digest.SHA256, mediaType, data)
}

// DescribeWith is [Describe] with a digest of another algorithm, which must be available.
func DescribeWith(alg digest.Algorithm, mediaType string, data []byte) Descriptor {
	return Descriptor{MediaType: mediaType, Digest: alg.FromBytes(data), Size: int64(len(data))}
}

// SniffDocument returns the media type of an index, a manifest or a config by its content,
// or "" for anything else. A document's own mediaType counts first.
func SniffDocument(data []byte) string {
	var doc struct {
		MediaType string          `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
		Config    json.RawMessage `json:"config"`
		Layers    json.RawMessage `json:"layers"`
		RootFS    json.RawMessage `json:"rootfs"`
	}

	trimmed := bytes.TrimLeft(data, " \t\r\n")
	if len(trimmed) == 0 || trimmed[0] != '{' || Decode(data, &doc) != nil {
		return ""
	}

	// The mediaType inside a document is optional, so what it holds decides next.
	switch {
	case IsIndex(doc.MediaType), IsManifest(doc.MediaType):
		return doc.MediaType
	case doc.Manifests != nil && doc.Layers == nil:
		return MediaTypeIndex
	case doc.Layers != nil && doc.Config != nil:
		return MediaTypeManifest
	case doc.RootFS != nil:
		return MediaTypeConfig
	}

	return ""
}
