// Package graph walks what images are made of. It is the one place that knows how an index
// leads to manifests, a manifest to its config and layers, and a signature to what it signs.
//
// A [Store] is wherever the documents are: a layout, an archive, a registry. [Walk] visits every
// descriptor below some roots, [Check] says whether all of it is there, [Choose] finds the image
// for a platform in an index, and [Referrers] finds what belongs to an image.
//
// # Design
//
// An index of today is rarely whole: Docker and BuildKit put an attestation beside each image, and
// archives hold one platform of many. So the package tells four states of a blob apart ([State]):
// present; absent as is allowed, such as a layer that is not distributed with its image; absent
// though it is needed; damaged. [Rules] is the one place that says what may be absent.
//
// Digests make circles impossible, but nothing else bounds a graph. So [Limits] bound what a
// hostile index leads to, before it is read. All walks refuse in the same words.
package graph
