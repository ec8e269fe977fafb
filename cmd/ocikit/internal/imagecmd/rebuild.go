package imagecmd

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/layercmd"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/image"
	"ocikit/oci/image/why"
	"ocikit/oci/layout"
	"ocikit/oci/source"
	"ocikit/tarutil"
	"ocikit/tarutil/estargz"
	"ocikit/tarutil/pack"
)

// A rebuild makes a layer of an image again. It holds the flags of why that go with --rebuild.
type rebuild struct {
	fs          *flag.FlagSet
	wanted      *bool
	layer       *int
	bind        func(*cli.Env) (pack.Options, error)
	compression func() (image.LayerOptions, error)
	own         []string // flags that mean nothing without it
}

func bindRebuild(fs *flag.FlagSet) *rebuild {
	// The flags of packing and compression mean nothing without --rebuild. They are those that are
	// new in the set here, so a further one needs no entry in a list.
	before := map[string]bool{}
	fs.VisitAll(func(f *flag.Flag) { before[f.Name] = true })
	r := &rebuild{fs: fs, layer: commonflags.BindLayerNumber(fs)}
	r.bind = commonflags.BindPack(fs)
	r.compression = commonflags.BindCompression(fs, "gzip", "zstd", "estargz", "none", "keep (as it comes)")
	fs.VisitAll(func(f *flag.Flag) {
		if !before[f.Name] {
			r.own = append(r.own, f.Name)
		}
	})
	r.wanted = fs.Bool("rebuild", false, "make a layer of an image again, and prove it, or say why it differs")
	return r
}

// given returns a flag of the command line that means nothing without --rebuild, or "".
func (r *rebuild) given(fs *flag.FlagSet) (name string) {
	fs.Visit(func(f *flag.Flag) {
		if slices.Contains(r.own, f.Name) {
			name = f.Name
		}
	})
	return name
}

// A rebuildPlace is where the image is, and how the answer is to be printed.
type rebuildPlace struct {
	places   *operands.Places
	platform string
	out      string
	asJSON   bool
}

// run makes the layer again, compares, and writes the proof or the causes. If they differ the error
// is [cli.ErrNo].
func (r *rebuild) run(ctx context.Context, env *cli.Env, p rebuildPlace, args []string) error {
	if len(args) < 2 {
		return cli.Usagef("%s, want --rebuild IMAGE SRC...", show.Count(len(args), "operand"))
	}

	packing, err := r.bind(env)
	if err != nil {
		return err
	}

	src, desc, err := p.places.Manifest(ctx, env, args[0], p.platform)
	if err != nil {
		return err
	}
	defer src.Close()

	env.Watch(src)
	number, layer, err := r.find(src, desc, args[0])
	if err != nil {
		return err
	}

	o, err := r.like(src, layer)
	if err != nil {
		return err
	}

	sources, done, err := layercmd.OpenSources(ctx, env, args[1:])
	defer done()
	if err != nil {
		return err
	}

	// Nothing is stored. The layer is made once for its digest, and again for the comparison if
	// that differs.
	m := &maker{ctx, env, sources, packing, o}
	made, err := m.encode(io.Discard)
	if err != nil {
		return commonflags.PackHint(err)
	}

	var causes []why.Cause
	if made.Digest != layer.Digest {
		if causes, err = m.compare(ctx, src, layer, fmt.Sprintf("layer %d", number)); err != nil {
			return err
		}
	}

	err = env.ToOutput(p.out, false, func(w io.Writer) error {
		switch {
		case p.asJSON:
			proof, err := r.proof(m, args, number, layer, causes)
			if err != nil {
				return err
			}
			return show.WriteJSON(w, proof)
		case len(causes) > 0:
			return writeCauses(w, causes, true)
		}
		return show.WriteLines(w, []string{fmt.Sprintf("layer %d is what the sources make: %s", number, layer.Digest)})
	})
	return cli.NoIf(err, len(causes) > 0)
}

// compare returns why the layer, which the reader knows by the name where, is not what m makes.
func (m *maker) compare(ctx context.Context, src source.Source, layer oci.Descriptor, where string) ([]why.Cause, error) {
	here := why.Blob{Open: func() (io.ReadCloser, error) { return src.Blob(layer) }}
	there := why.Blob{Open: func() (io.ReadCloser, error) { return m.open(), nil }}
	causes, err := why.Blobs(ctx, here, there)
	if err != nil {
		return nil, commonflags.PackHint(fmt.Errorf("%s: %w", where, err))
	}

	// Blobs alone were compared. To the reader they are a layer of the image.
	for i := range causes {
		causes[i].Where = append([]string{where}, causes[i].Where...)
	}
	return causes, nil
}

// find returns the layer to make again, and its number.
func (r *rebuild) find(src source.Source, desc oci.Descriptor, operand string) (int, oci.Descriptor, error) {
	layers, err := image.Layers(src, desc)
	if err != nil {
		return 0, oci.Descriptor{}, operands.IncompleteHint(src, err)
	}
	n := *r.layer
	if n < 0 {
		n = len(layers) - 1
	}
	if n < 0 || n >= len(layers) {
		return 0, oci.Descriptor{}, fmt.Errorf("layer %d: %q has %s: %w", n, operand, show.Count(len(layers), "layer"), layout.ErrNotFound)
	}
	return n, layers[n], nil
}

