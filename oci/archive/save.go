package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/source"
	"ocikit/tarutil"
)

// A Format is a kind of archive.
type Format string

// The formats.
const (
	Both   Format = "both"   // an OCI layout with manifest.json
	OCI    Format = "oci"    // an OCI layout
	Docker Format = "docker" // manifest.json, configs and layers
)

// Names of members.
const (
	layoutFile   = "oci-layout"
	indexFile    = "index.json"
	manifestFile = "manifest.json"
	// repositoriesFile is what Docker wrote before it wrote manifest.json.
	repositoriesFile = "repositories"
	// bundleFile says what a bundle wants and what it leaves out.
	bundleFile = "ocikit-bundle.json"
	blobsDir   = "blobs"
)

// An Image is what to save, and the names it gets.
type Image struct {
	Source source.Source
	Desc   oci.Descriptor
	Tag    string // org.opencontainers.image.ref.name; "" for none
	Name   string // the full name, see [oci.FullName]; "" for none
}

// ImageOf returns an image under the names that its entry of index.json has.
func ImageOf(src source.Source, entry oci.Descriptor) Image {
	return Image{Source: src, Desc: entry, Tag: entry.Annotations.Get(oci.AnnotationRefName), Name: entry.Annotations.Get(oci.AnnotationImageName)}
}

// A Member is one file of an archive.
type Member struct {
	Path   string        `json:"path"`
	Size   int64         `json:"size"`
	Digest digest.Digest `json:"digest,omitzero"` // of a blob

	data []byte
	src  source.Source // that has the blob
	file *os.File      // that has it, and nothing else
	desc oci.Descriptor
}

// A Plan says what an archive will hold.
type Plan struct {
	Members []Member
	Notices []string // what the user should know

	images []Image
	format Format
	rules  graph.Rules
	docs   []Member
	layers []Member
	have   map[string]string // paths, by themselves: each is kept once
	items  []item
}

// A SizeError says that a list in an archive would be longer than readers take. No image is to blame:
// there are too many.
type SizeError struct {
	Name        string // of the list
	Size, Limit int64
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("%s would have %d bytes, the limit is %d", e.Name, e.Size, e.Limit)
}

// An item is one image in manifest.json.
type item struct {
	Config   string   `json:"Config"`
	RepoTags []string `json:"RepoTags"`
	Layers   []string `json:"Layers"`
}

// NewPlan works out the archive of images. They must be whole by the rules: an absent blob
// gives [graph.ErrIncomplete].
//
// manifest.json knows no platforms. There an image for several platforms becomes the one for
// linux/amd64, or else the first. An archive of the format [Docker] leaves the others out.
func NewPlan(images []Image, format Format, rules graph.Rules) (*Plan, error) {
	p := &Plan{images: images, format: format, rules: rules, have: map[string]string{}}
	for _, im := range images {
		if err := graph.Check(im.Source, im.Desc, rules); err != nil {
			return nil, err
		}
	}

	if err := graph.CheckNames(slices.Values(p.index().Manifests)); err != nil {
		return nil, err
	}

	if format != Docker {
		if err := p.addBlobs(); err != nil {
			return nil, err
		}
	}

	if format != OCI {
		if err := p.addItems(); err != nil {
			return nil, err
		}
	}

	return p, p.order()
}

// addBlobs lists all blobs of all images, each once, in the order in which they are named.
func (p *Plan) addBlobs() error {
	for _, im := range p.images {
		err := graph.Descend(im.Source, []oci.Descriptor{im.Desc}, p.rules, func(n graph.Node) error {
			d := n.Desc
			if n.Doc == nil {
				if state, _ := p.rules.StateOf(im.Source, n.Parent.MediaType, d); state == graph.Optional {
					p.notice("left out %s: a layer that is not distributed with its image, and not in the layout", d.Digest)
					return nil
				}
			}
			p.add(Member{Path: blobPath(d.Digest), Size: d.Size, Digest: d.Digest, src: im.Source, desc: d})
			return nil
		})
		if err != nil {
			return err
		}
	}

	return nil
}

func blobPath(d digest.Digest) string {
	return path.Join(blobsDir, string(d.Algorithm()), d.Encoded())
}

func (p *Plan) notice(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(p.Notices, text) {
		p.Notices = append(p.Notices, text)
	}
}

// add puts a blob among the documents or the layers, once, and returns its path.
func (p *Plan) add(m Member) string {
	if path, ok := p.have[m.Path]; ok {
		return path
	}

	p.have[m.Path] = m.Path
	list := &p.docs
	if oci.IsLayer(m.desc.MediaType) || m.Size > oci.MaxDocument {
		list = &p.layers
	}
	*list = append(*list, m)
	return m.Path
}

