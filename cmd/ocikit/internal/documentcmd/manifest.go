package documentcmd

import (
	"context"
	"flag"
	"fmt"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/image"
)

func manifestCommand() cli.Command {
	return cli.Command{
		Name: "manifest", Args: "[LAYOUT]", Group: cli.GroupDocument, Progress: true,
		Short: "make an image manifest of a config and layers",
		Long: `Manifest joins a config and layers. Both come as descriptors on standard input, as "ocikit
config LAYOUT" prints them, or from --config and --layer. With LAYOUT the manifest is stored and its
descriptor printed; every blob it names must be there, and the config must have one diff ID for
each layer. Without LAYOUT the JSON is printed.

An artifact is a manifest with --artifact-type; it needs no config, and its layers are any blobs, as
"ocikit put" stores them. --subject makes it a referrer of another manifest: with LAYOUT it is listed in
index.json without a name, and goes where --referrers takes it.`,
		Example: `ocikit manifest --config config.json --layer layer.tar -o manifest.json
ocikit resolve app > subject.json
ocikit put app sbom.json --media-type application/spdx+json > sbom
ocikit manifest app --artifact-type application/spdx+json --layer sbom --subject subject.json
ocikit push app localhost:5000/hello:latest --referrers
ocikit registry referrers localhost:5000/hello:latest`,
		Bind: func(fs *flag.FlagSet) cli.Action {
			m := &manifesting{target: bindTarget(fs)}
			m.in = inputFlags{config: fs.String("config", "", "take the config or its descriptor in `INPUT`"), layers: commonflags.BindLayers(fs)}
			m.annotations = commonflags.BindAnnotations(fs)
			m.artifactType = commonflags.BindMediaType(fs, "artifact-type", "make an artifact of the type `TYPE`")
			m.in.subject = fs.String("subject", "", "refer to the manifest or descriptor in `INPUT`")
			return m.checked(m.run)
		},
	}
}

// A manifesting is a run of manifest: its flags.
type manifesting struct {
	*target
	in           inputFlags
	annotations  *[]string
	artifactType *string
}

// run makes the manifest, and stores or prints it.
func (f *manifesting) run(ctx context.Context, env *cli.Env, args []string) error {
	pairs, err := cli.KeyValues("annotation", *f.annotations)
	if err != nil {
		return err
	}

	if err := f.open(args); err != nil {
		return err
	}
	defer f.close()

	o := image.ManifestOptions{Annotations: pairs, ArtifactType: *f.artifactType}
	doc, err := f.in.read(ctx, env, &o)
	if err != nil {
		return err
	}

	m, err := image.NewManifest(o)
	if err != nil {
		return cli.WithHint(err, "name a config with --config, or pipe from `ocikit config LAYOUT`")
	}

	// Without a layout nothing is known of the blobs. A config that was given as a document can still
	// be compared with the layers.
	if f.layout == nil {
		data, err := oci.Encode(m)
		if err != nil {
			return err
		}
		if err := checkConfigDoc(doc, o); err != nil {
			return err
		}
		return env.PutOut(*f.out, data)
	}

	desc, err := f.putManifest(ctx, m, o)
	if err != nil {
		return err
	}

	return oci.WriteDescriptors(env.Stdout, desc)
}

// inputFlags name what a manifest is made of.
type inputFlags struct {
	config, subject *string
	layers          *[]string
}

// read fills config, layers and subject into o. If the config was given as a document, its bytes are
// returned.
func (in inputFlags) read(ctx context.Context, env *cli.Env, o *image.ManifestOptions) (doc []byte, err error) {
	if *in.config != "" {
		if o.Config, doc, err = operands.OneDescriptor(ctx, env, *in.config); err != nil {
			return nil, err
		}
	}

	// An artifact with a config may have no layers. Then standard input is not read.
	if *in.config == "" || len(*in.layers) > 0 || o.ArtifactType == "" {
		if o.Layers, err = manifestLayers(ctx, env, o, *in.config, *in.layers); err != nil {
			return nil, err
		}
	}

	if *in.subject != "" {
		s, _, err := operands.OneDescriptor(ctx, env, *in.subject)
		if err != nil {
			return nil, err
		}
		o.Subject = &s
	}

	return doc, nil
}

// manifestLayers returns the layers of the inputs. A config that comes first in a stream is put
// into o.
func manifestLayers(ctx context.Context, env *cli.Env, o *image.ManifestOptions, config string, inputs []string) ([]oci.Descriptor, error) {
	if config == "-" && len(inputs) == 0 {
		return nil, cli.Usagef("standard input is the config: name the layers with --layer")
	}

	layers, err := operands.LayerInputs(ctx, env, inputs)
	if err != nil {
		return nil, err
	}

	// The layers of an artifact may be of any type, so there only the type of a config is told from
	// them.
	if config == "" && len(layers) > 0 && !oci.IsLayer(layers[0].MediaType) && (o.ArtifactType == "" || oci.IsConfig(layers[0].MediaType)) {
		o.Config, layers = layers[0], layers[1:]
	}

	for _, d := range layers {
		if oci.IsConfig(d.MediaType) || oci.IsDocument(d.MediaType) {
			return nil, fmt.Errorf("%s among the layers is of type %q", d.Digest, d.MediaType)
		}
	}

	return layers, nil
}

// checkConfigDoc checks that a config that was given as a document fits the layers. One of another
// type than that of an image is not looked at.
func checkConfigDoc(doc []byte, o image.ManifestOptions) error {
	if doc == nil || !oci.IsConfig(o.Config.MediaType) {
		return nil
	}
	c, err := oci.ParseConfig(doc)
	if err != nil {
		return err
	}
	return image.CheckConfig(c, o.Layers)
}

// putManifest stores a manifest; its config and layers must be in the layout. A manifest with a
// subject gets an entry without a name in index.json, so that it is found wherever referrers are
// looked for.
func (t *target) putManifest(ctx context.Context, m oci.Manifest, o image.ManifestOptions) (oci.Descriptor, error) {
	l := t.layout
	// The empty blob stands where an artifact has no config or no layers (image-spec, manifest.md,
	// "Guidance for an Empty Descriptor"). It is stored here, as nobody else has put it.
	for _, d := range append([]oci.Descriptor{m.Config}, m.Layers...) {
		if d.Digest == image.EmptyDescriptor().Digest {
			if _, _, err := l.Put(strings.NewReader("{}"), d.Digest); err != nil {
				return d, err
			}
		}
	}

	if m.IsImage() {
		c, err := graph.Config(l, m.Config)
		if err != nil {
			return m.Config, operands.IncompleteHint(l, err)
		}
		if err := image.CheckConfig(c, o.Layers); err != nil {
			return m.Config, err
		}
	}

	data, err := oci.Encode(m)
	if err != nil {
		return oci.Descriptor{}, err
	}

	desc, err := t.put(oci.MediaTypeManifest, data, graph.Rules{})
	if err != nil {
		return desc, err
	}

	desc.ArtifactType = o.ArtifactType
	if m.Subject != nil {
		err = l.AddEntries(ctx, []oci.Descriptor{desc}, graph.Rules{})
	}

	return desc, err
}