// like returns how to compress: as the flag says, or as the layer is compressed.
func (r *rebuild) like(src source.Source, layer oci.Descriptor) (image.LayerOptions, error) {
	given := false
	r.fs.Visit(func(f *flag.Flag) { given = given || f.Name == "compress" })
	if !given {
		// Media types may be wrong, so the first bytes decide. Only eStargz cannot be told from
		// gzip by them: it has an annotation.
		blob, err := src.Blob(layer)
		if err != nil {
			return image.LayerOptions{}, operands.IncompleteHint(src, err)
		}
		head := make([]byte, tarutil.SniffLen)
		n, err := io.ReadFull(blob, head)
		blob.Close()
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return image.LayerOptions{}, err
		}
		how := "none"
		switch format := tarutil.Sniff(head[:n]); {
		case layer.Annotations.Get(estargz.TOCDigestAnnotation) != "":
			how = "estargz"
		case format == tarutil.FormatGzip, format == tarutil.FormatZstd:
			how = format.String()
		}

		// It is set as a flag, so that the command in the proof has it.
		if err := r.fs.Set("compress", how); err != nil {
			return image.LayerOptions{}, err
		}
	}

	return r.compression()
}

// A maker makes the layer of its sources, as often as need be.
type maker struct {
	ctx     context.Context
	env     *cli.Env
	sources []pack.Source
	packing pack.Options
	o       image.LayerOptions
}

// tar writes the tar of the sources. A lone source that is a tar is taken as it is, decompressed.
func (m *maker) tar(w io.Writer) error {
	if len(m.sources) == 1 && m.sources[0].Dest == "" && isTarFile(m.sources[0].Path) {
		f, err := m.env.Data(m.sources[0].Path)
		if err != nil {
			return err
		}
		defer f.Close()
		plain, _, err := tarutil.Decompress(f)
		if err != nil {
			return err
		}
		_, err = oci.CopyUntil(m.ctx, w, plain)
		return err
	}
	return pack.Tar(m.ctx, w, m.sources, m.packing)
}

// isTarFile reports whether a path names a tar, plain or compressed.
func isTarFile(path string) bool {
	ok, err := archive.IsArchive(path)
	return err == nil && ok && operands.IsFile(path)
}

// encode writes the blob of the layer to w and returns its descriptor.
func (m *maker) encode(w io.Writer) (oci.Descriptor, error) {
	// A tar of an old Docker may lack its end marks, and the layer made of it lacks them too.
	o := m.o
	o.AllowNoEnd = true
	lw, err := image.NewLayerEncoder(w, o)
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer lw.Abort()
	if err := m.tar(lw); err != nil {
		return oci.Descriptor{}, err
	}
	return lw.Commit()
}

// open returns the blob of the layer, which is made while it is read. The caller reads it to its
// end or closes it.
func (m *maker) open() io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		_, err := m.encode(w)
		w.CloseWithError(err)
	}()
	return r
}

// A proofJSON says that a layer was made again, in the words of an in-toto statement: its subjects,
// and the materials they were made of.
type proofJSON struct {
	Causes    []causeJSON    `json:"causes"`
	Command   []string       `json:"command"`
	Equal     bool           `json:"equal"`
	Materials []artifactJSON `json:"materials"`
	Subjects  []artifactJSON `json:"subjects"`
	Version   string         `json:"version"`
}

// artifactJSON names bytes as in-toto does.
type artifactJSON struct {
	Digest map[string]string `json:"digest"` // by algorithm, in hex
	Name   string            `json:"name"`
}

func artifact(name string, d digest.Digest) artifactJSON {
	algorithm, hex, _ := strings.Cut(d.String(), ":")
	return artifactJSON{map[string]string{algorithm: hex}, name}
}

func (r *rebuild) proof(m *maker, args []string, number int, layer oci.Descriptor, causes []why.Cause) (proofJSON, error) {
	answer := newWhyJSON(causes, true)
	version, _, _ := strings.Cut(m.env.Version, " ")
	proof := proofJSON{
		Causes: answer.Causes, Equal: answer.Equal, Version: version,
		Subjects: []artifactJSON{artifact(fmt.Sprintf("%s layer %d", args[0], number), layer.Digest)},
	}

	// The time in the environment decides about bytes like a flag.
	if epoch := m.env.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		proof.Command = []string{"env", "SOURCE_DATE_EPOCH=" + epoch}
	}

	proof.Command = append(proof.Command, "ocikit", "why")

	// Flags that decide about the bytes of the layer are part of the command. All others are left out:
	// they say how to print, or how to reach a registry, with secrets that the proof must not hold.
	r.fs.Visit(func(f *flag.Flag) {
		switch {
		case f.Name == "rebuild":
			proof.Command = append(proof.Command, "--rebuild")
		case f.Name == "platform", slices.Contains(r.own, f.Name):
			for _, v := range cli.FlagValues(f) {
				proof.Command = append(proof.Command, cli.Dashed(f.Name)+"="+v)
			}
		}
	})

	proof.Command = append(proof.Command, args...)
	for i, s := range m.sources {
		d, err := materialDigest(m.ctx, s)
		if err != nil {
			return proof, err
		}
		proof.Materials = append(proof.Materials, artifact(args[1+i], d))
	}

	return proof, nil
}

// materialDigest is the digest of a file, or of the tar of a directory without any flags.
func materialDigest(ctx context.Context, s pack.Source) (digest.Digest, error) {
	h := digest.NewHasher(digest.SHA256)
	if !operands.IsFile(s.Path) {
		err := pack.Tar(ctx, h, []pack.Source{{Path: s.Path}}, pack.Options{})
		return h.Digest(), err
	}
	f, err := os.Open(s.Path)
	if err != nil {
		return digest.Digest{}, err
	}
	defer f.Close()
	_, err = oci.CopyUntil(ctx, h, f)
	return h.Digest(), err
}
