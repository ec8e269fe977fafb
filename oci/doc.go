// Package oci holds the documents of an image: descriptor, manifest, index, config,
// platform, their media types, and the names of images in layouts.
//
// An image is a tree of blobs, each named by a [Descriptor]: an [Index] lists manifests, a
// [Manifest] names a config and layers, the config (see [ParseConfig]) says how to run what
// the layers hold. Documents are read with [Decode], which refuses what two readers could
// understand differently, and written with [Encode], which gives the same bytes for the same
// content. The package does no I/O beyond the readers it is handed.
package oci
