package main

import (
	"context"
	"flag"
	"fmt"

	"ocikit/oci"
	"ocikit/oci/layout"
)

func verifyCommand() Command {
	return Command{
		Name: "verify", Args: "LAYOUT|IMAGE", Group: groupLayout, Files: "dirs",
		Short: "check that a layout, or an image in it, is whole and true",
		Long: `Verify checks that every blob that is named exists, has its size and its digest, and that
documents are what they should be. Of a whole layout it checks the blobs that nothing names as well.
Each thing that is wrong is a line, "CODE DIGEST-OR-PATH: what was found, what was wanted", or with
--json a JSON object. Nothing is printed if nothing is wrong. --fast reads no layers: existence, size
and shape only.

The codes are index-malformed, name-ambiguous, blob-missing, blob-size, blob-digest, blob-not-file,
blob-unreadable, blob-name, digest-unsupported, data-mismatch and document-malformed.`,
		Example: "ocikit verify app",
		Status:  "1 if anything is wrong",
		Bind: func(fs *flag.FlagSet) Action {
			fast := fs.Bool("fast", false, "check existence, size and shape only")
			asJSON := fs.Bool("json", false, "print findings as JSON lines")
			workers := fs.Int("j", 0, "read `n` blobs at once (0: one for each processor)")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) != 1 {
					return usagef("%d operands, want one", len(args))
				}
				opts := layout.VerifyOptions{Fast: *fast, Workers: *workers}
				n, err := oci.ParseImageName(args[0])
				if err != nil {
					return usagef("%v", err)
				}
				l, err := openDir(n.Dir)
				if err != nil {
					return err
				}
				defer l.Close()
				if n.Tag != "" || !n.Digest.IsZero() {
					desc, err := l.Resolve(n)
					if err != nil {
						return withHint(err, "`ocikit ls %s` lists the names", n.Dir)
					}
					opts.Roots = []oci.Descriptor{desc}
				}
				findings, sum, err := l.Verify(ctx, opts)
				if err != nil {
					return err
				}
				if err := printFindings(env, findings, *asJSON); err != nil {
					return err
				}
				env.detail("verified %d images, %d blobs, %d bytes", sum.Images, sum.Blobs, sum.Bytes)
				if len(findings) > 0 {
					return fmt.Errorf("%q: %d things are wrong", args[0], len(findings))
				}
				return nil
			}
		},
	}
}

func printFindings(env *Env, findings []layout.Finding, asJSON bool) error {
	for _, f := range findings {
		line := findingLine(f)
		if asJSON {
			data, err := oci.Encode(f)
			if err != nil {
				return err
			}
			line = string(data)
		}
		if _, err := fmt.Fprintln(env.Stdout, line); err != nil {
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
	return printable(line)
}
