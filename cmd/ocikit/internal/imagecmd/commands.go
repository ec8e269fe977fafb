// Package imagecmd holds the commands that make an image of an image, and take the files out of
// one.
//
// Append, mutate, rebase, flatten and convert leave IMAGE as it is. They collect functions of the
// type [image.Change] and hand them to editFlags: it has [image.Edit] apply them to every image of
// an index, stores what is new, names the result and prints its descriptor. Export and extract
// merge the layers with [image.NewStack]. Why compares with the package why; the words and the
// remedies are here, since they name commands and flags.
//
// [Commands] is the entry point. Each command has a file that begins with its name; edit.go holds
// what the first five share.
package imagecmd

import "ocikit/cmd/ocikit/internal/cli"

// Commands returns the commands of this package, in the order in which help lists them. Each call
// makes new values, so that two of them may run at once.
func Commands() []cli.Command {
	return []cli.Command{
		appendCommand(), mutateCommand(), rebaseCommand(), flattenCommand(), convertCommand(), whyCommand(), exportCommand(), extractCommand(),
	}
}
