package carrycmd

import (
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
	"ocikit/oci/archive"
	"ocikit/oci/archive/split"
	"ocikit/oci/registry"
	"ocikit/oci/source"
)

func inventoryCommand() cli.Command {
	return cli.Command{
		Name: "inventory", Args: "LAYOUT|IMAGE|ARCHIVE|REF...", Group: cli.GroupCarry, Progress: true,
		Short: "list the digests that are there, for a bundle to leave out",
		Long: `Inventory prints the digest of every blob that the operands have together, sorted, one a line: of a
layout, of the tar of one or a directory of its parts ("-" is standard input), of one image in either, or
what a registry has of the image REF. The list is small enough to carry back, and smaller with gzip; "ocikit bundle --have"
takes it either way. What is there but cannot be right, as a file of the wrong size, is not listed;
--verify reads every blob to find out. The blobs of a tar are always verified.

An operand that is a directory or a file is that; otherwise HOST/REPO is a registry. "oci:" or
"docker://" in front says which. --all lists every tag of a repository.

--chunks adds to each layer of a layout the checksums of its pieces, uncompressed: then "ocikit bundle
--delta" finds what is different in a layer although nobody on the other side of the gap has the old
one any more. That takes about 1.5 MB for each GB of layers.`,
		Example: "ocikit inventory app | ocikit gzip -o have.txt.gz\nocikit bundle app:latest --have have.txt.gz -o update.tar",
		Status:  "1 if an archive is damaged, 4 if an operand is not there",
		Bind: func(fs *flag.FlagSet) cli.Action {
			v := &inventoryFlags{registry: commonflags.BindRegistry(fs)}
			fs.BoolVar(&v.verify, "verify", false, "read and verify every blob of a layout")
			commonflags.AllVar(fs, &v.all)
			fs.BoolVar(&v.chunks, "chunks", false, "print of the layers in layouts what they consist of, for \"bundle --delta\"")
			sizes := fs.Bool("sizes", false, "print the size of each blob, too")
			asJSON := cli.BindJSON(fs)
			diffIDs := fs.Bool("diff-ids", false, "print the size, and of layers the diff ID, for \"bundle --same-content\"")
			return func(ctx context.Context, env *cli.Env, args []string) error {
				var list []*archive.Inventory
				var failed error
				for _, operand := range args {
					inv, err := v.read(ctx, env, operand)

					// An inventory beside an error is that of a registry with a bad tag: the rest
					// of it counts.
					failed = errors.Join(failed, err)
					if inv == nil {
						return failed
					}
					for _, text := range inv.Notices {
						env.Notice("ocikit: %s: %s", operand, text)
					}
					list = append(list, inv)
				}

				all := archive.Merge(list...)
				if *asJSON {
					return errors.Join(failed, writeInventory(env, all))
				}

				return errors.Join(failed, all.Write(env.Stdout, *sizes, *diffIDs))
			}
		},
	}
}

// writeInventory prints all that is known of each blob, as JSON lines.
func writeInventory(env *cli.Env, inv *archive.Inventory) error {
	for _, it := range inv.Items {
		line := struct {
			DiffID digest.Digest `json:"diffID,omitzero"`
			Digest digest.Digest `json:"digest"`
			Size   *int64        `json:"size,omitempty"` // absent if it is not known
		}{DiffID: it.DiffID, Digest: it.Digest}
		if it.Size >= 0 {
			line.Size = &it.Size
		}
		if err := show.WriteJSON(env.Stdout, line); err != nil {
			return err
		}
	}
	return nil
}

// inventoryFlags are the flags that say what to list of an operand.
type inventoryFlags struct {
	registry    *commonflags.Registry
	verify, all bool
	chunks      bool
}

