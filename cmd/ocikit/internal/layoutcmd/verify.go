package layoutcmd

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/image"
	"ocikit/oci/layout"
	"ocikit/oci/progress"
	"ocikit/oci/registry"
)

func verifyCommand() cli.Command {
	return cli.Command{
		Name: "verify", Args: "LAYOUT|IMAGE", Group: cli.GroupLayout, Progress: true,
		Short: "check that a layout, or an image in it, is whole and true",
		Long: `Verify checks that every blob that is named exists, has its size and its digest, and that
documents are what they should be. Of a whole layout it checks the blobs that nothing names as well.
Each blob is read once. --fast reads no layers: existence, size and shape only. --deep looks into the
images, too: layers are applied while they are hashed, so that what passes can be extracted, once for
each image that has them, and compared with their diff IDs and media types; configs are compared with
manifests, history and platforms; names, nesting, subjects and foreign files are looked at. Media types
of Docker, sha512, unknown artifact types and layers that are not distributed are not errors.

Each finding is a line, "CODE DIGEST-OR-PATH: got what was found, want what was wanted", with its
severity in brackets at the end unless it is an error, or with --json an object with the members
code, severity (error, warning, note or repaired), digest, path, want, got and fix. Nothing is printed
if nothing is found.

The images of an archive are verified where they lie. An image in a registry, docker://REF, is asked for piece by piece: every manifest is fetched, every blob
asked for, or with --deep read.

--repair-from fetches what is bad or missing, by digest, from another layout or from a registry, until
that helps no more. What was repaired is a finding of that severity.

--lint names what is whole and rarely meant in an image: warnings, which leave the status as it is.
Layers are read for it once more.

` + codesText(),
		Example: "ocikit verify app\nocikit verify app --deep",
		Status:  "1 if there is an error that was not repaired; warnings and notes leave it 0",
		Bind: func(fs *flag.FlagSet) cli.Action {
			v := bindVerify(fs)
			return func(ctx context.Context, env *cli.Env, args []string) error { return v.run(ctx, env, args[0]) }
		},
	}
}

// verifying are the flags of verify.
type verifying struct {
	fast, deep, lint, asJSON *bool
	rules                    graph.Rules
	workers                  *int
	from                     *string
	remote                   *commonflags.Registry
	places                   *operands.Places
}

func bindVerify(fs *flag.FlagSet) *verifying {
	v := &verifying{
		fast:    fs.Bool("fast", false, "check existence, size and shape only"),
		deep:    fs.Bool("deep", false, "look into layers, configs, names and files as well"),
		lint:    fs.Bool("lint", false, "warn of permissions, names, secrets and wasted bytes in images"),
		asJSON:  cli.BindJSON(fs),
		workers: commonflags.BindJobs(fs),
		from:    fs.String("repair-from", "", "fetch what is bad or missing from `LAYOUT`, or from a registry as HOST/REPO"),
		remote:  commonflags.BindRegistry(fs),
	}
	commonflags.Sparse(fs, &v.rules)
	v.places = operands.NewPlaces(v.remote)
	return v
}

// run verifies what the operand names, in the way of its place.
func (v *verifying) run(ctx context.Context, env *cli.Env, operand string) error {
	if *v.fast && (*v.deep || *v.lint) {
		return cli.Usagef("--fast reads no layers, --deep and --lint do")
	}

	at, err := operands.PlaceOf(operand)
	switch {
	case err != nil:
		return err
	case at == operands.AtLayout:
		return v.layout(ctx, env, operand)
	case at == operands.AtRegistry && (*v.from != "" || *v.fast || *v.lint):
		return cli.Usagef("--fast, --lint and --repair-from are about layouts, %q %s", operand, at.Is())
	case at == operands.AtRegistry:
		return v.registry(ctx, env, operand)
	case *v.from != "" || *v.lint:
		return cli.Usagef("--lint and --repair-from are about layouts, %q %s", operand, at.Is())
	}
	return v.inPlace(ctx, env, operand)
}

func (v *verifying) options() layout.VerifyOptions {
	return layout.VerifyOptions{Fast: *v.fast, Deep: *v.deep, Workers: *v.workers, Rules: v.rules}
}

