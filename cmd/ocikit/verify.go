package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/layout"
	"ocikit/oci/progress"
	"ocikit/oci/registry"
)

func verifyCommand() Command {
	return Command{
		Name: "verify", Args: "LAYOUT|IMAGE", Group: groupLayout, Progress: true,
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

--repair-from fetches what is bad or missing, by digest, from another layout or from a registry, until
that helps no more. What was repaired is a finding of that severity.

` + codesText(),
		Example: "ocikit verify app\nocikit verify app --deep",
		Status:  "1 if there is an error that was not repaired; warnings and notes leave it 0",
		Bind: func(fs *flag.FlagSet) Action {
			fast := fs.Bool("fast", false, "check existence, size and shape only")
			deep := fs.Bool("deep", false, "look into layers, configs, names and files as well")
			asJSON := fs.Bool("json", false, "print findings as JSON lines")
			workers := fs.Int("j", 0, "read `n` blobs at once (0: one for each processor)")
			from := fs.String("repair-from", "", "fetch what is bad or missing from another `layout`, or from a registry as HOST/REPO")
			remote := bindRegistryFlags(fs)
			return func(ctx context.Context, env *Env, args []string) (err error) {
				if len(args) != 1 {
					return usagef("%d operands, want one", len(args))
				}
				if *fast && *deep {
					return usagef("--fast and --deep exclude each other")
				}
				opts := layout.VerifyOptions{Fast: *fast, Deep: *deep, Workers: *workers}
				l, err := openVerify(args[0], &opts)
				if errors.Is(err, layout.ErrNotLayout) {
					f := layout.NewFinding(layout.CodeLayoutMalformed)
					f.Path, f.Got = "oci-layout", err.Error()
					if printErr := printFindings(env, []layout.Finding{f}, *asJSON); printErr != nil {
						return printErr
					}
				}
				if err != nil {
					return err
				}
				defer l.Close()
				env.watch(l)
				verify := func() ([]layout.Finding, layout.Summary, error) { return image.Verify(ctx, l, opts) }
				if *from != "" {
					source, done, openErr := openSource(env, *from, remote)
					if openErr != nil {
						return openErr
					}
					defer done(&err)
					verify = func() ([]layout.Finding, layout.Summary, error) { return image.Repair(ctx, l, opts, source) }
				}
				findings, sum, err := verify()
				if printErr := printFindings(env, findings, *asJSON); err == nil {
					err = printErr
				}
				if err != nil {
					return err
				}
				env.detail("verified %d images, %d blobs, %d bytes", sum.Images, sum.Blobs, sum.Bytes)
				wrong := 0
				for _, f := range findings {
					if f.Severity == layout.SeverityError {
						wrong++
					}
				}
				if wrong > 0 {
					return fmt.Errorf("%q: %d things are wrong", args[0], wrong)
				}
				return nil
			}
		},
	}
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
		fmt.Fprintf(&b, "\n  %-19s %s", c.Code, strings.TrimSpace(wrap(means, strings.Repeat(" ", 22), 88)))
	}
	return b.String()
}

// openVerify opens the layout of what is to be verified. An image is resolved.
func openVerify(operand string, opts *layout.VerifyOptions) (*layout.Layout, error) {
	l, n, err := openName(operand)
	if err != nil {
		return nil, err
	}
	if n.Tag != "" || !n.Digest.IsZero() {
		desc, err := l.Resolve(n)
		if err != nil {
			l.Close()
			return nil, withHint(err, "`ocikit ls %s` lists the names", n.Dir)
		}
		opts.Roots = []oci.Descriptor{desc}
	}
	return l, nil
}

func printFindings(env *Env, findings []layout.Finding, asJSON bool) error {
	for _, f := range findings {
		var err error
		if asJSON {
			err = writeJSON(env.Stdout, f)
		} else {
			_, err = fmt.Fprintln(env.Stdout, findingLine(f))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func findingLine(f layout.Finding) string {
	line := f.Code + " "
	if f.Digest != "" {
		line += f.Digest
	} else {
		line += f.Path
	}
	if f.Got != "" {
		line += ": got " + f.Got
	}
	if f.Want != "" {
		line += ", want " + f.Want
	}
	if f.Severity != layout.SeverityError {
		line += fmt.Sprintf(" (%s)", f.Severity)
	}
	return printable(line)
}

// openSource opens what blobs are fetched from: a repository of a registry if the operand
// begins with a host or "docker://", and there is no such directory; else a layout.
func openSource(env *Env, operand string, flags *registryFlags) (_ layout.Source, done func(*error), err error) {
	remote := namesRegistry(operand)
	if n, err := oci.ParseImageName(operand); !strings.HasPrefix(operand, "docker://") && err == nil {
		if info, err := os.Stat(n.Dir); !remote || err == nil && info.IsDir() {
			l, err := openDir(n.Dir)
			if err != nil {
				return nil, nil, err
			}
			env.watch(l)
			return l, func(*error) { l.Close() }, nil
		}
	}
	ref, err := registry.ParseReference(operand)
	if err != nil {
		return nil, nil, usagef("flag --repair-from: %q: neither a layout nor a repository: %v", operand, err)
	}
	c, err := flags.client(env, ref, false)
	if err != nil {
		return nil, nil, err
	}
	return remoteSource{c, ref.Repo, env.progress.report()}, func(err *error) { c.Close(); flags.close(err) }, nil
}

// remoteSource is a repository of a registry as a source of blobs.
type remoteSource struct {
	c      *registry.Client
	repo   string
	report func(progress.Event)
}

// Fetch implements [layout.Source].
func (s remoteSource) Fetch(ctx context.Context, desc oci.Descriptor) (io.ReadCloser, error) {
	isManifest := oci.IsManifest(desc.MediaType) || oci.IsIndex(desc.MediaType)
	if !isManifest {
		r, err := s.c.OpenBlob(ctx, s.repo, desc)
		if err == nil {
			task := progress.NewTask(s.report, progress.Event{Digest: desc.Digest, Size: desc.Size})
			return struct {
				io.Reader
				io.Closer
			}{progress.Reader(r, task), r}, nil
		}
		if desc.MediaType != "" || !isRemoteNotFound(err) {
			return nil, asLayoutError(err)
		}
	}
	_, data, err := s.c.GetManifest(ctx, s.repo, desc.Digest.String())
	if err != nil {
		return nil, asLayoutError(err)
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// asLayoutError says in the words of layouts that a registry does not have a blob.
func asLayoutError(err error) error {
	if err != nil && errors.Is(err, registry.ErrNotFound) {
		return fmt.Errorf("%w: %w", layout.ErrNotFound, err)
	}
	return err
}
