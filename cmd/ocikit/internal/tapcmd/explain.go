package tapcmd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci/registry/tap/judge"
	"ocikit/oci/registry/tap/record"
)

func explainCommand() cli.Command {
	return cli.Command{
		Name: "explain", Args: "[FILE]", Group: cli.GroupRegistry,
		Short: "say what went wrong in a recording of tap, and who was wrong",
		Long: `Explain judges the exchanges that "ocikit tap --record" has written. The first line is the cause of
what went wrong first, and what to do; then come the numbers, and the exchanges that are not right,
each with its verdicts and their place in the distribution-spec. -v shows every exchange, --json
prints each as an object with its verdicts.`,
		Example: "ocikit explain recording",
		Status:  "1 if something was broken and stayed so",
		Bind: func(fs *flag.FlagSet) cli.Action {
			asJSON := cli.BindJSON(fs)
			return func(ctx context.Context, env *cli.Env, args []string) error {
				name := cli.FileOperand(args)
				in, err := env.Input(name)
				if err != nil {
					return err
				}
				defer in.Close()
				if *asJSON {
					c := judge.New()
					_, err := eachEntry(name, in, func(e *record.Entry) error { return show.WriteJSON(env.Stdout, judged{e, c.Judge(e)}) })
					return err
				}
				return explain(env.Stdout, name, in, env.Verbose)
			}
		},
	}
}

// eachEntry calls visit for each exchange of a recording, and returns its head.
func eachEntry(name string, in io.Reader, visit func(*record.Entry) error) (record.Head, error) {
	head, err := record.Read(in, visit)
	if errors.Is(err, record.ErrMalformed) {
		err = fmt.Errorf("%s: %w", cli.InputName(name), err)
	}
	return head, err
}

// maxShown bounds the lines that are held in memory: the summary is printed first, and known last.
const maxShown = 100_000

// explain prints the summary, then the exchanges that are not right, or with all every exchange.
// The error is [cli.ErrNo] if something was broken and stayed so.
func explain(w io.Writer, name string, in io.Reader, all bool) error {
	c := judge.New()
	var lines []string
	more := 0
	_, err := eachEntry(name, in, func(e *record.Entry) error {
		verdicts := c.Judge(e)
		var said []string
		for _, v := range verdicts {
			if v.Text != "" {
				said = append(said, "    "+show.Printable(v.String()))
			}
		}

		if len(said) == 0 && !all {
			return nil
		}

		if len(lines) >= maxShown {
			more++
			return nil
		}

		lines = append(append(lines, show.Printable(exchangeLine(e))), said...)
		return nil
	})
	if err != nil {
		return err
	}

	s := c.Summary()
	var out []string
	for _, line := range s.Lines() {
		out = append(out, show.Printable(line))
	}

	out = append(out, lines...)
	if more > 0 {
		out = append(out, fmt.Sprintf("%d more exchanges are not shown", more))
	}

	return cli.NoIf(show.WriteLines(w, out), s.Verdict.Broken() && !s.Recovered)
}