// addItems makes manifest.json.
func (p *Plan) addItems() error {
	byImage := map[digest.Digest]int{}
	for _, im := range p.images {
		desc, ok, err := p.single(im)
		if err != nil {
			return err
		}

		if !ok {
			continue
		}

		// The names of one image are the RepoTags of one item.
		at, ok := byImage[desc.Digest]
		if !ok {
			it, ok, err := p.item(im, desc)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			at = len(p.items)
			byImage[desc.Digest] = at
			p.items = append(p.items, it)
		}

		if name := oci.FamiliarName(im.Name); name != "" && !slices.Contains(p.items[at].RepoTags, name) {
			p.items[at].RepoTags = append(p.items[at].RepoTags, name)
		}
	}

	if len(p.items) == 0 && p.format == Docker {
		return errors.New("nothing that Docker's format can hold")
	}

	return nil
}

// single returns the one manifest that manifest.json can name.
func (p *Plan) single(im Image) (oci.Descriptor, bool, error) {
	if oci.IsManifest(im.Desc.MediaType) {
		return im.Desc, true, nil
	}

	entries, err := graph.Entries(im.Source, im.Desc)
	if err != nil {
		return oci.Descriptor{}, false, err
	}

	// An index lists attestations and artifacts too, which no engine runs. Of a sparse one some
	// manifests are absent.
	var found []oci.Descriptor
	var wish oci.Descriptor
	for _, d := range entries {
		m, err := graph.Manifest(im.Source, d)
		if errors.Is(err, graph.ErrNotFound) {
			continue
		}
		if err != nil {
			return oci.Descriptor{}, false, err
		}
		if !m.IsImage() {
			continue
		}
		pf, err := graph.PlatformOf(im.Source, d)
		if err != nil {
			return oci.Descriptor{}, false, err
		}
		if pf == nil {
			continue
		}
		found = append(found, d)
		if wish.Digest.IsZero() && pf.OS == "linux" && pf.Architecture == "amd64" {
			wish = d
		}
	}

	if len(found) == 0 {
		return oci.Descriptor{}, false, nil
	}

	if wish.Digest.IsZero() {
		wish = found[0]
	}

	if len(found) > 1 {
		p.notice("manifest.json names one of the %d images of %s: %s", len(found), im.Desc.Digest, wish.Digest)
	}

	return wish, true, nil
}

// item lists an image as manifest.json holds it; false if it cannot.
func (p *Plan) item(im Image, desc oci.Descriptor) (item, bool, error) {
	m, err := graph.Manifest(im.Source, desc)
	if err != nil {
		return item{}, false, err
	}

	if !m.IsImage() {
		if p.format == Docker {
			return item{}, false, fmt.Errorf("%s: it is an artifact, which Docker's format has no place for", desc.Digest)
		}
		return item{}, false, nil
	}

	// A hybrid names the blobs of its layout, so that nothing is stored twice. In Docker's
	// format alone config and layers are files at the top.
	it := item{Layers: []string{}}
	config := Member{Path: blobPath(m.Config.Digest), Size: m.Config.Size, Digest: m.Config.Digest, src: im.Source, desc: m.Config}
	if p.format == Docker {
		config.Path = m.Config.Digest.Encoded() + ".json"
	}
	it.Config = p.add(config)

	for _, d := range m.Layers {
		// manifest.json has no word for a layer that is to be found elsewhere.
		if _, err := im.Source.Stat(d.Digest); errors.Is(err, graph.ErrNotFound) && d.Data == nil {
			if p.format == Docker {
				return item{}, false, fmt.Errorf("layer %s, which is not distributed with its image, is not in the layout: %w", d.Digest, graph.ErrIncomplete)
			}
			p.notice("manifest.json does not name %s: the layer %s is not in the layout", desc.Digest, d.Digest)
			return item{}, false, nil
		}
		member := Member{Path: blobPath(d.Digest), Size: d.Size, Digest: d.Digest, src: im.Source, desc: d}
		if p.format == Docker {
			member.Path = d.Digest.Encoded() + layerSuffix(d.MediaType)
		}
		it.Layers = append(it.Layers, p.add(member))
	}

	return it, true, nil
}

// layerSuffix ends the name of a file that holds a layer.
func layerSuffix(mediaType string) string {
	t, _ := oci.ParseLayerType(mediaType)
	switch t.Compression {
	case oci.Zstd:
		return ".tar.zst"
	case oci.Gzip:
		return ".tar.gz"
	}
	return ".tar"
}

