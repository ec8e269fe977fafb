package documentcmd

import (
	"context"
	"flag"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
)

// A target is where the document goes that a command makes: into LAYOUT, or as JSON to where -o says.
type target struct {
	layout    *layout.Layout // nil without LAYOUT
	out       *string
	algorithm *digest.Algorithm
}

func bindTarget(fs *flag.FlagSet) *target {
	return &target{out: commonflags.BindOutput(fs), algorithm: commonflags.Algorithm(fs)}
}

// checked returns run behind a check of the command line, which must come before anything is read.
func (t *target) checked(run cli.Action) cli.Action {
	return func(ctx context.Context, env *cli.Env, args []string) error {
		if len(args) == 1 && *t.out != "" {
			return cli.Usagef("-o goes without LAYOUT")
		}
		return run(ctx, env, args)
	}
}

// open opens LAYOUT, if it is there.
func (t *target) open(args []string) (err error) {
	if len(args) == 1 {
		t.layout, err = operands.OpenLayout(args[0])
	}
	return err
}

func (t *target) close() {
	if t.layout != nil {
		t.layout.Close()
	}
}

// put stores a manifest or an index. It is checked before: a refused one leaves no blob behind.
func (t *target) put(mediaType string, data []byte, rules graph.Rules) (oci.Descriptor, error) {
	desc := oci.DescribeWith(*t.algorithm, mediaType, data)
	if err := graph.CheckRefs(t.layout, desc, data, rules); err != nil {
		return desc, operands.IncompleteHint(t.layout, err)
	}
	return t.layout.PutDocumentWith(*t.algorithm, desc.MediaType, data)
}

// emptyPipe says of a standard input that held no descriptor whether the command in front has failed:
// a terminal or /dev/null was chosen.
func emptyPipe(env *cli.Env) bool { return !env.InTTY && !env.InNull }
