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
		{"attach", "`ocikit manifest --subject`, then `ocikit push --referrers`"},
		{"auth", "there is no login; `ocikit help credentials` says where passwords come from"},
		{"backup", "`ocikit pull` into a layout, then `ocikit save` or `ocikit bundle`"},
		{"blob", "`ocikit upload blob` sends one, `ocikit registry get --blob` fetches one"},
		{"build", "no Dockerfiles: pipe tar, layer, config, manifest, tag; `ocikit help descriptors`"},
		{"catalog", "repositories are not listed, `ocikit registry tags` lists tags"},
		{"cp", "`ocikit copy` between layouts, `ocikit push` and `ocikit pull` for registries"},
		{"create", "`ocikit init`, or `ocikit extract IMAGE DIR --bundle` for a runtime"},
		{"discover", "`ocikit registry referrers REF`"},
		{"fetch", "`ocikit pull REF LAYOUT`, or `ocikit registry get REF` for a manifest alone"},
		{"history", "`ocikit inspect IMAGE`"},
		{"image", "commands act on images by themselves; `ocikit help` lists them"},
		{"images", "`ocikit ls LAYOUT`"},
		{"import", "`ocikit load` for archives of images, `ocikit layer` for a tar of files"},
		{"insert", "`ocikit append IMAGE --layer DIR -t TAG`"},
		{"list", "`ocikit ls LAYOUT`"},
		{"list-tags", "`ocikit registry tags HOST/REPO`"},
		{"login", "there is no login; `ocikit help credentials` says where passwords come from"},
		{"logout", "nothing is stored here; `ocikit help credentials` says where passwords come from"},
		{"new", "`ocikit init DIR`"},
		{"optimize", "`ocikit append --compress estargz`, or `ocikit layer --compress estargz`"},
		{"raw", "`ocikit inspect IMAGE --json`, or `ocikit cat` for the bytes"},
		{"repack", "`ocikit diff OLD NEW --layer`, then `ocikit append`"},
		{"restore", "`ocikit load`, or `ocikit unbundle`"},
		{"rm", "`ocikit untag` and `ocikit gc` in a layout, `ocikit registry delete` in a registry"},
		{"rmi", "`ocikit untag`, then `ocikit gc --delete`"},
		{"run", "`ocikit save IMAGE | docker load`, or `ocikit extract IMAGE DIR --bundle` for runc"},
		{"squash", "`ocikit flatten`"},
		{"stat", "`ocikit inspect IMAGE`"},
		{"sync", "`ocikit push --all`, or `ocikit copy` for one image between layouts"},
		{"unpack", "`ocikit extract IMAGE DIR`"},
		{"validate", "`ocikit verify IMAGE --deep`"},
	}
}

// suggest returns the hint for a word that is no command.
func suggest(word string, table []Command) string {
	words := foreignWords()
	if i := slices.IndexFunc(words, func(w foreignWord) bool { return w.word == word }); i >= 0 {
		return words[i].hint
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
	switch near := nearest(word, steps); {
	case near != "":
		return fmt.Sprintf("did you mean `ocikit %s %s`?", first, near)
	case first == "registry" && (word == "ls" || word == "list"):
		return "did you mean `ocikit registry tags`?"
	}
	return "the steps are " + strings.Join(steps, ", ")
}

// foreignFlags are flags of other tools, and what they are called here.
func foreignFlags() map[string]string {
	return map[string]string{
		"creds":           "--username NAME with --password-stdin; `ocikit help credentials` tells more",
		"dest-creds":      "--username NAME with --password-stdin; `ocikit help credentials` tells more",
		"password":        "other users can read command lines: --password-stdin takes it from standard input",
		"p":               "other users can read command lines: --password-stdin takes the password from standard input",
		"tls-verify":      "--plain-http talks HTTP, --insecure takes any certificate",
		"dest-tls-verify": "--plain-http talks HTTP, --insecure takes any certificate",
		"src-tls-verify":  "--plain-http talks HTTP, --insecure takes any certificate",
		"output":          "-o FILE writes to a file",
		"file":            "-o FILE writes to a file, operands and \"-\" are read",
		"quiet":           "-q",
		"verbose":         "-v",
		"debug":           "-v, or --trace where a registry is talked to",
		"concurrency":     "-j N, where several things are done at once",
	}
}

// suggestFlag returns the hint for a flag that cmd does not have, or "".
func suggestFlag(cmd string, own []string, name string) string {
	if near := nearest(name, own); near != "" {
		return fmt.Sprintf("did you mean %s?", dashed(near))
	}
	if hint := foreignFlags()[name]; hint != "" {
		return hint
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