// order sets the members: what says what an archive is, directories, documents, layers.
func (p *Plan) order() error {
	var docs []controlFile
	if p.format != Docker {
		docs = append(docs, controlFile{layoutFile, map[string]string{"imageLayoutVersion": oci.LayoutVersion}}, controlFile{indexFile, p.index()})
	}
	if p.format != OCI && len(p.items) > 0 {
		docs = append(docs, controlFile{manifestFile, p.items})
	}
	return p.arrange(docs, slices.Concat(p.docs, p.layers))
}

// A controlFile is a JSON file that says what is in an archive.
type controlFile struct {
	name string
	v    any
}

// arrange sets the members: documents, the directories of blobs, the blobs. A document that this program
// would not read is not written.
func (p *Plan) arrange(docs []controlFile, blobs []Member) error {
	p.Members = nil
	for _, f := range docs {
		data, err := oci.Encode(f.v)
		if err == nil && int64(len(data)) > limitOf(f.name) {
			err = &SizeError{f.name, int64(len(data)), limitOf(f.name)}
		}
		if err != nil {
			return err
		}
		p.Members = append(p.Members, Member{Path: f.name, Size: int64(len(data)), data: data})
	}

	// Readers of layouts may expect the directories to have entries; Docker's format has none.
	if p.format != Docker {
		dirs := []string{blobsDir + "/"}
		for _, m := range blobs {
			if dir := path.Dir(m.Path) + "/"; !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
		slices.Sort(dirs)
		for _, dir := range dirs {
			p.Members = append(p.Members, Member{Path: dir})
		}
	}

	p.Members = append(p.Members, blobs...)
	return nil
}

// index returns index.json of the archive.
func (p *Plan) index() oci.Index {
	first := map[string]digest.Digest{} // the image that a tag names
	twice := map[string]bool{}          // tags that alone would name two images
	for _, im := range p.images {
		if d, ok := first[im.Tag]; !ok {
			first[im.Tag] = im.Desc.Digest
		} else if d != im.Desc.Digest {
			twice[im.Tag] = true
		}
	}

	x := oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex}
	for _, im := range p.images {
		tag := im.Tag
		if twice[tag] && im.Name != "" {
			tag = im.Name
		}
		e := im.Desc.WithAnnotation(oci.AnnotationRefName, tag).WithAnnotation(oci.AnnotationImageName, im.Name)
		x.Manifests = append(x.Manifests, e)
	}
	return x
}

// Bytes returns how many blobs the archive holds, and their size.
func (p *Plan) Bytes() (blobs int, size int64) {
	for _, m := range p.Members {
		if !m.Digest.IsZero() {
			blobs++
			size += m.Size
		}
	}
	return blobs, size
}

// Save writes the archive. Every blob is verified while it is written; one that is damaged is
// an error that wraps [digest.ErrMismatch], before its last bytes are written, so that what was
// written is a tar that no reader takes for whole.
func (p *Plan) Save(ctx context.Context, w io.Writer) error {
	t := tarutil.NewWriter(w)
	for _, m := range p.Members {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}

		// Headers hold no times and no owners, so that the same images give the same bytes.
		hdr := &tar.Header{Name: m.Path, Mode: 0o644, Size: m.Size, Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0)}
		if strings.HasSuffix(m.Path, "/") {
			hdr.Mode, hdr.Typeflag = 0o755, tar.TypeDir
		}

		if err := t.WriteHeader(hdr); err != nil {
			return err
		}

		var err error
		switch {
		case hdr.Typeflag == tar.TypeDir:
		case m.data != nil:
			_, err = t.Write(m.data)
		case m.file != nil:
			_, err = io.Copy(t, io.NewSectionReader(m.file, 0, m.Size))
		default:
			err = writeBlob(ctx, t, m)
		}

		if err != nil {
			return err
		}
	}

	return t.Close()
}

// writeBlob copies a verified blob. It writes each piece when it has the next, so that the
// last one goes out when the digest is known to be right.
func writeBlob(ctx context.Context, w io.Writer, m Member) error {
	r, err := m.src.Blob(m.desc)
	if err != nil {
		return err
	}
	defer r.Close()

	piece, next := make([]byte, 0, 256<<10), make([]byte, 256<<10)
	for {
		n, err := io.ReadFull(r, next)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, err := w.Write(piece); err != nil {
			return err
		}
		piece, next = next[:n], piece[:cap(piece)]
		if err != nil {
			_, err := w.Write(piece)
			return err
		}
	}
}