// read lists the blobs of an operand. A file or a directory that is there wins over a registry of
// the same name; "oci:" and "docker://" leave no doubt. An inventory may come with an error, see
// ref.
func (v *inventoryFlags) read(ctx context.Context, env *cli.Env, operand string) (*archive.Inventory, error) {
	file, err := operands.ArchiveFile(operand)
	if err != nil {
		// ArchiveFile refuses the name of one image in an archive.
		return v.archived(ctx, env, operand)
	}

	if strings.HasPrefix(operand, "docker://") {
		ref, err := commonflags.ParseRef(registry.ParseReference, operand)
		if err != nil {
			return nil, err
		}
		return v.ref(ctx, env, ref)
	}

	// The whole operand may be a path, with any colons in it.
	operand = file
	isLayout := strings.HasPrefix(operand, "oci:") || strings.HasPrefix(operand, "ocidir://")
	info, err := os.Stat(operand)
	switch {
	case operand == "-", !isLayout && err == nil && !info.IsDir(), !isLayout && split.IsSet(operand):
		return archiveInventory(ctx, env, operand, archive.ArchiveInventory)
	case isLayout || err == nil:
		return v.layout(ctx, env, operand)
	}

	// Or else a path with a tag or a digest behind it: an image in a layout or an archive.
	if n, err := oci.ParseImageName(operand); err == nil {
		info, err := os.Stat(n.Dir)
		switch {
		case err == nil && info.IsDir() && !split.IsSet(n.Dir):
			return v.layout(ctx, env, operand)
		case err == nil:
			return v.archived(ctx, env, operand)
		}
	}

	// Or else a repository, if it begins with what looks like a host.
	host, _, _ := strings.Cut(operand, "/")
	if ref, err := registry.ParseReference(operand); err == nil && (strings.ContainsAny(host, ".:") || host == "localhost") && host != operand {
		return v.ref(ctx, env, ref)
	}

	return v.layout(ctx, env, operand) // and say that it is not there
}

// layout lists the blobs of a layout, or of one image in it.
func (v *inventoryFlags) layout(ctx context.Context, env *cli.Env, operand string) (*archive.Inventory, error) {
	n, err := oci.ParseImageName(operand)
	if err != nil {
		return nil, cli.Usagef("%v", err)
	}

	if n.Tag == "" && n.Digest.IsZero() {
		l, err := operands.OpenLayout(operand)
		if err != nil {
			return nil, err
		}
		defer l.Close()
		env.Watch(l)
		return v.withChunks(ctx, l)(archive.LayoutInventory(ctx, l, v.verify))
	}

	l, desc, err := operands.OpenImage(operand)
	if err != nil {
		return nil, err
	}
	defer l.Close()

	env.Watch(l)
	return v.withChunks(ctx, l)(archive.ImageInventory(ctx, l, desc, v.verify))
}

// archived lists the blobs of one image in an archive.
func (v *inventoryFlags) archived(ctx context.Context, env *cli.Env, operand string) (*archive.Inventory, error) {
	src, desc, err := operands.NewPlaces(v.registry).Image(ctx, env, operand)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	env.Watch(src)
	return v.withChunks(ctx, src)(archive.SourceInventory(ctx, src, desc))
}

// withChunks returns a function that adds the chunks of layers to an inventory, if they are wanted.
// It takes the results of the call that makes one.
func (v *inventoryFlags) withChunks(ctx context.Context, l source.Source) func(*archive.Inventory, error) (*archive.Inventory, error) {
	return func(inv *archive.Inventory, err error) (*archive.Inventory, error) {
		if err == nil && v.chunks {
			err = inv.AddChunks(ctx, l)
		}
		return inv, err
	}
}

// ref asks a registry what it has of an image, or of all tags of a repository. If some tags fail,
// it returns the inventory of the others beside the error.
func (v *inventoryFlags) ref(ctx context.Context, env *cli.Env, ref registry.Reference) (*archive.Inventory, error) {
	client, err := v.registry.Client(env, ref, false)
	if err != nil {
		return nil, err
	}

	names := func(yield func(string, error) bool) { yield(ref.Name(), nil) }
	if v.all {
		if ref.Tag != "" || !ref.Digest.IsZero() {
			return nil, cli.Usagef("%s: with --all name a repository, without tag or digest", ref)
		}
		names = client.Tags(ctx, ref.Repo, 0)
	}

	found, err := client.Inventory(ctx, ref.Repo, names)
	if err != nil && (len(found) == 0 || ctx.Err() != nil) {
		return nil, err
	}

	return archive.InventoryOf(found), err
}

// archiveInventory reads the inventory of a tar, a directory of its parts, or standard input.
func archiveInventory(ctx context.Context, env *cli.Env, name string, read func(context.Context, io.Reader) (*archive.Inventory, error)) (*archive.Inventory, error) {
	in, err := operands.ArchiveData(ctx, env, name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	inv, err := read(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cli.InputName(name), err)
	}
	return inv, nil
}

// readHave reads what --have names: an inventory, the tar of a layout, a layout or an image. A file
// is told by its content.
func readHave(ctx context.Context, env *cli.Env, name string) (*archive.Inventory, error) {
	name, err := operands.ArchiveFile(name)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(name)
	isFile := name == "-" || err == nil && !info.IsDir() || split.IsSet(name)
	if n, err := oci.ParseImageName(name); err == nil && !isFile {
		if info, err := os.Stat(n.Dir); err == nil && info.IsDir() {
			return new(inventoryFlags).layout(ctx, env, name)
		}
	}
	return archiveInventory(ctx, env, name, archive.ReadInventory)
}
