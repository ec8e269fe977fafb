package oci

// A Family is one of the two sets of media types that an image may be written in. An image
// keeps to one of them.
type Family int

// The families.
const (
	FamilyOCI Family = iota
	FamilyDocker
)

// String returns how people call the family.
func (f Family) String() string { return [...]string{"OCI", "Docker"}[f] }

// FamilyOf returns the family of the media type of a manifest or an index.
func FamilyOf(mediaType string) Family {
	if mediaType == MediaTypeDockerManifest || mediaType == MediaTypeDockerList {
		return FamilyDocker
	}
	return FamilyOCI
}

// twins are the media types of documents that mean the same in both families.
var twins = [...]struct{ oci, docker string }{
	{MediaTypeIndex, MediaTypeDockerList},
	{MediaTypeManifest, MediaTypeDockerManifest},
	{MediaTypeConfig, MediaTypeDockerConfig},
}

// MediaType returns what a media type is called in the family; a type that belongs to none
// stays as it is. Docker has no name for layers that are compressed with zstd, which is an
// error that wraps [ErrFamily].
func (f Family) MediaType(t string) (string, error) {
	for _, twin := range twins {
		if t == twin.oci || t == twin.docker {
			return [...]string{twin.oci, twin.docker}[f], nil
		}
	}
	layer, ok := ParseLayerType(t)
	if !ok || layer.Family == f {
		return t, nil
	}
	layer.Family = f
	return layer.MediaType()
}
