package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"

	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/layout"
	"ocikit/tarutil"
)

func extractCommand() Command {
	return Command{
		Name: "extract", Args: "IMAGE DIR", Group: groupFiles, Progress: true,
		Short: "write the files of an image to a directory",
		Long: `Extract applies the layers of an image and writes what a container would see to DIR, which must
be absent or empty. Layers are read and verified before the first file is written, and again while
files are. Nothing outside DIR is ever touched, whatever the layers hold. If it fails, DIR is as it
was.

As root, files get the owners, devices, setuid bits and capabilities of the image: do not extract
what you do not trust to where others can run it. Otherwise, and with --rootless, all files belong to
you, devices are skipped, setuid and setgid bits are taken off files, and a notice counts that.
Permissions and times are always those of the image, extended attributes only security.capability,
POSIX ACLs and user.* (without user.overlay.*).

With --bundle the files go to DIR/rootfs, and DIR/config.json is the configuration for a runtime that
the image asks for, by the conversion rules of the image specification: "runc run" runs it. A bundle made
without root is for running without root. --platform picks from an index.`,
		Example: "ocikit extract app rootfs.new\nocikit extract app bundle --bundle",
		Status:  "1 if DIR is not empty",
		Bind: func(fs *flag.FlagSet) Action {
			platform := fs.String("platform", "", "take the manifest for this `platform` of an index")
			bundle := fs.Bool("bundle", false, "write DIR/rootfs and DIR/config.json, for a runtime")
			rootless := fs.Bool("rootless", false, "write as a user without rights would, even as root")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) > 2 {
					return &usageError{
						msg:  fmt.Sprintf("%d operands, want IMAGE and DIR", len(args)),
						hint: "`ocikit export IMAGE PATH... | tar -x` takes out some files",
					}
				}
				if len(args) != 2 {
					return usagef("%d operands, want IMAGE and DIR", len(args))
				}
				l, desc, err := openManifest(args[0], *platform)
				if err != nil {
					return err
				}
				defer l.Close()
				env.watchLayers(l, desc)
				stack, err := image.NewStack(ctx, l, desc, tarutil.ApplyOptions{})
				if err != nil {
					return incompleteHint(l, err)
				}
				owners := os.Geteuid() == 0 && !*rootless
				return intoEmptyDir(args[1], func(root *os.Root) error {
					done, err := extractInto(ctx, root, l, desc, stack, *bundle, tarutil.ExtractOptions{Owners: owners})
					if err == nil {
						reportExtracted(env, done, owners)
					}
					return incompleteHint(l, err)
				})
			}
		},
	}
}

// extractInto writes the files, or a bundle, to a directory.
func extractInto(ctx context.Context, root *os.Root, l *layout.Layout, desc oci.Descriptor, stack *tarutil.Stack, bundle bool, opts tarutil.ExtractOptions) (tarutil.Extracted, error) {
	if !bundle {
		return stack.Extract(ctx, root, opts)
	}
	if err := root.Mkdir("rootfs", 0o755); err != nil {
		return tarutil.Extracted{}, err
	}
	rootfs, err := root.OpenRoot("rootfs")
	if err != nil {
		return tarutil.Extracted{}, err
	}
	defer rootfs.Close()
	done, err := stack.Extract(ctx, rootfs, opts)
	if err != nil {
		return done, err
	}
	config, err := runtimeConfig(l, desc, !opts.Owners, func(name string) ([]byte, error) {
		real, err := stack.Resolve(name)
		if err != nil {
			return nil, err
		}
		return readRegular(rootfs, real)
	})
	if err != nil {
		return done, err
	}
	return done, root.WriteFile("config.json", config, 0o644)
}

// runtimeConfig makes the config.json of a bundle.
func runtimeConfig(l *layout.Layout, desc oci.Descriptor, rootless bool, readFile func(string) ([]byte, error)) ([]byte, error) {
	m, err := image.ReadManifest(l, desc)
	if err != nil {
		return nil, err
	}
	config, err := image.ReadConfig(l, m.Config)
	if err != nil {
		return nil, err
	}
	v, err := config.View()
	if err != nil {
		return nil, err
	}
	data, err := image.RuntimeConfig(v, image.RuntimeOptions{
		ReadFile: readFile, Rootless: rootless, UID: os.Geteuid(), GID: os.Getegid(),
	})
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	return data, nil
}

// reportExtracted tells what could not be done.
func reportExtracted(env *Env, done tarutil.Extracted, owners bool) {
	var parts []string
	add := func(n int, one, many string) {
		if n == 1 {
			parts = append(parts, "1 "+one)
		} else if n > 1 {
			parts = append(parts, fmt.Sprintf("%d %s", n, many))
		}
	}
	if !owners {
		parts = append(parts, "not as root, all files belong to you")
	}
	add(done.Devices, "device was skipped", "devices were skipped")
	add(done.SetID, "file lost its setuid or setgid bit", "files lost their setuid or setgid bits")
	add(done.Xattrs, "extended attribute was not written", "extended attributes were not written")
	if len(parts) > 0 {
		env.notice("ocikit extract: %s", strings.Join(parts, "; "))
	}
	env.detail("ocikit extract: %d files", done.Files)
}