// layout verifies a layout or an image in it, repairs what it is told to, and warns.
func (v *verifying) layout(ctx context.Context, env *cli.Env, operand string) error {
	// A directory that is not a layout is a finding as well as an error, so that --json says it, too.
	opts := v.options()
	l, err := openVerify(operand, &opts)
	if errors.Is(err, layout.ErrNotLayout) {
		f := layout.NewFinding(layout.CodeLayoutMalformed)
		f.Path, f.Got = "oci-layout", err.Error()
		if printErr := v.print(env, []layout.Finding{f}); printErr != nil {
			return printErr
		}
	}
	if err != nil {
		return err
	}
	defer l.Close()

	env.Watch(l)
	verify := func() ([]layout.Finding, layout.Summary, error) { return image.Verify(ctx, l, opts) }
	if *v.from != "" {
		source, err := openSource(env, *v.from, v.remote)
		if err != nil {
			return err
		}
		verify = func() ([]layout.Finding, layout.Summary, error) { return image.Repair(ctx, l, opts, source) }
	}

	// Findings from before an error are printed all the same.
	findings, sum, err := verify()
	if err = cmp.Or(err, v.print(env, findings)); err != nil {
		return err
	}

	// Warnings of --lint do not change the status: wrongOf sees only the other findings.
	if *v.lint {
		if err := v.warn(ctx, env, l, opts.Roots); err != nil {
			return err
		}
	}

	return verified(env, operand, findings, sum)
}

// inPlace verifies the images of an archive, or of any place with an index, or one of them. Files that no
// image names are not looked at.
func (v *verifying) inPlace(ctx context.Context, env *cli.Env, operand string) error {
	a, n, err := v.places.Open(ctx, env, operand)
	if err != nil {
		return err
	}
	defer a.Close()

	env.Watch(a)

	opts := v.options()
	if n.Tag != "" || !n.Digest.IsZero() {
		desc, err := a.Resolve(n)
		if err != nil {
			return err
		}
		opts.Roots = []oci.Descriptor{desc}
	}

	findings, sum, err := image.Verify(ctx, a, opts)
	if err = cmp.Or(err, v.print(env, findings)); err != nil {
		return err
	}

	return verified(env, operand, findings, sum)
}

// verified says how much was verified, and returns the error that the findings are.
func verified(env *cli.Env, operand string, findings []layout.Finding, sum layout.Summary) error {
	env.Detail("verified %d images, %d blobs, %d bytes", sum.Images, sum.Blobs, sum.Bytes)
	return wrongOf(operand, findings)
}

// warn prints warnings about the images below roots, or about all of the layout if roots is nil.
func (v *verifying) warn(ctx context.Context, env *cli.Env, l *layout.Layout, roots []oci.Descriptor) error {
	if roots == nil {
		x, err := l.Index()
		if err != nil {
			return err
		}
		roots = x.Manifests
	}
	findings, err := image.Lint(ctx, l, roots)
	return cmp.Or(err, v.print(env, findings))
}

