package main

import (
	"fmt"
	"slices"
	"strings"
)

// A foreignWord is a command of other tools, and what it is called here.
type foreignWord struct{ word, hint string }

// foreignWords returns the words of other tools that are not commands here, sorted.
func foreignWords() []foreignWord {
	return []foreignWord{
		{"annotate", "`ocikit mutate IMAGE --annotation K=V -t TAG`"},
		{"attach", "`ocikit manifest --subject`, as `ocikit manifest -h` shows, then `ocikit push --referrers`"},
		{"auth", "there is no login; `ocikit help credentials` says where passwords come from"},
		{"backup", "`ocikit pull` into a layout, then `ocikit save` or `ocikit bundle`"},
		{"blob", "`ocikit upload blob` and `ocikit registry get --blob`, or `ocikit put` and `ocikit cat` in a layout"},
		{"build", "no Dockerfiles: pipe tar, layer, config, manifest, tag; `ocikit help descriptors`"},
		{"catalog", "repositories are not listed, `ocikit registry tags` lists tags"},
		{"commit", "`ocikit diff OLD NEW --layer`, then `ocikit append`"},
		{"compare", "`ocikit diff OLD NEW`"},
		{"convert", "`ocikit layers -h` shows how to compress layers in another way"},
		{"cp", "`ocikit copy`, push and pull for images, `ocikit export IMAGE PATH | tar -x` for files"},
		{"create", "`ocikit init`, or `ocikit extract IMAGE DIR --bundle` for a runtime"},
		{"delete", "`ocikit untag` and `ocikit gc` in a layout, `ocikit registry delete` in a registry"},
		{"discover", "`ocikit registry referrers REF`, or `ocikit copy IMAGE IMAGE --referrers --dry-run` in a layout"},
		{"fetch", "`ocikit pull REF LAYOUT`, or `ocikit registry get REF` for a manifest alone"},
		{"fsck", "`ocikit verify LAYOUT`"},
		{"gunzip", "`ocikit cat --decompress`, or the program gunzip"},
		{"history", "`ocikit inspect IMAGE`"},
		{"image", "commands act on images by themselves; `ocikit help` lists them"},
		{"images", "`ocikit ls LAYOUT`"},
		{"import", "`ocikit load` for archives of images, `ocikit layer` for a tar of files"},
		{"insert", "`ocikit append IMAGE --layer DIR -t TAG`, or `ocikit tar FILE:DEST | ocikit append IMAGE -t TAG`"},
		{"list", "`ocikit ls LAYOUT`"},
		{"list-tags", "`ocikit registry tags HOST/REPO`"},
		{"login", "there is no login; `ocikit help credentials` says where passwords come from"},
		{"logout", "nothing is stored here; `ocikit help credentials` says where passwords come from"},
		{"mirror", "`ocikit pull --all HOST/REPO LAYOUT`, then `ocikit push --all LAYOUT HOST/REPO`"},
		{"new", "`ocikit init DIR`"},
		{"optimize", "`ocikit append --compress estargz`, or `ocikit layer --compress estargz`"},
		{"platforms", "`ocikit inspect IMAGE`, or `ocikit registry get REF`"},
		{"prune", "`ocikit gc LAYOUT`"},
		{"raw", "`ocikit inspect IMAGE --json`, or `ocikit cat` for the bytes"},
		{"recompress", "`ocikit layers -h` shows how to compress layers in another way"},
		{"rename", "`ocikit copy LAYOUT:OLD LAYOUT:NEW`, then `ocikit untag LAYOUT:OLD`"},
		{"repack", "`ocikit diff OLD NEW --layer`, then `ocikit append`"},
		{"restore", "`ocikit load`, or `ocikit unbundle`"},
		{"retag", "`ocikit copy LAYOUT:OLD LAYOUT:NEW`, or `ocikit registry get REF | ocikit registry put HOST/REPO:NEW`"},
		{"rm", "`ocikit untag` and `ocikit gc` in a layout, `ocikit registry delete` in a registry"},
		{"rmi", "`ocikit untag`, then `ocikit gc --delete`"},
		{"run", "`ocikit save IMAGE | docker load`, or `ocikit extract IMAGE DIR --bundle` for runc"},
		{"sign", "nothing is signed here; --referrers of `ocikit push`, pull, copy, save and bundle carries signatures"},
		{"squash", "`ocikit flatten`"},
		{"stat", "`ocikit inspect IMAGE`"},
		{"sync", "`ocikit pull --all` and `ocikit push --all`, or `ocikit copy --all` between layouts"},
		{"tree", "`ocikit inspect IMAGE`, or `ocikit registry referrers REF`"},
		{"unpack", "`ocikit extract IMAGE DIR`"},
		{"validate", "`ocikit verify IMAGE --deep`"},
	}
}

