package pushcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/progress"
	"ocikit/oci/registry"
	"ocikit/oci/source"
)

// A Mode is a way to send a blob.
type Mode string

// The modes. Each but ModeAuto gives way to another one when the registry does not know it.
const (
	ModeAuto   Mode = "auto"   // ModePut up to 4 MiB, or 128 MiB among many images, else ModeStream; ModeChunk if Options.ChunkSize is set
	ModeStream Mode = "stream" // one PATCH with everything, then an empty PUT
	ModePut    Mode = "put"    // one PUT with everything
	ModeChunk  Mode = "chunk"  // PATCHes of the chunk size, the last bytes with the PUT
)

// Options of a push. The zero value is a good one.
type Options struct {
	Mode      Mode     // "" is ModeAuto
	ChunkSize int64    // 0 is 16 MiB in ModeChunk
	Jobs      int      // blobs at a time; 0 is up to 16, and 8 large ones of them
	MountFrom []string // repositories of the registry that may have the blobs
	Tags      []string // more tags besides that of the reference
	State     string   // directory that keeps the sessions of broken uploads for the next process
	DryRun    bool     // find out what is to be done and do nothing
	Check     bool     // ask for every blob, also of manifests that are there, and send what is lost

	FailFast  bool        // end with the first of many images that cannot be pushed
	Referrers bool        // push what refers to the image too
	Rules     graph.Rules // what of the image may be absent

	// Progress is called for each step, never concurrently. The plan counts the blobs that are to be
	// mounted or uploaded, not those that exist. When a blob is done, Text holds the Action of its
	// [Step].
	Progress func(progress.Event)
	Notice   func(text string) // is told what the user should know

	Sleep func(context.Context, time.Duration) error // nil waits
}

