package imagecmd

import (
	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/source"
)

// watchLayers shows the progress of commands that read the layers of an image so many times.
func watchLayers(env *cli.Env, l source.Source, desc oci.Descriptor, times int) {
	if env.Report() == nil {
		return
	}
	env.Watch(l)
	layers, err := image.Layers(l, desc)
	if err != nil {
		return // who reads the layers says what is wrong
	}
	var size int64
	for _, d := range layers {
		size += int64(times) * d.Size
	}
	env.Planned(times*len(layers), size)
}