// foreignSteps are what follows "upload" or "registry" in people's minds.
func foreignSteps(first string) []foreignWord {
	if first == "upload" {
		return []foreignWord{
			{"close", "did you mean `ocikit upload finish`?"},
			{"commit", "did you mean `ocikit upload finish`?"},
			{"patch", "did you mean `ocikit upload chunk`?"},
			{"put", "did you mean `ocikit upload finish`?"},
			{"resume", "`ocikit upload status` finds out where to go on, `ocikit upload chunk` goes on"},
		}
	}
	const get = "`ocikit registry get REF` prints a manifest, with --blob a config or a layer"
	return []foreignWord{
		{"config", get},
		{"copy", "`ocikit pull REF LAYOUT`, then `ocikit push IMAGE REF`"},
		{"digest", "`ocikit registry head REF` prints the descriptor"},
		{"inspect", get},
		{"list", "did you mean `ocikit registry tags`?"},
		{"ls", "did you mean `ocikit registry tags`?"},
		{"manifest", get},
		{"push", "did you mean `ocikit push`?"},
		{"pull", "did you mean `ocikit pull`?"},
		{"repos", "repositories are not listed, `ocikit registry tags` lists tags"},
		{"rm", "did you mean `ocikit registry delete`?"},
		{"serve", "did you mean `ocikit serve`?"},
		{"tag", "`ocikit registry get REF | ocikit registry put HOST/REPO:NEW`"},
	}
}

// hintFor returns the hint for a word, or "".
func hintFor(words []foreignWord, word string) string {
	if i := slices.IndexFunc(words, func(w foreignWord) bool { return w.word == word }); i >= 0 {
		return words[i].hint
	}
	return ""
}

// suggest returns the hint for a word that is no command.
func suggest(word string, table []Command) string {
	if hint := hintFor(foreignWords(), word); hint != "" {
		return hint
	}
	if strings.HasPrefix(word, "-") {
		return "flags stand behind the command: `ocikit COMMAND " + word + "`"
	}
	var names []string
	for _, c := range table {
		first, step, _ := strings.Cut(c.Name, " ")
		if step == word {
			return fmt.Sprintf("did you mean `ocikit %s`?", c.Name)
		}
		names = append(names, first)
	}
	if near := nearest(word, names); near != "" {
		return fmt.Sprintf("did you mean `ocikit %s`?", near)
	}
	return "`ocikit help` lists the commands"
}

// suggestTopic is suggest for what follows "ocikit help".
func suggestTopic(word string, table []Command) string {
	var names []string
	for _, t := range topics() {
		names = append(names, t.Name)
	}
	if near := nearest(word, names); near != "" {
		return fmt.Sprintf("did you mean `ocikit help %s`?", near)
	}
	return suggest(word, table)
}

// suggestStep returns the hint for a word that is no step of a command like "upload".
func suggestStep(first, word string, steps []string) string {
	if hint := hintFor(foreignSteps(first), word); hint != "" {
		return hint
	}
	if near := nearest(word, steps); near != "" {
		return fmt.Sprintf("did you mean `ocikit %s %s`?", first, near)
	}
	if hint := hintFor(foreignWords(), word); hint != "" {
		return hint
	}
	return "the steps are " + strings.Join(steps, ", ")
}

// A foreignFlag is what flags of other tools are called here.
type foreignFlag struct {
	names string // without dashes, joined by blanks
	cmds  string // where they mean this, joined by commas; "" for every command
	hint  string
}

// means reports whether a row is about a command by name.
func (f foreignFlag) means(cmd string) bool { return slices.Contains(strings.Split(f.cmds, ", "), cmd) }

// has reports whether a hint that begins with a flag begins with one of those that there are.
func (f foreignFlag) has(own []string) bool {
	flag, _, _ := strings.Cut(f.hint, " ")
	return !strings.HasPrefix(flag, "-") || slices.Contains(own, strings.Trim(flag, "-,"))
}

