package imagecmd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci/image/why"
	"ocikit/oci/layout"
)

func whyCommand() cli.Command {
	return cli.Command{
		Name: "why", Args: "A B | --rebuild IMAGE SRC...", Group: cli.GroupImage, Progress: true, AnyOperands: true,
		Short: "say why two images or layers have different digests",
		Long: `Why compares A and B from the top down, and prints a line for each cause that makes their
digests differ: where it is, what A has here and B has there, and what would have made them equal, if
there is such a flag or command. What follows from a cause further down is not printed, so that a file
with another time is one line, and not the digests of layer, config, manifest and index too.

A and B are images (in a layout, an archive or a registry), layouts or archives of several images,
which are compared name by name, blobs (LAYOUT@DIGEST), or files: layers, plain or compressed, JSON
documents; "-" has an archive or a file on standard input. Layers that are the same by digest are not
read. Of others both tars are read in lock step, so memory is flat.

"ocikit diff" says in which files two images differ; this says why, if the files are the same.

With --rebuild, as "why --rebuild IMAGE SRC[:DEST]...", it makes a layer of IMAGE again: the top one, or
that of --layer. Each SRC is packed as by "ocikit tar" with the same flags; a lone SRC that is a tar is
taken as it is. Without --compress the result is compressed as the layer is. If it is the same,
--json prints the proof: as subjects the layer, as materials the digest of each SRC (what "ocikit tar SRC
| ocikit digest" prints, of a file that of its bytes), the command, the version. If not, the causes are
printed, here being IMAGE and there what was made.`,
		Example: "ocikit save app -o copy.tar\nocikit why app copy.tar\nocikit gzip layer.tar | ocikit why layer.tar.gz -\nocikit why --rebuild app ./rootfs --json",
		Status:  "0 if the digests are the same, 1 if not",
		Bind: func(fs *flag.FlagSet) cli.Action {
			asJSON := cli.BindJSON(fs)
			platform := commonflags.BindPlatform(fs)
			out := commonflags.BindOutput(fs)
			places := operands.BindPlaces(fs)
			r := bindRebuild(fs)
			return func(ctx context.Context, env *cli.Env, args []string) error {
				if *r.wanted {
					return r.run(ctx, env, rebuildPlace{places, *platform, *out, *asJSON}, args)
				}

				if len(args) != 2 {
					return cli.Usagef("%s, want A B", show.Count(len(args), "operand"))
				}

				if name := r.given(fs); name != "" {
					return cli.Usagef("flag --%s goes with --rebuild", name)
				}

				causes, err := compare(ctx, env, places, args, *platform)
				if err != nil {
					return err
				}

				err = env.ToOutput(*out, false, func(w io.Writer) error {
					if *asJSON {
						return show.WriteJSON(w, newWhyJSON(causes, false))
					}
					return writeCauses(w, causes, false)
				})
				return cli.NoIf(err, len(causes) > 0)
			}
		},
	}
}

// compare finds the causes that make two operands differ: none if their digests are the same.
func compare(ctx context.Context, env *cli.Env, places *operands.Places, args []string, platform string) ([]why.Cause, error) {
	a, err := places.Subject(ctx, env, args[0], platform)
	if err != nil {
		return nil, directoryHint(err)
	}
	defer a.Close()

	b, err := places.Subject(ctx, env, args[1], platform)
	if err != nil {
		return nil, directoryHint(err)
	}
	defer b.Close()

	var causes []why.Cause
	switch {
	case (a.Blob == nil) != (b.Blob == nil):
		image, file := args[0], args[1]
		if a.Blob != nil {
			image, file = file, image
		}
		return nil, cli.WithHint(fmt.Errorf("%q is an image, and %q is not", image, file), "`ocikit layers %s` prints the layers to compare with, as LAYOUT@DIGEST", image)
	case a.Several && b.Several:
		causes, err = why.Layouts(ctx, a.Src, b.Src)
	case a.Several || b.Several:
		several := args[0]
		if b.Several {
			several = args[1]
		}
		return nil, cli.WithHint(fmt.Errorf("%q holds several images, the other operand is one", several), "`ocikit ls %s` lists the names", several)
	case a.Blob == nil:
		causes, err = why.Images(ctx, why.Image{Src: a.Src, Desc: a.Desc}, why.Image{Src: b.Src, Desc: b.Desc})
	default:
		causes, err = why.Blobs(ctx, why.Blob{Open: a.Blob}, why.Blob{Open: b.Blob})
	}

	// With two operands an error must say which one it is about.
	if side, ok := errors.AsType[*why.SideError](err); ok {
		name := args[0]
		if side.There {
			name = args[1]
		}
		if !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) {
			err = fmt.Errorf("%q: %w", name, err)
		}
	}

	return causes, commonflags.TarHint(err)
}

