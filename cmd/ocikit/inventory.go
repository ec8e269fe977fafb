package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/registry"
)

func inventoryCommand() Command {
	return Command{
		Name: "inventory", Args: "LAYOUT|IMAGE|ARCHIVE|REF...", Group: groupCarry, Progress: true,
		Short: "list the digests that are there, for a bundle to leave out",
		Long: `Inventory prints the digest of every blob that the operands have together, sorted, one a line: of a
layout, of one image in it, of the tar of a layout ("-" is standard input), or what a registry has of
the image REF. The list is small enough to carry back, and smaller with gzip; "ocikit bundle --have"
takes it either way. What is there but cannot be right, as a file of the wrong size, is not listed;
--verify reads every blob to find out. The blobs of a tar are always verified.

An operand that is a directory or a file is that; otherwise HOST/REPO is a registry. "oci:" or
"docker://" in front says which. --all lists every tag of a repository.`,
		Example: "ocikit inventory app | ocikit gzip -o have.txt.gz\nocikit bundle app:latest --have have.txt.gz -o update.tar",
		Status:  "1 if an archive is damaged, 4 if an operand is not there",
		Bind: func(fs *flag.FlagSet) Action {
			v := &inventoryFlags{registry: bindRegistryFlags(fs)}
			fs.BoolVar(&v.verify, "verify", false, "read and verify every blob of a layout")
			fs.BoolVar(&v.all, "all", false, "of a repository list what all its tags lead to")
			sizes := fs.Bool("sizes", false, "print the size of each blob, too")
			diffIDs := fs.Bool("diff-ids", false, "print the size, and of layers the diff ID, for \"bundle --same-content\"")
			return func(ctx context.Context, env *Env, args []string) (err error) {
				if len(args) == 0 {
					return usagef("no operand: name a LAYOUT, an ARCHIVE or a REF")
				}
				defer v.registry.close(&err)
				var list []*archive.Inventory
				for _, operand := range args {
					inv, err := v.read(ctx, env, operand)
					if err != nil {
						return err
					}
					for _, text := range inv.Notices {
						env.notice("ocikit: %s: %s", operand, text)
					}
					list = append(list, inv)
				}
				return archive.Merge(list...).Write(env.Stdout, *sizes, *diffIDs)
			}
		},
	}
}

type inventoryFlags struct {
	registry    *registryFlags
	verify, all bool
}

func (v *inventoryFlags) read(ctx context.Context, env *Env, operand string) (*archive.Inventory, error) {
	isLayout := strings.HasPrefix(operand, "oci:") || strings.HasPrefix(operand, "ocidir://")
	info, err := os.Stat(operand)
	switch {
	case operand == "-", !isLayout && err == nil && !info.IsDir():
		return archiveInventory(ctx, env, operand, archive.ArchiveInventory)
	case isLayout || err == nil:
		return v.layout(ctx, env, operand)
	}
	if n, err := oci.ParseImageName(operand); err == nil && !strings.HasPrefix(operand, "docker://") {
		if info, err := os.Stat(n.Dir); err == nil && info.IsDir() {
			return v.layout(ctx, env, operand)
		}
	}
	host, _, _ := strings.Cut(strings.TrimPrefix(operand, "docker://"), "/")
	if ref, err := registry.ParseReference(operand); err == nil && (strings.ContainsAny(host, ".:") || host == "localhost" || strings.HasPrefix(operand, "docker://")) && host != operand {
		return v.ref(ctx, env, ref)
	}
	return v.layout(ctx, env, operand) // and say that it is not there
}

func (v *inventoryFlags) layout(ctx context.Context, env *Env, operand string) (*archive.Inventory, error) {
	n, err := oci.ParseImageName(operand)
	if err != nil {
		return nil, usagef("%v", err)
	}
	if n.Tag == "" && n.Digest.IsZero() {
		l, err := openLayout(operand)
		if err != nil {
			return nil, err
		}
		defer l.Close()
		env.watch(l)
		return archive.LayoutInventory(ctx, l, v.verify)
	}
	l, desc, err := openImage(operand)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	env.watch(l)
	return archive.ImageInventory(ctx, l, desc, v.verify)
}

// ref asks a registry what it has.
func (v *inventoryFlags) ref(ctx context.Context, env *Env, ref registry.Reference) (*archive.Inventory, error) {
	client, err := v.registry.client(env, ref, false)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	names := func(yield func(string, error) bool) { yield(ref.Name(), nil) }
	if v.all {
		if ref.Tag != "" || !ref.Digest.IsZero() {
			return nil, usagef("%s: with --all name a repository, without tag or digest", ref)
		}
		names = client.Tags(ctx, ref.Repo, 0)
	}
	found, err := client.Inventory(ctx, ref.Repo, names)
	if err != nil {
		return nil, err
	}
	return archive.InventoryOf(found), nil
}

func archiveInventory(ctx context.Context, env *Env, name string, read func(context.Context, io.Reader) (*archive.Inventory, error)) (*archive.Inventory, error) {
	if name == "-" && env.InTTY {
		return nil, usagef("standard input is a terminal: name a FILE, or pipe one in")
	}
	in, err := env.data(name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	inv, err := read(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", inputName(name), err)
	}
	return inv, nil
}

// readHave reads what --have names: an inventory, the tar of a layout, a layout or an image.
func readHave(ctx context.Context, env *Env, name string) (*archive.Inventory, error) {
	info, err := os.Stat(name)
	isFile := name == "-" || err == nil && !info.IsDir()
	if n, err := oci.ParseImageName(name); err == nil && !isFile {
		if info, err := os.Stat(n.Dir); err == nil && info.IsDir() {
			return new(inventoryFlags).layout(ctx, env, name)
		}
	}
	return archiveInventory(ctx, env, name, archive.ReadInventory)
}