// foreignFlags returns the table of flags, where the first row that fits counts.
func foreignFlags() []foreignFlag {
	const (
		credentials = "--username NAME with --password-stdin; `ocikit help credentials` tells more"
		secret      = "other users can read command lines: --password-stdin takes the password from standard input"
		pipeTag     = "a pipe into `ocikit tag LAYOUT:TAG` names the result"
		nameTag     = "the name follows the layout: LAYOUT:TAG"
	)
	return []foreignFlag{
		{"creds src-creds dest-creds u user", "", credentials},
		{"password p", "", secret},
		{"tls-verify src-tls-verify dest-tls-verify tls", "", "--plain-http talks HTTP, --insecure takes any certificate"},
		{"cacert cert-dir src-cert-dir dest-cert-dir", "", "--ca-file FILE trusts one more authority"},
		{"k", "", "--insecure takes any certificate"},
		{"registry-config", "", "--authfile FILE"},
		{"retry-times retries", "", "--retry N"},
		{"image", "", "the image is an operand: DIR:TAG"},
		{"layout", "", "the layout is an operand"},
		{"i input", "", "the file is an operand"},
		{"output", "", "-o FILE writes to a file"},
		{"quiet", "", "-q"},
		{"verbose debug", "", "-v, or --trace where a registry is talked to"},
		{"no-tty no-progress", "", "--progress none"},
		{"concurrency jobs", "", "-j N, where several things are done at once"},
		{"a all-tags", "pull, push, copy", "--all takes every tag; of an index every platform is taken unless --platform names one"},
		{"all-platforms multi-arch", "", "of an index every platform is taken unless --platform names one"},
		{"override-arch override-os arch os", "pull, copy, save, export, extract", "--platform OS/ARCH"},
		{"r recursive", "pull, push, copy", "--referrers takes signatures and SBOMs along"},
		{"preserve-digests", "", "digests never change on the way"},
		{"resume continue", "pull, push", "it goes on by itself; `ocikit push --state DIR` does so in the next process, too"},
		{"digestfile image-refs iidfile", "", "the digest is what is printed"},
		{"additional-tag", "push", "-t TAG"},
		{"format", "pull", "a layout is what it makes; `ocikit save` makes an archive of it"},
		{"from-oci-layout to-oci-layout oci-layout", "", "an IMAGE is in a layout, a REF in a registry; `ocikit help names` tells more"},
		{"b base", "append", "the base is the operand: `ocikit append IMAGE --layer FILE -t TAG`"},
		{"f new_layer file", "append", "--layer FILE"},
		{"append", "mutate", "`ocikit append IMAGE --layer FILE -t TAG`"},
		{"set-platform config-platform", "mutate", "--os, --arch and --variant"},
		{"exposed-ports config.exposedports", "", "--expose PORT[/PROTO]"},
		{"config.workingdir", "", "--workdir DIRECTORY"},
		{"config.stopsignal", "", "--stop-signal SIGNAL"},
		{"history.created_by", "", "--created-by TEXT"},
		{"architecture", "", "--arch CPU"},
		{"clear", "mutate, config", "'' removes a text or a list, --unset-env and --unset-label remove one of many"},
		{"compress layer-compress dest-compress dest-compress-format", "copy, mutate, push, pull, save", "`ocikit layers -h` shows how to compress layers in another way"},
		{"1 2 3 4 5 6 7 8 9 fast best", "gzip", "--level N"},
		{"d decompress", "gzip", "`ocikit cat --decompress`, or the program gunzip"},
		{"c stdout", "gzip", "standard output is where it goes, unless -o FILE is given"},
		{"dry-run n", "gc", "nothing is deleted unless --delete says so"},
		{"blob", "registry put", "`ocikit upload blob HOST/REPO FILE`"},
		{"platform", "registry get, registry head", "`ocikit registry get REF` lists the platforms of an index, each with the digest to ask for"},
		{"all a", "save", "name each image, or take `ocikit bundle --all`, which writes a layout as a tar"},
		{"raw", "inspect", "`ocikit cat IMAGE` prints the manifest as it is"},
		{"config", "inspect", "`ocikit inspect --json` holds it"},
		{"addr port http", "serve", "--listen HOST:PORT"},
		{"t tag", "layer, config, manifest, index", pipeTag},
		{"t tag", "pull, load, copy", nameTag},
		{"create", "append, mutate, rebase, flatten", "-t TAG"},
		{"file", "", "-o FILE writes to a file, operands and \"-\" are read"},
	}
}

// hintForFlag returns the hint of the table, or "". What umoci and regctl call by the part of
// the image, as config.env or history.author, has the last word as its name here.
func hintForFlag(cmd string, own []string, name string) string {
	for _, f := range foreignFlags() {
		if slices.Contains(strings.Fields(f.names), name) && (f.cmds == "" || f.means(cmd)) && f.has(own) {
			return f.hint
		}
	}
	for _, part := range []string{"config.", "config-", "history.", "manifest."} {
		if word, ok := strings.CutPrefix(name, part); ok && slices.Contains(own, word) {
			return fmt.Sprintf("did you mean %s?", dashed(word))
		}
	}
	return ""
}

// suggestFlag returns the hint for a flag that cmd does not have, or "".
func suggestFlag(cmd string, own []string, name string) string {
	if hint := hintForFlag(cmd, own, name); hint != "" {
		return hint
	}
	if near := nearest(name, own); near != "" {
		return fmt.Sprintf("did you mean %s?", dashed(near))
	}
	var others []string
	for _, c := range commands() {
		for _, f := range flagsOf(c) {
			if slices.Contains(f.names, dashed(name)) {
				others = append(others, c.Name)
			}
		}
	}
	if len(others) == 0 {
		return ""
	}
	if len(others) > 4 {
		others = append(others[:4], "others")
	}
	return fmt.Sprintf("%s is a flag of %s; `ocikit %s -h` lists those of %s", dashed(name), strings.Join(others, ", "), cmd, cmd)
}

// nearest returns the name that is at most two edits away from word, or "".
func nearest(word string, names []string) string {
	best, bestName := 3, ""
	for _, n := range names {
		if d := distance(word, n); d < best && d < len(word) && 2*d <= max(len(n), 3) {
			best, bestName = d, n
		}
	}
	return bestName
}

// distance is the number of letters to insert, delete, replace or swap with their neighbour
// between a and b.
func distance(a, b string) int {
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			d := last[j]
			if a[i] != b[j] {
				d++
			}
			d = min(d, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				d = min(d, before[j-1]+1)
			}
			row[j+1] = d
		}
		before, last = last, row
	}
	return last[len(b)]
}
