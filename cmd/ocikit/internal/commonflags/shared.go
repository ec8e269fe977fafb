package commonflags

import (
	"flag"

	"ocikit/cmd/ocikit/internal/cli"
)

// BindOutput declares -o, for [cli.Env.ToOutput].
func BindOutput(fs *flag.FlagSet) *string {
	return fs.String("o", "", "write to `FILE` instead of standard output")
}

// BindFrom declares the flag of commands that make a document out of one that is there.
func BindFrom(fs *flag.FlagSet) *string {
	return fs.String("from", "", "start from what `IMAGE` has")
}

// BindLayers declares the flag that names layers to take.
func BindLayers(fs *flag.FlagSet) *[]string {
	return cli.List(fs, "layer", "", "take the layers in `INPUT`: bytes, or descriptors (repeatable)")
}

// BindLayerNumber declares the flag that picks one layer of an image; -1 means that none was picked.
// It has a name of its own beside --layer, which elsewhere names layers to take.
func BindLayerNumber(fs *flag.FlagSet) *int {
	n := fs.Int("layer-number", -1, "look at layer `N` alone, the lowest is 0")
	cli.Alias(fs, "layer-number", "layer")
	return n
}

// BindDryRun declares the flag that has a command print its plan.
func BindDryRun(fs *flag.FlagSet) *bool { return DryRunVar(fs, new(bool)) }

// DryRunVar is [BindDryRun] for a variable that is there.
func DryRunVar(fs *flag.FlagSet, dry *bool) *bool {
	fs.BoolVar(dry, "dry-run", false, "print the plan, a JSON line for each step, and change nothing")
	return dry
}

// BindReferrers declares the flag that takes along what refers to images.
func BindReferrers(fs *flag.FlagSet) *bool { return ReferrersVar(fs, new(bool)) }

// ReferrersVar is [BindReferrers] for a variable that is there.
func ReferrersVar(fs *flag.FlagSet, wanted *bool) *bool {
	fs.BoolVar(wanted, "referrers", false, "take along what refers to an image: signatures, SBOMs")
	return wanted
}

// JobsVar declares the flag that says how many blobs are moved at once.
func JobsVar(fs *flag.FlagSet, n *int) {
	fs.IntVar(n, "j", 0, "move `N` blobs at once (0: as many as is good)")
}

// BindJobs declares the flag that says how many blobs are read at once.
func BindJobs(fs *flag.FlagSet) *int {
	return fs.Int("j", 0, "read `N` blobs at once (0: one for each processor)")
}

// BindAnnotations declares the flag that sets annotations of what the command makes.
func BindAnnotations(fs *flag.FlagSet) *[]string {
	return cli.List(fs, "annotation", "a", "set the annotation `KEY=VALUE` of what is made (repeatable)")
}

// A platform is the value of a flag that is completed to the usual platforms.
type platform string

func (p *platform) String() string     { return string(*p) }
func (p *platform) Set(s string) error { *p = platform(s); return nil }

// Complete implements [cli.Completer].
func (p *platform) Complete(string) []cli.Completion {
	return cli.Words("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/ppc64le", "linux/riscv64", "linux/s390x", "windows/amd64", "local")
}

// BindPlatform declares the flag that picks one image of an index.
func BindPlatform(fs *flag.FlagSet) *string {
	p := new(platform)
	fs.Var(p, "platform", "of an index take the image for `PLATFORM` alone")
	return (*string)(p)
}

// SetDefault gives a flag another default than it has in other commands.
func SetDefault(fs *flag.FlagSet, name, value string) {
	f := fs.Lookup(name)
	if err := f.Value.Set(value); err != nil {
		panic(err)
	}
	f.DefValue = value
}
