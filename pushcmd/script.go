package pushcmd

import (
	_ "embed"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"ocikit/oci"
	"ocikit/oci/layout"
	"ocikit/oci/registry"
	"ocikit/oci/source"
)

// scriptText is a whole script as it stands. The part between scriptBegin and scriptEnd is an
// example, in whose place a real push goes.
//
//go:embed script.sh
var scriptText string

const (
	scriptBegin = "# begin: what is pushed, and where to\n"
	scriptEnd   = "# end\n"
)

// ScriptOptions say how a script is to push.
type ScriptOptions struct {
	Layout    string   // the path of the layout that is taken if the script is given none
	PlainHTTP bool     // talk HTTP; without it a registry on this machine is tried with both
	MountFrom []string // repositories of the registry that may have the blobs
	Tags      []string // more tags besides that of the reference
	ChunkSize int64    // send at most so many bytes in a request; 0 means no limit
}

// Script writes a POSIX shell script that does what [Push] does with nothing but curl. It
// reads the manifests of src, and checks that the blobs are there; it sends no request, and
// the same input gives the same script. The script holds no credentials: it takes them from
// its environment or from a terminal.
func Script(w io.Writer, src source.Source, desc oci.Descriptor, ref registry.Reference, o ScriptOptions) error {
	if err := checkDigest(ref, desc); err != nil {
		return err
	}
	return ScriptAll(w, src, []Image{{Desc: desc, To: ref}}, ref, o)
}

// ScriptAll writes a script that does what [PushAll] does with images of one source.
func ScriptAll(w io.Writer, src source.Source, all []Image, ref registry.Reference, o ScriptOptions) error {
	s := &scriptWriter{p: &pusher{src: src, o: Options{Tags: o.Tags}}}
	s.settings(ref, o)
	s.b.WriteString(`
# Blobs go before the manifests that need them, children before parents, tags come last:
# whatever happens, no name ever means something incomplete.
images() {
`)

	// The line of a repository counts for all images behind it.
	repo := ""
	for _, d := range all {
		if d.Err != nil {
			return d.Err
		}
		if d.To.Repo != repo {
			repo = d.To.Repo
			s.line("repository", repo)
		}
		if err := s.image(d); err != nil {
			return err
		}
	}

	s.b.WriteString("}\n")
	if s.err != nil {
		return s.err
	}

	before, rest, _ := strings.Cut(scriptText, scriptBegin)
	_, after, ok := strings.Cut(rest, scriptEnd)
	if !ok {
		panic("the script has no place for the images")
	}

	_, err := io.WriteString(w, before+s.b.String()+after)
	return err
}

// A scriptWriter collects the part of a script that is about the images.
type scriptWriter struct {
	p   *pusher
	b   strings.Builder
	err error // of the first word that cannot stand in a script
}

func (s *scriptWriter) settings(ref registry.Reference, o ScriptOptions) {
	base, guessed := ref.BaseURL(o.PlainHTTP)
	for _, v := range []struct{ name, value, comment string }{
		{"host", ref.Host, "the registry as users write it"},
		{"base", base.String(), "where requests go to"},
		{"guessed", map[bool]string{true: "yes", false: "no"}[guessed], "whether http is tried if base does not talk https"},
		{"realms", strings.Join(ref.TokenHosts(), " "), "hosts besides that of base that may be sent credentials"},
		{"mount_from", strings.Join(o.MountFrom, " "), "repositories that may have the blobs already"},
		{"chunk_size", strconv.FormatInt(o.ChunkSize, 10), "bytes in a request at most; 0 means no limit"},
		{"layout", o.Layout, "taken if the script is given none"},
	} {
		fmt.Fprintf(&s.b, "%-37s # %s\n", v.name+"="+s.word(v.value), v.comment)
	}
}

// image adds one image with everything that it needs.
func (s *scriptWriter) image(d Image) error {
	g, err := s.p.walk(d.Desc)
	if err != nil {
		return err
	}

	// An image that the registry has under all its names is passed over, as by [Push].
	tags := s.p.tags(d.To)
	s.b.WriteString("    if lacks " + s.words(append([]string{d.Desc.Digest.String()}, tags...)) + "; then\n")
	for _, b := range s.p.neededBlobs(g) {
		if err := s.blob(b); err != nil {
			return err
		}
	}

	for _, n := range g.nodes {
		var names []string
		if n == g.root {
			names = tags
		}
		if err := s.manifest(n, names); err != nil {
			return err
		}
	}

	s.b.WriteString("    fi\n")
	s.line("pushed", d.Desc.Digest.String())
	return nil
}

func (s *scriptWriter) blob(desc oci.Descriptor) error {
	err := s.checkFile(desc)
	if err != nil && oci.IsForeignLayer(desc.MediaType) {
		s.b.WriteString("        # " + desc.Digest.String() + " need not be distributed, and is not in the layout\n")
		return nil
	}
	if err != nil {
		return err
	}
	s.line("    blob", desc.Digest.String(), strconv.FormatInt(desc.Size, 10))
	return nil
}

// manifest adds a manifest, under its digest if there are no tags.
func (s *scriptWriter) manifest(n *node, tags []string) error {
	if err := s.checkFile(n.desc); err != nil {
		return err
	}
	args := []string{n.desc.Digest.String(), strconv.FormatInt(n.desc.Size, 10), n.desc.MediaType}
	command := "    manifest"
	switch {
	case n.foreign:
		command = "    other"
	case n.subject != nil:
		command = "    referrer"
		args = append(args, n.subject.Digest.String())
	}
	s.line(command, append(args, tags...)...)
	return nil
}

// checkFile checks that the script will find a file with the right size. Bytes that are
// embedded in a descriptor are enough for [Push], not for curl.
func (s *scriptWriter) checkFile(desc oci.Descriptor) error {
	b, err := s.p.open(desc)
	if err != nil {
		return err
	}
	b.Close()
	if _, isFile := b.(*os.File); !isFile {
		return fmt.Errorf("blob %s: it is in its descriptor alone, and a script needs a file: %w", desc.Digest, layout.ErrNotFound)
	}
	return nil
}

// line adds a call of a function of the script.
func (s *scriptWriter) line(command string, args ...string) {
	s.b.WriteString("    " + command + " " + s.words(args) + "\n")
}

func (s *scriptWriter) words(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = s.word(a)
	}
	return strings.Join(words, " ")
}

var plainWord = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_./:@+-]+$`) })

// word returns text as one word of the shell. All that goes into a script besides its own
// text passes here.
func (s *scriptWriter) word(text string) string {
	if plainWord().MatchString(text) {
		return text
	}
	if strings.ContainsFunc(text, unicode.IsControl) {
		s.err = fmt.Errorf("script: %q: a control character cannot stand in it: %w", text, oci.ErrMalformed)
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
