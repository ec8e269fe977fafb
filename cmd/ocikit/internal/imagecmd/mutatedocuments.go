package imagecmd

import (
	"flag"
	"fmt"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/oci"
	"ocikit/oci/image"
)

// documentEdits are the flags of mutate about whole documents: JSON patches, and what an artifact
// is and refers to.
type documentEdits struct {
	artifactType, subject *cli.Optional
	patches               *[]string
}

func bindDocumentEdits(fs *flag.FlagSet) *documentEdits {
	return &documentEdits{
		artifactType: cli.OptionalFlag(fs, "artifact-type", "", "say that the result is an artifact of the type `TYPE`; '' removes that"),
		subject:      cli.OptionalFlag(fs, "subject", "", "let the result refer to `IMAGE`; '' removes that"),
		patches:      cli.List(fs, "json-patch", "", "apply the JSON patch in `[DOCUMENT=]FILE` (RFC 6902, repeatable); DOCUMENT is config, as without it, manifest or index"),
	}
}

// given reports whether there is something to do.
func (e *documentEdits) given() bool {
	return e.artifactType.Given || e.subject.Given || len(*e.patches) > 0
}

// documentPatches are the patches, by the document that they change.
type documentPatches struct{ config, manifest, index []image.Change }

// parse reads the patches.
func (e *documentEdits) parse(env *cli.Env) (p documentPatches, err error) {
	for _, s := range *e.patches {
		// A file name may hold a "=" itself, so only the three words count in front of one.
		document, name, ok := strings.Cut(s, "=")
		if !ok || document != "config" && document != "manifest" && document != "index" {
			document, name = "config", s
		}

		patch, err := readPatch(env, name)
		if err != nil {
			return p, err
		}

		named := func(change image.Change) image.Change {
			return func(im *image.Image) error {
				if err := change(im); err != nil {
					return fmt.Errorf("%s: %w", cli.InputName(name), err)
				}
				return nil
			}
		}

		switch document {
		case "config":
			p.config = append(p.config, named(onConfig(func(c *oci.Config) error { return c.JSONPatch(patch) })))
		case "manifest":
			p.manifest = append(p.manifest, named(func(im *image.Image) error { return im.Patch(patch) }))
		case "index":
			p.index = append(p.index, named(func(im *image.Image) error { return im.Patch(patch) }))
		}
	}

	return p, nil
}

func readPatch(env *cli.Env, name string) (oci.JSONPatch, error) {
	data, err := env.Document(name)
	if err != nil {
		return nil, err
	}
	patch, err := oci.ParseJSONPatch(data)
	if err != nil {
		err = fmt.Errorf("%s: %w", cli.InputName(name), err)
	}
	return patch, err
}

// top returns the changes of what IMAGE names itself, an index or a manifest. attach says that the
// result refers to another image.
func (e *documentEdits) top() (changes []image.Change, attach bool, err error) {
	if t := e.artifactType.Value; t != "" && oci.CheckMediaType(t) != nil {
		return nil, false, cli.Usagef("flag --artifact-type: %q: it is not a media type, as type/subtype", t)
	}

	if e.artifactType.Given {
		changes = append(changes, func(im *image.Image) error { return im.SetArtifactType(e.artifactType.Value) })
	}

	if !e.subject.Given {
		return changes, false, nil
	}

	if e.subject.Value == "" {
		return append(changes, func(im *image.Image) error { return im.SetSubject(nil) }), false, nil
	}

	l, subject, err := operands.OpenImage(e.subject.Value)
	if err != nil {
		return nil, false, fmt.Errorf("--subject: %w", err)
	}

	l.Close()
	return append(changes, func(im *image.Image) error { return im.SetSubject(&subject) }), true, nil
}
