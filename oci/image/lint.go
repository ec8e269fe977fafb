package image

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/tarutil"
	"ocikit/tarutil/stack"
)

// Codes of the findings of [Lint]. All are warnings: such an image is whole, and may be meant so.
const (
	lintSetID     = "lint-setid"
	lintWritable  = "lint-writable"
	lintNames     = "lint-names"
	lintOwnerName = "lint-owner-name"
	lintWasted    = "lint-wasted"
	lintSecret    = "lint-secret"
	lintUnread    = "lint-unread"
)

// LintCodes returns the kinds of findings of [Lint].
func LintCodes() []layout.Code {
	warn := func(code, means, fix string) layout.Code {
		return layout.Code{Code: code, Severity: layout.SeverityWarning, Means: means, Fix: fix}
	}
	return []layout.Code{
		warn(lintSetID, "a file is setuid or setgid: who runs it gets the rights of another", "pack it with --mode normalize, or take it out: ocikit mutate --drop"),
		warn(lintWritable, "anybody may write a file, or a directory that is not sticky", "pack it with --mode normalize"),
		warn(lintNames, "names in one directory differ by case or Unicode form alone: macOS and Windows see one file", "rename one of them"),
		warn(lintOwnerName, "the tar of a layer names a user or group of the machine that made it", "ocikit retar, or ocikit tar without --owner keep, leaves names out"),
		warn(lintWasted, "a later layer deletes files, whose bytes are in the image all the same", "ocikit flatten, or ocikit mutate --drop, takes them out"),
		warn(lintSecret, "a file has the name of a key or a password file, whether a later layer deletes it or not", "ocikit mutate --drop takes it out; the secret is known to whoever has the image"),
		warn(lintUnread, "an image could not be looked into: a layer is absent, or they cannot be applied", "ocikit verify --deep says why"),
	}
}

// maxLint is how many findings of one code an image gets; then one says how many more there are.
const maxLint = 50

