package registrycmd

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci/registry"
	"ocikit/oci/registry/probe"
)

func registryProbe() registryStep {
	return registryStep{
		verb: "probe", args: "REF", short: "try what a registry supports, and print its profile",
		long: `Probe tries uploads, manifests, lists and deletes with tiny blobs in the repository of REF, in
ways that are right and in ways that are not, and prints a line for each:

    ID LEVEL ENDPOINT ASKED: GOT; push: what "ocikit push" does about it

LEVEL is ok, note (allowed, and good to know), violation (against the distribution-spec, in whose
table ENDPOINT is) or skipped. Then follow lines that begin with "push:", what a push does here,
"left:", what could not be removed again, and "total:". --json prints one object instead.

Tags that are there are not touched: probe has one of its own, "ocikit-probe-" and a random number.
It removes what it made if the registry lets it, after some two hundred requests. With --read-only, and where pushing is not allowed,
it writes nothing and reads the manifest that REF names, or one from the list of tags.`,
		example: "ocikit registry probe localhost:5000/hello",
		status:  "0 whatever was found, if the registry answers",
		parse:   registry.ParseReference,
		bind: func(fs *flag.FlagSet) registryAction {
			var o probe.Options
			fs.BoolVar(&o.ReadOnly, "read-only", false, "write nothing")
			fs.BoolVar(&o.Large, "large", false, "try bodies of some MiB too: the limits of registries and proxies")
			only := cli.List(fs, "only", "", "try the probe `ID` alone, and what it needs (repeatable)")
			asJSON := cli.BindJSON(fs)
			dryRun := commonflags.BindDryRun(fs)
			return func(ctx context.Context, env *cli.Env, c *registry.Client, ref registry.Reference, _ []string) error {
				o.Only = *only
				rows, err := probe.List(o)
				if err != nil {
					return cli.Usagef("flag --only: %v", err)
				}

				if *dryRun {
					return show.WriteEachJSON(env.Stdout, rows)
				}

				// A REF without tag and digest means the repository; the probes choose a manifest
				// from its tags.
				name := ""
				if ref.Tag != "" || !ref.Digest.IsZero() {
					name = ref.Name()
				}

				p, err := probe.Run(ctx, c, ref.Repo, name, o)

				// A run that broke off is printed as far as it came.
				if err != nil && len(p.Findings) == 0 {
					return err
				}

				if *asJSON {
					return errors.Join(err, show.WriteJSON(env.Stdout, p))
				}

				return errors.Join(err, show.WriteLines(env.Stdout, profileLines(p)))
			}
		},
	}
}

func profileLines(p probe.Profile) []string {
	line := "registry: " + p.URL + " " + p.Proto
	if p.TLS != "" {
		line += " " + p.TLS
	}

	lines := []string{line}
	count := map[probe.Level]int{}
	for _, f := range p.Findings {
		count[f.Level]++
		line := fmt.Sprintf("%s %s %s %s: %s", f.ID, f.Level, f.Endpoint, f.Asked, f.Got)
		if f.Push != "" {
			line += "; push: " + f.Push
		}
		lines = append(lines, line)
	}

	for _, s := range p.Push {
		lines = append(lines, "push: "+s)
	}

	for _, s := range p.Left {
		lines = append(lines, "left: "+s)
	}

	return append(lines, fmt.Sprintf("total: %d ok, %d notes, %d violations, %d skipped, %d requests, %d bytes sent",
		count[probe.OK], count[probe.Note], count[probe.Violation], count[probe.Skipped], p.Requests, p.Sent))
}
