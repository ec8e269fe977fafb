package oci

import (
	"bytes"
	"encoding/json"
	"fmt"

	"ocikit/digest"
)

// A Manifest describes one image or artifact (manifest.md of the image-spec). Members that
// the struct has no field for are kept in Extra.
type Manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        Descriptor        `json:"config"`
	Layers        []Descriptor      `json:"layers"`
	Subject       *Descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
	Extra         Object            `json:"-"`
}

// An Index lists manifests and other indexes (image-index.md), and is what index.json of
// a layout holds. Members that the struct has no field for are kept in Extra.
type Index struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Manifests     []Descriptor      `json:"manifests"`
	Subject       *Descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
	Extra         Object            `json:"-"`
}

type (
	plainManifest Manifest
	plainIndex    Index
)

// UnmarshalJSON decodes a manifest and checks its shape: schemaVersion 2, a config, and no
// member of an index beside them, which would give the document two meanings
// (CVE-2021-41190).
func (m *Manifest) UnmarshalJSON(data []byte) error {
	var p plainManifest
	extra, err := unmarshal(data, &p)
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	if err := checkShape("manifest", p.SchemaVersion, p.MediaType, IsManifest, extra, "manifests"); err != nil {
		return err
	}
	if p.Config.Digest.IsZero() {
		return fmt.Errorf("manifest: no config")
	}
	*m = Manifest(p)
	m.Extra = extra
	return nil
}

// MarshalJSON encodes m, names sorted.
func (m Manifest) MarshalJSON() ([]byte, error) {
	if m.Layers == nil {
		m.Layers = []Descriptor{}
	}
	return marshal(plainManifest(m), m.Extra)
}

// UnmarshalJSON decodes an index and checks its shape as for a manifest. A null list of
// manifests, which other tools have written, is an empty one.
func (x *Index) UnmarshalJSON(data []byte) error {
	var p plainIndex
	extra, err := unmarshal(data, &p)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	if err := checkShape("index", p.SchemaVersion, p.MediaType, IsIndex, extra, "layers", "config"); err != nil {
		return err
	}
	*x = Index(p)
	x.Extra = extra
	return nil
}

// MarshalJSON encodes x, names sorted; the list of manifests is never null.
func (x Index) MarshalJSON() ([]byte, error) {
	if x.Manifests == nil {
		x.Manifests = []Descriptor{}
	}
	return marshal(plainIndex(x), x.Extra)
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

// checkType reports whether the mediaType inside a document, if there is one, is that of
// the descriptor it was read by.
func checkType(desc Descriptor, inside string) error {
	if inside != "" && inside != desc.MediaType {
		return fmt.Errorf("%s: descriptor says %q, document says %q: %w", desc.Digest, desc.MediaType, inside, ErrMalformed)
	}
	return nil
}

// DecodeManifest decodes data, the blob that desc names, as a manifest.
func DecodeManifest(desc Descriptor, data []byte) (Manifest, error) {
	var m Manifest
	if err := Decode(data, &m); err != nil {
		return m, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	return m, checkType(desc, m.MediaType)
}

// DecodeIndex decodes data, the blob that desc names, as an index.
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
	switch {
	case IsManifest(desc.MediaType):
		m, err := DecodeManifest(desc, data)
		return append([]Descriptor{m.Config}, m.Layers...), err
	case IsIndex(desc.MediaType):
		x, err := DecodeIndex(desc, data)
		return x.Manifests, err
	}
	return nil, nil
}

// Describe returns the descriptor of data under a media type.
func Describe(mediaType string, data []byte) Descriptor {
	return Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
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
