package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"

	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/layout"
)

func manifestCommand() Command {
	return Command{
		Name: "manifest", Args: "[LAYOUT]", Group: groupDocument, Progress: true,
		Short: "make an image manifest of a config and layers",
		Long: `Manifest joins a config and layers. Both come as descriptors on standard input, as "ocikit
config LAYOUT" prints them, or from --config and --layer. With LAYOUT the manifest is stored and its
descriptor printed; every blob it names must be there, and the config must have one diff ID for
each layer. Without LAYOUT the JSON is printed.

An artifact is a manifest with --artifact-type; it needs no config, and its layers are any blobs, as
"ocikit put" stores them. --subject makes it a referrer of another manifest: it is attached to that,
needs no name, and goes where --referrers takes it.`,
		Example: `ocikit manifest --config config.json --layer layer.tar -o manifest.json
ocikit resolve app > subject.json
ocikit put app sbom.json --media-type application/spdx+json > sbom
ocikit manifest app --artifact-type application/spdx+json --layer sbom --subject subject.json
ocikit push app localhost:5000/hello:latest --referrers
ocikit registry referrers localhost:5000/hello:latest`,
		Bind: func(fs *flag.FlagSet) Action {
			config := fs.String("config", "", "the config or its descriptor, `input`")
			layers := list(fs, "layer", "", "a layer or its descriptor, `input` (repeatable)")
			annotations := list(fs, "annotation", "a", "set the annotation `key=value` (repeatable)")
			artifactType := fs.String("artifact-type", "", "`type` of the artifact")
			subject := fs.String("subject", "", "the manifest that this one refers to, `input`")
			out := fs.String("o", "", "write to `file` instead of standard output")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) > 1 {
					return usagef("%d operands, want LAYOUT alone", len(args))
				}
				if len(args) == 1 && *out != "" {
					return usagef("-o goes without LAYOUT")
				}
				pairs, err := keyValues("annotation", *annotations)
				if err != nil {
					return err
				}
				var l *layout.Layout
				if len(args) == 1 {
					if l, err = openLayout(args[0]); err != nil {
						return err
					}
					defer l.Close()
				}
				o := image.ManifestOptions{Annotations: pairs, ArtifactType: *artifactType}
				doc, err := manifestInputs(ctx, env, &o, *config, *layers, *subject)
				if err != nil {
					return err
				}
				m, err := image.NewManifest(o)
				if err != nil {
					return withHint(err, "name a config with --config, or pipe from `ocikit config LAYOUT`")
				}
				data, err := oci.Encode(m)
				if err != nil {
					return err
				}
				if l == nil {
					if err := checkConfigDoc(doc, o); err != nil {
						return err
					}
					return env.toOutput(*out, false, func(w io.Writer) error { return writeAll(w, data) })
				}
				desc, err := putManifest(l, m, o, data)
				if err != nil {
					return err
				}
				return oci.WriteDescriptors(env.Stdout, desc)
			}
		},
	}
}

// manifestInputs fills in config, layers and subject. If the config was given as a document,
// its bytes are returned.
func manifestInputs(ctx context.Context, env *Env, o *image.ManifestOptions, config string, layers []string, subject string) (doc []byte, err error) {
	if config != "" {
		if o.Config, doc, err = oneDescriptor(ctx, env, config); err != nil {
			return nil, err
		}
	}
	if config == "" || len(layers) > 0 || o.ArtifactType == "" {
		if o.Layers, err = manifestLayers(ctx, env, o, config, layers); err != nil {
			return nil, err
		}
	}
	if subject != "" {
		s, _, err := oneDescriptor(ctx, env, subject)
		if err != nil {
			return nil, err
		}
		o.Subject = &s
	}
	return doc, nil
}

// manifestLayers returns the layers of the inputs. In a stream the config may come first.
func manifestLayers(ctx context.Context, env *Env, o *image.ManifestOptions, config string, inputs []string) ([]oci.Descriptor, error) {
	if config == "-" && len(inputs) == 0 {
		return nil, usagef("standard input is the config: name the layers with --layer")
	}
	layers, err := layerInputs(ctx, env, inputs)
	if err != nil {
		return nil, err
	}
	if config == "" && len(layers) > 0 && !oci.IsLayer(layers[0].MediaType) && (o.ArtifactType == "" || oci.IsConfig(layers[0].MediaType)) {
		o.Config, layers = layers[0], layers[1:]
	}
	for _, d := range layers {
		if oci.IsConfig(d.MediaType) || oci.IsManifest(d.MediaType) || oci.IsIndex(d.MediaType) {
			return nil, fmt.Errorf("%s among the layers is of type %q", d.Digest, d.MediaType)
		}
	}
	return layers, nil
}

// checkConfigDoc compares a config that was given as a document with the layers.
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

// putManifest stores a manifest whose config and layers are in the layout.
func putManifest(l *layout.Layout, m oci.Manifest, o image.ManifestOptions, data []byte) (oci.Descriptor, error) {
	for _, d := range append([]oci.Descriptor{m.Config}, m.Layers...) {
		if d.Digest == image.EmptyDescriptor().Digest {
			if _, _, err := l.Put(strings.NewReader("{}"), d.Digest); err != nil {
				return d, err
			}
		}
	}
	if oci.IsConfig(m.Config.MediaType) {
		c, err := image.ReadConfig(l, m.Config)
		if err != nil {
			return m.Config, incompleteHint(l, err)
		}
		if err := image.CheckConfig(c, o.Layers); err != nil {
			return m.Config, err
		}
	}
	desc := oci.Describe(oci.MediaTypeManifest, data)
	if err := l.CheckRefs(desc, data); err != nil {
		return desc, incompleteHint(l, err)
	}
	desc, err := l.PutDocument(desc.MediaType, data)
	desc.ArtifactType = o.ArtifactType
	return desc, err
}
