package operands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/registry"
	"ocikit/oci/set"
)

// A Wanted image is one of a registry that a list names.
type Wanted struct {
	Name string // for messages
	Ref  registry.Reference
	As   string // the full name that it gets; "" where that is not for a list to say
	Err  error  // why it is none
}

// Clients makes one client for each registry that a command talks to, and keeps it for the next
// image of it. It is for one goroutine.
type Clients struct {
	StdinIsList bool // and no password

	flags   *commonflags.Registry
	clients map[string]*registry.Client
}

// NewClients returns the clients of a command with the flags of registries.
func NewClients(flags *commonflags.Registry) *Clients {
	return &Clients{flags: flags, clients: map[string]*registry.Client{}}
}

// Of returns the client for the registry of a reference.
func (c *Clients) Of(env *cli.Env, ref registry.Reference) (*registry.Client, error) {
	key := ref.Scheme + "://" + ref.Host
	if c.clients[key] == nil {
		client, err := c.flags.Client(env, ref, c.StdinIsList)
		if err != nil {
			return nil, err
		}
		c.clients[key] = client
	}
	return c.clients[key], nil
}

// Tags returns the tags of a repository that a filter takes.
func (c *Clients) Tags(ctx context.Context, env *cli.Env, repo registry.Reference, filter set.Filter) ([]Wanted, error) {
	client, err := c.Of(env, repo)
	if err != nil {
		return nil, err
	}
	return wantedTags(client.Tags(ctx, repo.Repo, 0), repo, filter)
}

// wantedTags returns the images that a list of the tags of a repository names, and a filter takes. A tag whose
// name is none is one with an error.
func wantedTags(tags iter.Seq2[string, error], repo registry.Reference, filter set.Filter) ([]Wanted, error) {
	var images []Wanted
	for tag, err := range tags {
		if err != nil {
			return nil, err
		}
		w := Wanted{Ref: repo, Err: registry.CheckTag(tag)}
		w.Ref.Tag = tag
		w.Name = w.Ref.String()
		if w.Err != nil || filter.Takes(oci.Name{Repo: repo.Repository(), Tag: tag}) {
			images = append(images, w)
		}
	}

	return images, nil
}

// Listed returns the images that --from-file lists, each with the name that it gets, as rewritten.
// A line that names no image is one with an error. An image that is listed twice is returned once;
// one that would take the name of another has an error.
func (c *Clients) Listed(ctx context.Context, env *cli.Env, flags *commonflags.Set) ([]Wanted, error) {
	lines, err := flags.Lines(env)
	if err != nil {
		return nil, err
	}

	// A command line that no registry should see is refused before one does.
	for _, line := range lines {
		if ref, err := registry.ParseReference(line.Name); err == nil {
			if _, err := c.Of(env, ref); err != nil {
				return nil, err
			}
		}
	}

	var images []Wanted
	for _, line := range lines {
		found, err := c.line(ctx, env, line, flags.Filter)
		switch {
		case ctx.Err() != nil:
			return nil, cmp.Or(err, context.Cause(ctx))
		case err != nil:
			found = []Wanted{{Name: line.Name, Err: fmt.Errorf("line %d: %w", line.Number, err)}}
		}
		images = append(images, found...)
	}

	if len(images) == 0 {
		return nil, cli.NotThere(errors.New("nothing in the list fits --tags and --exclude"))
	}

	return Distinct(images, flags.Rewrites), nil
}

// line returns the images that a line of a list names.
func (c *Clients) line(ctx context.Context, env *cli.Env, line set.Line, filter set.Filter) ([]Wanted, error) {
	if line.Err != nil {
		return nil, line.Err
	}

	ref, err := registry.ParseReference(line.Name)
	if err != nil {
		return nil, err
	}

	as := oci.SplitName(cmp.Or(line.As, ref.Repository()))

	// A repository alone means its tags if --tags chooses some, else its tag latest.
	if ref.Tag == "" && ref.Digest.IsZero() && len(filter.Tags) > 0 {
		if as.Tag != "" {
			return nil, fmt.Errorf("%q names one image, and there may be several tags", line.As)
		}
		images, err := c.Tags(ctx, env, ref, filter)
		for i, w := range images {
			images[i].As = as.Repo + ":" + w.Ref.Tag
		}
		return images, err
	}

	// own is the full name with the tag that is meant. The filter looks at it, and the new name
	// takes the tag from it.
	own := oci.Name{Repo: ref.Repository(), Tag: ref.Tag}
	switch {
	case ref.Tag == "" && !ref.Digest.IsZero():
		own.Digest = ref.Digest
	case ref.Tag == "":
		ref.Tag, own.Tag = "latest", "latest"
	}

	if as.Tag == "" && as.Digest.IsZero() {
		as.Tag, as.Digest = own.Tag, own.Digest
	}

	if !filter.Takes(own) {
		return nil, nil
	}

	return []Wanted{{Name: own.String(), Ref: ref, As: as.String()}}, nil
}

// Distinct rewrites the names that images get, and keeps each once. An image that would take the name
// of another has an error.
func Distinct(images []Wanted, rewrites oci.Rewrites) []Wanted {
	taken := map[string]registry.Reference{}
	var all []Wanted
	for _, w := range images {
		if w.Err == nil {
			w.As = rewrites.Apply(w.As)
			w.Err = registry.CheckName(w.As)
		}
		ref, twice := taken[w.As]
		switch {
		case w.Err != nil:
		case twice && ref == w.Ref:
			continue
		case twice:
			w.Err = fmt.Errorf("%s, too, would be called %s: %w", ref, w.As, graph.ErrAmbiguous)
		default:
			taken[w.As] = w.Ref
		}
		all = append(all, w)
	}

	return all
}