// directoryHint adds a hint to the error about an operand that is a directory of files.
func directoryHint(err error) error {
	if errors.Is(err, layout.ErrNotLayout) {
		return cli.WithHint(err, "`ocikit diff` compares directories, `ocikit why --rebuild IMAGE DIR` a layer with one")
	}
	return err
}

// writeCauses prints a line for each cause. Causes that repeat from layer to layer are counted in
// the line of the first; of the many members in which unlike documents differ the first few are
// printed. rebuilt says that B was made by --rebuild, which has remedies of its own.
func writeCauses(w io.Writer, causes []why.Cause, rebuilt bool) error {
	const few = 3

	// Whether a cause is one of many decides how it is printed, so they are counted first.
	again := map[string]int{}
	for _, c := range causes {
		again[groupOf(c)]++
	}

	told := map[string]int{}
	var lines []string
	for _, c := range causes {
		group := groupOf(c)
		told[group]++

		n := again[group]
		branch := c.Where

		switch {
		case n <= few:
		// The same in layer after layer: one line for all.
		case c.Tar != nil || isLayer(c):
			if told[group] > 1 {
				continue
			}
			last := len(branch) - 1
			branch = append(slices.Clone(branch[:last]), fmt.Sprintf("%s and %d more", branch[last], n-1))
		// Unlike documents: the first two members, then a line that counts the rest.
		case n > 2*few && told[group] == few:
			lines = append(lines, strings.Join(append(slices.Clone(branch), fmt.Sprintf("%d members more; --json lists them", n-few+1)), ": "))
			continue
		case n > 2*few && told[group] > few:
			continue
		}

		text, fix := whyWords(c, rebuilt)
		line := strings.Join(append(slices.Clone(branch), text), ": ")
		if fix != "" {
			line += "; equal with " + fix
		}

		lines = append(lines, show.Shorten(line))
	}

	return show.WriteLines(w, lines)
}

// isLayer reports whether a cause is about a layer, as a whole or in its tar.
func isLayer(c why.Cause) bool {
	return len(c.Where) > 0 && strings.HasPrefix(c.Where[len(c.Where)-1], "layer ")
}

// groupOf returns a key for causes of one kind: in all layers of an image, or in one document.
func groupOf(c why.Cause) string {
	branch, detail := c.Where, ""
	if isLayer(c) {
		branch = branch[:len(branch)-1]
		detail = "layers"
	}
	if c.Tar != nil {
		detail += c.Tar.Detail
	}
	return strings.Join(append(slices.Clone(branch), string(c.Kind), detail), "\n")
}

// whyJSON is what why --json prints.
type whyJSON struct {
	Causes []causeJSON `json:"causes"`
	Equal  bool        `json:"equal"`
}

// causeJSON is one cause.
type causeJSON struct {
	Cause   string   `json:"cause"`
	Count   int      `json:"count"`
	Detail  string   `json:"detail,omitempty"`
	Fix     string   `json:"fix,omitempty"`
	Here    string   `json:"here,omitempty"`
	Offset  *int64   `json:"offset,omitempty"`
	Path    string   `json:"path,omitempty"`
	Pointer string   `json:"pointer,omitempty"`
	Shift   float64  `json:"shiftSeconds,omitempty"`
	Text    string   `json:"text"`
	There   string   `json:"there,omitempty"`
	Where   []string `json:"where,omitempty"`
}

func newWhyJSON(causes []why.Cause, rebuilt bool) whyJSON {
	out := whyJSON{Causes: []causeJSON{}, Equal: len(causes) == 0}
	for _, c := range causes {
		j := causeJSON{Cause: string(c.Kind), Count: c.Count, Here: c.Here, There: c.There, Where: c.Where}
		j.Text, j.Fix = whyWords(c, rebuilt)
		switch {
		case c.Tar != nil:
			j.Path, j.Detail, j.Shift = c.Path, c.Tar.Detail, c.Tar.Shift.Seconds()
			if c.Tar.Inside.What != "" {
				j.Detail = string(c.Tar.Inside.What)
			}
			if c.Tar.Offset >= 0 && c.Kind == "content" {
				j.Offset = &c.Tar.Offset
			}
		// The path of a cause is a JSON pointer, or else a word such as a platform.
		case strings.HasPrefix(c.Path, "/"):
			j.Pointer = c.Path
		default:
			j.Detail = c.Path
		}
		out.Causes = append(out.Causes, j)
	}

	return out
}