// wrongOf returns an error that counts the findings of severity error, or nil if there are none.
func wrongOf(operand string, findings []layout.Finding) error {
	wrong := 0
	for _, f := range findings {
		if f.Severity == layout.SeverityError {
			wrong++
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%q: %s", operand, countWrong(wrong))
	}
	return nil
}

// registry asks a registry for everything that an image needs, and prints what it lacks. With
// deep it reads the blobs, too.
func (v *verifying) registry(ctx context.Context, env *cli.Env, operand string) error {
	client, ref, err := v.remote.Dial(env, registry.ParseReference, operand, false)
	if err != nil {
		return err
	}

	_, lacks, err := client.Check(ctx, ref, *v.deep)
	if err != nil {
		return err
	}

	var findings []layout.Finding
	for _, lack := range lacks {
		findings = append(findings, v.lacking(lack))
	}

	if err := v.print(env, findings); err != nil {
		return err
	}

	return wrongOf(operand, findings)
}

// lacking returns the finding about what a registry lacks. It has the code that layouts have for it, so
// that both are read in one way.
func (v *verifying) lacking(lack registry.Lack) layout.Finding {
	code := layout.CodeBlobUnreadable
	isManifest := oci.IsDocument(lack.Descriptor.MediaType)
	switch {
	case errors.Is(lack.Err, graph.ErrNotFound) && isManifest:
		code = layout.CodeManifestAbsent
	case errors.Is(lack.Err, graph.ErrNotFound):
		code = layout.CodeBlobMissing
	case errors.Is(lack.Err, digest.ErrMismatch):
		code = layout.CodeBlobDigest
	}

	got, want := strings.TrimPrefix(lack.Err.Error(), "got "), ""
	if e, ok := errors.AsType[*registry.SizeError](lack.Err); ok {
		code, got, want = layout.CodeBlobSize, fmt.Sprint(e.Got), fmt.Sprint(e.Want)
	}
	if e, ok := errors.AsType[*digest.MismatchError](lack.Err); ok {
		got, want = e.Got.String(), e.Want.String()
	}

	f := layout.NewFinding(code)
	f.Digest, f.Got, f.Want = lack.Descriptor.Digest.String(), got, want
	f.Fix = "`ocikit push --check` sends it again"

	// With --sparse an index may name manifests that nobody meant to push.
	if code == layout.CodeManifestAbsent && v.rules.Sparse {
		f.Severity, f.Fix = layout.SeverityNote, ""
	}
	return f
}

func countWrong(n int) string {
	if n == 1 {
		return "1 thing is wrong"
	}
	return fmt.Sprintf("%d things are wrong", n)
}

// codesText lists the codes of findings, for help and the manual.
func codesText() string {
	var b strings.Builder
	b.WriteString("The codes:\n")
	deep := false
	for _, c := range layout.Codes() {
		if c.Deep && !deep {
			deep = true
			b.WriteString("\n\nWith --deep:\n")
		}
		means := c.Means
		if c.Severity != layout.SeverityError {
			means += fmt.Sprintf(" (%s)", c.Severity)
		}
		fmt.Fprintf(&b, "\n  %-19s  %s", c.Code, means)
	}

	b.WriteString("\n\nWith --lint, all of them warnings:\n")
	for _, c := range image.LintCodes() {
		fmt.Fprintf(&b, "\n  %-19s  %s", c.Code, c.Means)
	}

	return b.String()
}

// openVerify opens the layout that the operand names. A tag or digest is resolved, and becomes the
// only root in opts.
func openVerify(operand string, opts *layout.VerifyOptions) (*layout.Layout, error) {
	l, n, err := operands.OpenName(operand)
	if err != nil {
		return nil, err
	}
	if n.Tag != "" || !n.Digest.IsZero() {
		desc, err := l.Resolve(n)
		if err != nil {
			l.Close()
			return nil, cli.WithHint(err, "`ocikit ls %s` lists the names", n.Dir)
		}
		opts.Roots = []oci.Descriptor{desc}
	}
	return l, nil
}

// print prints a line for each finding.
func (v *verifying) print(env *cli.Env, findings []layout.Finding) error {
	for _, f := range findings {
		if err := show.WriteRecord(env.Stdout, *v.asJSON, f, findingLine(f)); err != nil {
			return err
		}
	}
	return nil
}

func findingLine(f layout.Finding) string {
	line := f.Code + " " + cmp.Or(f.Digest, f.Path)
	if f.Got != "" {
		line += ": got " + f.Got
	}

	if f.Want != "" {
		line += ", want " + f.Want
	}

	if f.Severity != layout.SeverityError {
		line += fmt.Sprintf(" (%s)", f.Severity)
	}

	return line
}

// openSource opens what blobs are fetched from: a repository of a registry if the operand begins
// with a host or "docker://" and there is no such directory, else a layout. It is closed when the
// command ends.
func openSource(env *cli.Env, operand string, flags *commonflags.Registry) (layout.Source, error) {
	remote := operands.NamesRegistry(operand)
	if n, err := oci.ParseImageName(operand); !strings.HasPrefix(operand, "docker://") && err == nil {
		if info, err := os.Stat(n.Dir); !remote || err == nil && info.IsDir() {
			l, err := operands.OpenDir(n.Dir)
			if err != nil {
				return nil, err
			}
			env.Watch(l)
			env.AtEnd(l.Close)
			return l, nil
		}
	}

	ref, err := registry.ParseReference(operand)
	if err != nil {
		return nil, cli.Usagef("flag --repair-from: %q: neither a layout nor a repository: %v", operand, err)
	}

	c, err := flags.Client(env, ref, false)
	if err != nil {
		return nil, err
	}

	return remoteSource{c, ref.Repo, env.Report()}, nil
}

// A remoteSource is a repository of a registry as a source of blobs.
type remoteSource struct {
	c      *registry.Client
	repo   string
	report func(progress.Event)
}

// Fetch implements [layout.Source]. Bytes are checked against the digest while they are read.
func (s remoteSource) Fetch(ctx context.Context, desc oci.Descriptor) (io.ReadCloser, error) {
	// Registries keep manifests and blobs apart. Where the media type is not known, as of a blob
	// that is named by its file alone, both are tried.
	isManifest := oci.IsDocument(desc.MediaType)
	if !isManifest {
		r, err := s.c.OpenBlob(ctx, s.repo, desc)
		if err == nil {
			return progress.Blob(r, s.report, progress.Event{Digest: desc.Digest, Size: desc.Size}), nil
		}
		if desc.MediaType != "" || !errors.Is(err, registry.ErrNotFound) {
			return nil, asLayoutError(err)
		}
	}

	_, data, err := s.c.GetManifest(ctx, s.repo, desc.Digest.String())
	if err != nil {
		return nil, asLayoutError(err)
	}

	return io.NopCloser(bytes.NewReader(data)), nil
}

// asLayoutError lets an error about a blob that the registry lacks wrap [layout.ErrNotFound] as
// well.
func asLayoutError(err error) error {
	if err != nil && errors.Is(err, registry.ErrNotFound) {
		return fmt.Errorf("%w: %w", layout.ErrNotFound, err)
	}
	return err
}