// Lint finds what is rarely meant in the images below some roots: see [LintCodes]. A thing that
// several images have in common is found once. Layers are applied, and those with files that may
// hold a secret are read once more. An image that cannot be applied is a finding; [Verify] explains
// it.
func Lint(ctx context.Context, l *layout.Layout, roots []oci.Descriptor) ([]layout.Finding, error) {
	var images []oci.Descriptor
	err := graph.Documents(l, roots, func(n graph.Node) error {
		if n.Err == nil && oci.IsManifest(n.Desc.MediaType) && !graph.IsAttestation(n.Desc) {
			if m, err := oci.DecodeManifest(n.Desc, n.Doc); err == nil && m.IsImage() {
				images = append(images, n.Desc)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}

	var findings []layout.Finding
	seen := map[layout.Finding]bool{}
	for _, desc := range images {
		x := &linter{l: l, desc: desc, counts: map[string]int{}}
		if err := x.run(ctx); ctx.Err() != nil {
			return findings, context.Cause(ctx)
		} else if err != nil {
			x.findings = nil
			x.add(lintUnread, desc.Digest, err.Error())
		}

		for _, f := range x.findings {
			if !seen[f] {
				seen[f] = true
				findings = append(findings, f)
			}
		}
	}

	return findings, nil
}

// A linter looks at one image.
type linter struct {
	l        *layout.Layout
	desc     oci.Descriptor
	layers   []oci.Descriptor
	files    *FileList
	owners   []map[string]int    // by layer: names of users and groups, and how many entries have them
	suspects []map[string]secret // by layer and name in its tar: what may be a secret
	findings []layout.Finding
	counts   map[string]int
}

func (x *linter) run(ctx context.Context) (err error) {
	if x.layers, err = Layers(x.l, x.desc); err != nil {
		return err
	}

	x.files = newFileList(x.layers)
	for range x.layers {
		x.owners = append(x.owners, map[string]int{})
		x.suspects = append(x.suspects, map[string]secret{})
	}

	if err := x.files.apply(ctx, x.l, x.layers, x); err != nil {
		return err
	}

	x.modes()
	x.names(0)
	x.ownerNames()
	x.wasted()
	if err := x.secrets(ctx); err != nil {
		return err
	}

	// Findings over the limit of their code are told in one finding more. The count begins anew, so
	// that this one fits.
	for _, code := range slices.Sorted(maps.Keys(x.counts)) {
		if more := x.counts[code] - maxLint; more > 0 {
			x.counts[code] = 0
			x.add(code, x.desc.Digest, fmt.Sprintf("%d more of these", more))
		}
	}

	return nil
}

func (x *linter) add(code string, d digest.Digest, got string) {
	if x.counts[code]++; x.counts[code] > maxLint {
		return
	}
	codes := LintCodes()
	c := codes[slices.IndexFunc(codes, func(c layout.Code) bool { return c.Code == code })]
	x.findings = append(x.findings, layout.Finding{Code: code, Digest: d.String(), Severity: c.Severity, Fix: c.Fix, Got: got})
}

// maxOwners bounds the names of owners that are remembered of a layer, maxSuspects the files.
const (
	maxOwners   = 100
	maxSuspects = 1000
)

// Placed implements [stack.Observer].
func (x *linter) Placed(id, file stack.EntryID, path tarutil.PathID, hdr *tar.Header) error {
	if err := x.files.Placed(id, file, path, hdr); err != nil {
		return err
	}

	for _, o := range []struct {
		what, name string
		id         int
	}{{"user", hdr.Uname, hdr.Uid}, {"group", hdr.Gname, hdr.Gid}} {
		// Names of systems' own users are those of any machine.
		if o.name == "" || o.name == "root" || o.id != 0 && o.id < 1000 {
			continue
		}
		key := fmt.Sprintf("the %s %q", o.what, o.name)
		if _, ok := x.owners[id.Layer][key]; ok || len(x.owners[id.Layer]) < maxOwners {
			x.owners[id.Layer][key]++
		}
	}

	// peek looks for the name in the tar, which need not be the path that the file got.
	isFile := hdr.Typeflag == tar.TypeReg && hdr.Size > 0
	name := x.files.paths.Path(path)
	if s, ok := secretOf(name); ok && isFile && len(x.suspects[id.Layer]) < maxSuspects {
		s.path = name
		x.suspects[id.Layer][strings.Clone(hdr.Name)] = s
	}

	return nil
}

// Gone implements [stack.Observer].
func (x *linter) Gone(id stack.EntryID, layer int, whiteout bool) { x.files.Gone(id, layer, whiteout) }

// modes looks for permissions that give too much, in what a container sees.
func (x *linter) modes() {
	for f := range x.files.Walk("", false) {
		d := x.layers[f.Layer].Digest
		if f.Type == "f" && f.Mode&0o6000 != 0 {
			x.add(lintSetID, d, fmt.Sprintf("%q, %04o of %d:%d", f.Path, f.Mode, f.UID, f.GID))
		}
		if f.Mode&0o002 != 0 && (f.Type == "f" || f.Type == "d" && f.Mode&0o1000 == 0) {
			x.add(lintWritable, d, fmt.Sprintf("%q, %04o", f.Path, f.Mode))
		}
	}
}

// names looks for names in a directory, and below, that some systems take for one. It reports whether
// the image shows anything there.
func (x *linter) names(dir tarutil.PathID) (shown bool) {
	f := x.files
	shown = slices.ContainsFunc(f.entriesOf(dir), func(i uint32) bool { return f.entries.At(i).fate == 0 })
	folded := map[string]string{}
	for _, c := range f.children.Of(dir) {
		if !x.names(c) {
			continue
		}
		shown = true
		name := f.paths.Name(c)
		key := foldName(name)
		twin, ok := folded[key]
		switch {
		case !ok:
			folded[key] = name
		case x.counts[lintNames] >= maxLint: // there may be millions, with long paths
			x.counts[lintNames]++
		default:
			x.add(lintNames, x.desc.Digest, fmt.Sprintf("%q and %q in %q", twin, name, "/"+f.paths.Path(dir)))
		}
	}

	return shown
}

func (x *linter) ownerNames() {
	for i, owners := range x.owners {
		for _, name := range slices.Sorted(maps.Keys(owners)) {
			x.add(lintOwnerName, x.layers[i].Digest, fmt.Sprintf("%s, in entries: %d", name, owners[name]))
		}
	}
}

// wasted adds up what later layers delete of each layer. A file that they replace is an update, and
// no finding.
func (x *linter) wasted() {
	type sum struct {
		files   int
		bytes   int64
		largest File
	}
	sums := make([]sum, len(x.layers))
	for f := range x.files.Walk("", true) {
		if f.Fate == Deleted && f.Type == "f" && f.Size > 0 {
			s := &sums[f.Layer]
			s.files++
			s.bytes += f.Size
			if f.Size > s.largest.Size {
				s.largest = f
			}
		}
	}

	for i, s := range sums {
		if s.files > 0 {
			x.add(lintWasted, x.layers[i].Digest, fmt.Sprintf("%d bytes in deleted files (%d), the largest is %q", s.bytes, s.files, s.largest.Path))
		}
	}
}

// A secret is what makes a file one: a text in it, or if that is "" its name alone.
type secret struct {
	text string
	path string
}

// secretOf says what would make a file of a name a secret.
func secretOf(name string) (secret, bool) {
	dir, base := path.Split(name)
	parent := path.Base(dir)
	switch ext := path.Ext(base); {
	case base == ".env", strings.HasPrefix(base, ".env.") && ext != ".example" && ext != ".sample" && ext != ".dist" && ext != ".template":
		return secret{}, true
	case strings.HasPrefix(base, "id_") && slices.Contains([]string{"id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"}, base), ext == ".pem", ext == ".key":
		return secret{text: "PRIVATE KEY"}, true
	case parent == ".aws" && base == "credentials":
		return secret{text: "aws_secret_access_key"}, true
	case parent == ".docker" && base == "config.json", base == ".dockercfg", parent == "containers" && base == "auth.json":
		return secret{text: `"auth"`}, true
	case parent == ".kube" && base == "config", base == "application_default_credentials.json", base == ".git-credentials", base == ".pgpass":
		return secret{}, true
	case base == ".npmrc", base == ".yarnrc":
		return secret{text: "_auth"}, true
	case base == ".netrc", base == "_netrc", base == ".pypirc":
		return secret{text: "password"}, true
	}

	return secret{}, false
}

// maxPeek is how much of a file is looked at for what makes it a secret.
const maxPeek = 64 << 10

// secrets reads the layers that may hold one once more.
func (x *linter) secrets(ctx context.Context) error {
	for i, suspects := range x.suspects {
		if len(suspects) == 0 {
			continue
		}

		// The names of some files are enough. For the others the layer is read.
		var found []string
		for name, s := range suspects {
			if s.text == "" {
				found = append(found, s.path)
				delete(suspects, name)
			}
		}

		more, err := x.peek(ctx, x.layers[i], suspects)
		if err != nil {
			return fmt.Errorf("layer %s: %w", x.layers[i].Digest, err)
		}

		found = append(found, more...)
		slices.Sort(found)
		for _, p := range found {
			x.add(lintSecret, x.layers[i].Digest, fmt.Sprintf("%q", p))
		}
	}

	return nil
}

// peek returns the paths of the files in a layer that hold what makes them a secret.
func (x *linter) peek(ctx context.Context, desc oci.Descriptor, suspects map[string]secret) (found []string, err error) {
	if len(suspects) == 0 {
		return nil, nil
	}

	r, err := stackLayer(x.l, desc).Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()

	in, err := tarutil.NewEntryReader(ctx, r, tarutil.ReadOptions{AllowNoEnd: true})
	if err != nil {
		return nil, err
	}

	for hdr, err := range in.All() {
		if err != nil {
			return nil, err
		}

		s, ok := suspects[hdr.Name]
		if !ok || hdr.Typeflag != tar.TypeReg {
			continue
		}

		head, err := io.ReadAll(io.LimitReader(in, maxPeek))
		if err != nil {
			return nil, err
		}
		if strings.Contains(string(head), s.text) {
			found = append(found, s.path)
		}
	}
	return found, nil
}