// A Step is one thing to do, or done.
type Step struct {
	// Action is "exists" (nothing to do), "mount", "upload", "skip" (a layer that is not
	// distributed), "manifest" or "tag". In a report "mounted", "uploaded" and "resumed"
	// say what became of a blob.
	Action    string        `json:"action"`
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"mediaType,omitempty"`
	Size      int64         `json:"size"`
	Mode      Mode          `json:"mode,omitempty"`
	From      string        `json:"from,omitempty"` // repository of a mount
	Tag       string        `json:"tag,omitempty"`
	Sent      int64         `json:"sent,omitempty"`   // bytes on the wire
	Reason    string        `json:"reason,omitempty"` // of another mode, a resume

	// Reference is where the image goes, in a plan: on the steps that end that of one image.
	Reference string `json:"reference,omitempty"`
}

func stepOf(action string, desc oci.Descriptor) Step {
	return Step{Action: action, Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size}
}

// A Report says what a push did, or with DryRun would do.
type Report struct {
	Reference   string         `json:"reference"`
	Descriptor  oci.Descriptor `json:"descriptor"`
	Steps       []Step         `json:"steps"`
	BytesNeeded int64          `json:"bytesNeeded"` // of blobs that were not there
	BytesSent   int64          `json:"bytesSent"`   // in all bodies, manifests too
	Requests    int64          `json:"requests"`
	Seconds     float64        `json:"seconds"`
	Error       string         `json:"error,omitempty"` // why it failed, of one image among many
}

// Push brings the image that desc describes, with everything it needs, from src to the
// repository of ref, and names it by ref's tag. Blobs that the registry has are not sent. Blobs
// go before the manifests that need them, tags come last, so a push that fails leaves no name
// that points to something incomplete. Bytes are hashed while they are sent: a blob of src that
// is damaged gives [digest.ErrMismatch] and is not committed.
//
// A ref with a digest must name that of desc. With neither tag nor digest the tag is
// "latest". The Report counts also what was done before an error.
func Push(ctx context.Context, c *registry.Client, src source.Source, desc oci.Descriptor, ref registry.Reference, o Options) (Report, error) {
	p := newPusher(c, src, ref.Repo, o)
	return p.push(ctx, desc, ref)
}

// A pusher pushes to one repository. It remembers what is there.
type pusher struct {
	c    *registry.Client
	src  source.Source
	repo string
	from string // the repository in the full name of the image in src; "" if that is not known
	o    Options

	mu      sync.Mutex
	present digests                // blobs and manifests that are known to be in the repository
	listed  digests                // manifests with a subject that can be found from it
	asked   digests                // blobs to ask for by a mount from repo itself
	lacking map[digest.Digest]bool // blobs that were asked for before the tag, and are not there
	origins *origins               // of blobs in other repositories
	many    bool                   // images are pushed, this one among them
	limit   int64                  // of a body: larger ones were refused; 0 for none that is known
	report  Report
}

func newPusher(c *registry.Client, src source.Source, repo string, o Options) *pusher {
	o.Mode = cmp.Or(o.Mode, ModeAuto)
	if o.Sleep == nil {
		o.Sleep = registry.Sleep
	}
	c.ForPush(repo)
	return &pusher{c: c, src: src, repo: repo, o: o, lacking: map[digest.Digest]bool{}, origins: newOrigins()}
}

// digests are a set that several goroutines add to.
type digests struct {
	mu sync.Mutex
	in map[digest.Digest]bool
}

func (s *digests) has(d digest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.in[d]
}

func (s *digests) add(d digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in == nil {
		s.in = map[digest.Digest]bool{}
	}
	s.in[d] = true
}

func (p *pusher) push(ctx context.Context, desc oci.Descriptor, ref registry.Reference) (report Report, err error) {
	if err := checkDigest(ref, desc); err != nil {
		return Report{}, err
	}

	// The report is filled on every way out, so that it also counts what was done before an
	// error. The client counts for all its users: the difference is this push.
	start := time.Now()
	requests, sent := p.c.Stats()
	p.report = Report{Reference: ref.String(), Descriptor: desc}
	defer func() {
		r, s := p.c.Stats()
		p.report.Requests, p.report.BytesSent, p.report.Seconds = r-requests, s-sent, time.Since(start).Seconds()
		report = p.report
	}()

	tags := p.tags(ref)
	g, err := p.walk(desc)
	if err != nil {
		return report, err
	}

	needed := p.atOnce(g)
	p.c.Warm(needed - 1) // the question for the tag has a connection already

	// Tags are set last, so one that names the image already says that all of it is there. With
	// Options.Check the blobs are asked for all the same.
	if done, err := p.upToDate(ctx, g, &tags); err != nil {
		return report, err
	} else if done && !p.o.Check {
		return report, p.leave(ctx, g, ref)
	}

	// The connections that a remote source needs for its blobs are made while this registry is asked
	// for them. Blobs that are mounted are not read.
	if far, ok := source.Unwrap(p.src).(interface{ Connect(n int) }); ok && !p.o.DryRun && len(p.o.MountFrom) == 0 {
		far.Connect(needed)
	}

	if err := p.plan(ctx, g); err != nil {
		return report, err
	}

	if p.o.DryRun {
		p.planNames(g, ref, tags)
		return report, nil
	}

	if err := p.deliver(ctx, g, tags); err != nil {
		return report, err
	}

	return report, p.pushReferrers(ctx, g)
}

// leave ends a push of what is there already.
func (p *pusher) leave(ctx context.Context, g *tree, ref registry.Reference) error {
	there := stepOf("exists", g.root.desc)
	if p.o.DryRun {
		there.Reference = ref.String()
		p.step(there)
		return nil
	}

	p.step(there)
	if err := p.listPresent(ctx, g); err != nil {
		return err
	}
	return p.pushReferrers(ctx, g)
}

// deliver sends what the plan found missing. A registry refuses a manifest whose blobs it does not have, so
// the blobs go first.
func (p *pusher) deliver(ctx context.Context, g *tree, tags []string) error {
	if err := p.sendBlobs(ctx, g); err != nil {
		return err
	}
	if err := p.putManifests(ctx, g, tags); err != nil {
		return err
	}
	return p.listPresent(ctx, g)
}

// checkDigest compares the digest of ref, if it has one, with what is to be pushed.
func checkDigest(ref registry.Reference, desc oci.Descriptor) error {
	if !ref.Digest.IsZero() && ref.Digest != desc.Digest {
		return fmt.Errorf("push to %s: the image is %s: %w", ref, desc.Digest, digest.ErrMismatch)
	}
	return nil
}

// atOnce returns how many of the blobs that an image may need are asked for at a time.
func (p *pusher) atOnce(g *tree) int {
	n := len(p.neededBlobs(g))
	if p.o.Jobs > 0 {
		n = min(n, p.o.Jobs)
	}
	return n
}

// tags returns the tags to set; none if ref has a digest alone.
func (p *pusher) tags(ref registry.Reference) []string {
	var tags []string
	if ref.Tag != "" || ref.Digest.IsZero() {
		tags = append(tags, cmp.Or(ref.Tag, "latest"))
	}
	for _, t := range p.o.Tags {
		if !slices.Contains(tags, t) {
			tags = append(tags, t)
		}
	}
	return tags
}

// upToDate asks what the tags name, drops those that name the image already, and reports whether
// nothing is left to do.
func (p *pusher) upToDate(ctx context.Context, g *tree, tags *[]string) (bool, error) {
	if p.isNew(ctx, g) {
		return false, nil
	}

	desc := g.root.desc
	names := *tags
	if len(names) == 0 {
		names = []string{desc.Digest.String()}
	}

	// A name that the registry does not know, may not show, or answers with nonsense is simply
	// set. Busy registries and missing credentials end the push here.
	var left []string
	for _, name := range names {
		got, err := p.c.HeadManifest(ctx, p.repo, name)
		var status *registry.StatusError
		switch {
		case err == nil && got.Digest == desc.Digest:
			p.present.add(desc.Digest)
			continue
		case errors.As(err, &status) && (status.Status == 401 || status.Retryable()), err != nil && status == nil && !errors.Is(err, registry.ErrProtocol) && !errors.Is(err, digest.ErrMismatch) && !errors.Is(err, oci.ErrMalformed):
			return false, err // the requests that follow would fail the same way
		}
		left = append(left, name)
	}

	if len(*tags) > 0 {
		*tags = left
	}

	done := len(left) == 0
	p.origins.there.Store(done)
	return done, nil
}

// isNew reports whether the largest blob of an image is known to be missing, so that no tag names the
// image. It asks for that blob if the plan would have to, and if the image before was new as well: then
// the question for the tag is saved. No answer but a plain no counts, since what is there may have been
// left behind by a push that broke.
func (p *pusher) isNew(ctx context.Context, g *tree) bool {
	if !p.many || p.o.DryRun || p.o.Check || p.origins.there.Load() {
		return false
	}

	var largest oci.Descriptor
	for _, b := range p.neededBlobs(g) {
		if b.Size > largest.Size && !oci.IsForeignLayer(b.MediaType) {
			largest = b
		}
	}

	// Small blobs are asked for by a mount, and one that is in another repository is mounted.
	if largest.Size <= smallBlob || p.origins.of(largest.Digest) != "" || p.origins.trusts() && p.o.State == "" {
		return false
	}

	if _, err := p.c.HeadBlob(ctx, p.repo, largest.Digest); !errors.Is(err, registry.ErrNotFound) {
		return false
	}

	p.lacking[largest.Digest] = true
	return true
}

// largeBlobs is how many large blobs are sent at a time. Fewer fill a line, but layers are often of one
// size: then they end together, and nothing moves until the requests that end them and those that begin the
// next ones are answered.
const largeBlobs = 8

// sendBlobs uploads what the plan found missing, the largest first.
func (p *pusher) sendBlobs(ctx context.Context, g *tree) error {
	todo := p.neededBlobs(g)
	slices.SortStableFunc(todo, func(a, b oci.Descriptor) int { return cmp.Compare(b.Size, a.Size) })
	s := registry.Slots{Jobs: p.o.Jobs, Size: func(i int) int64 { return todo[i].Size }, Large: largeBlobs}
	return registry.Parallel(ctx, len(todo), s, func(ctx context.Context, i int) error {
		step, err := p.sendBlob(ctx, todo[i])
		p.replaceStep(step)
		if err != nil {
			return fmt.Errorf("push blob %s: %w", todo[i].Digest, err)
		}
		p.placed(todo[i].Digest)
		return nil
	})
}

// parallel calls f for 0 to n-1, Options.Jobs at a time.
func (p *pusher) parallel(ctx context.Context, n int, f func(context.Context, int) error) error {
	return registry.Parallel(ctx, n, registry.Slots{Jobs: p.o.Jobs}, f)
}

// learnLimit notes the largest body to send, once larger ones were refused.
func (p *pusher) learnLimit(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limit == 0 || n < p.limit {
		p.limit = n
	}
}

func (p *pusher) bodyLimit() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limit
}

// placed notes that a blob is in the repository.
func (p *pusher) placed(d digest.Digest) {
	p.present.add(d)
	p.origins.add(d, p.repo)
}

// mountFrom returns the repositories to mount a blob from, the most likely one first.
func (p *pusher) mountFrom(d digest.Digest) []string {
	var list []string
	if repo := p.origins.of(d); repo != "" && repo != p.repo {
		list = append(list, repo)
	}
	if p.asked.has(d) {
		list = append(list, p.repo)
	}
	for _, repo := range p.o.MountFrom {
		if repo != p.repo && !slices.Contains(list, repo) {
			list = append(list, repo)
		}
	}
	return list
}

// asksByMount decides whether to ask for a blob by a mount from its own repository, see
// [origins.asksByMount], and notes it. This is done only among many images. A large blob may have a
// session of an earlier process, which is to go on and not a new one.
func (p *pusher) asksByMount(desc oci.Descriptor) bool {
	if !p.many || p.o.DryRun || p.o.State != "" && desc.Size > smallBlob || !p.origins.asksByMount(desc) {
		return false
	}
	p.asked.add(desc.Digest)
	return true
}

func (p *pusher) step(s Step) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report.Steps = append(p.report.Steps, s)
}

// replaceStep puts what became of a blob in the place of its planned step.
func (p *pusher) replaceStep(s Step) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.IndexFunc(p.report.Steps, func(t Step) bool { return t.Digest == s.Digest }); i >= 0 {
		p.report.Steps[i] = s
	} else {
		p.report.Steps = append(p.report.Steps, s)
	}
}

func (p *pusher) progress(e progress.Event) {
	if p.o.Progress != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.o.Progress(e)
	}
}

func (p *pusher) notice(text string) {
	if p.o.Notice != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.o.Notice(p.c.Redact(text))
	}
}
