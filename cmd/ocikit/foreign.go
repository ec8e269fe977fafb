package main

import "ocikit/cmd/ocikit/internal/cli"

// foreign returns what other tools call things.
func foreign() cli.Foreign {
	f := cli.Foreign{
		Words: foreignRows(foreignWords()),
		Steps: map[string][]cli.ForeignWord{"upload": foreignRows(foreignUploads()), "registry": foreignRows(foreignRegistry())},
	}
	for _, row := range foreignFlags() {
		f.Flags = append(f.Flags, cli.ForeignFlag{Names: row[0], Cmds: row[1], Hint: row[2]})
	}
	return f
}

func foreignRows(table [][2]string) (words []cli.ForeignWord) {
	for _, row := range table {
		words = append(words, cli.ForeignWord{Word: row[0], Hint: row[1]})
	}
	return words
}

// foreignWords returns the words of other tools that are not commands here, sorted.
func foreignWords() [][2]string {
	return [][2]string{
		{"annotate", "`ocikit mutate IMAGE --annotation K=V -t TAG`"},
		{"attach", "`ocikit manifest --subject`, as `ocikit manifest -h` shows, then `ocikit push --referrers`"},
		{"auth", "`ocikit login HOST`; `ocikit help credentials` says where passwords come from"},
		{"backup", "`ocikit pull` into a layout, then `ocikit save` or `ocikit bundle`"},
		{"blob", "`ocikit upload blob` and `ocikit registry get --blob`, or `ocikit put` and `ocikit cat` in a layout"},
		{"build", "no Dockerfiles: pipe tar, layer, config, manifest, tag; `ocikit help descriptors`"},
		{"catalog", "`ocikit registry catalog HOST`"},
		{"commit", "`ocikit diff OLD NEW --layer`, then `ocikit append`"},
		{"compare", "`ocikit diff OLD NEW` for what differs, `ocikit why A B` for why digests do"},
		{"cp", "`ocikit copy`, push and pull for images, `ocikit export IMAGE PATH | tar -x` for files"},
		{"create", "`ocikit init`, or `ocikit extract IMAGE DIR --bundle` for a runtime"},
		{"delete", "`ocikit untag` and `ocikit gc` in a layout, `ocikit registry delete` in a registry"},
		{"discover", "`ocikit registry referrers REF`, or `ocikit copy IMAGE IMAGE --referrers --dry-run` in a layout"},
		{"fetch", "`ocikit pull REF LAYOUT`, or `ocikit registry get REF` for a manifest alone"},
		{"fsck", "`ocikit verify LAYOUT`"},
		{"gunzip", "`ocikit gzip --decompress`"},
		{"history", "`ocikit inspect IMAGE`"},
		{"image", "commands act on images by themselves; `ocikit help` lists them"},
		{"images", "`ocikit ls LAYOUT`"},
		{"import", "`ocikit load` for archives of images, `ocikit layer` for a tar of files"},
		{"insert", "`ocikit append IMAGE --layer DIR -t TAG`, or `ocikit tar FILE:DEST | ocikit append IMAGE -t TAG`"},
		{"list", "`ocikit ls LAYOUT`"},
		{"list-tags", "`ocikit registry tags HOST/REPO`"},
		{"mirror", "`ocikit copy --all docker://HOST/REPO docker://HOST`, or by way of a layout with `ocikit pull --all` and `ocikit push --all`"},
		{"new", "`ocikit init DIR`"},
		{"optimize", "`ocikit convert IMAGE --compress estargz -t TAG`"},
		{"platforms", "`ocikit inspect IMAGE`, or `ocikit registry get REF`"},
		{"prune", "`ocikit gc LAYOUT`"},
		{"raw", "`ocikit inspect IMAGE --json`, or `ocikit cat` for the bytes"},
		{"rebuild", "`ocikit why --rebuild IMAGE SRC` makes a layer again and compares"},
		{"recompress", "`ocikit convert IMAGE --compress HOW -t TAG`"},
		{"rename", "`ocikit copy LAYOUT:OLD LAYOUT:NEW`, then `ocikit untag LAYOUT:OLD`"},
		{"repack", "`ocikit diff OLD NEW --layer`, then `ocikit append`"},
		{"restore", "`ocikit load`, or `ocikit unbundle`"},
		{"retag", "`ocikit copy LAYOUT:OLD LAYOUT:NEW`, or `ocikit copy docker://HOST/REPO:OLD docker://HOST/REPO:NEW`"},
		{"rm", "`ocikit untag` and `ocikit gc` in a layout, `ocikit registry delete` in a registry"},
		{"rmi", "`ocikit untag`, then `ocikit gc --delete`"},
		{"run", "`ocikit save IMAGE | docker load`, or `ocikit extract IMAGE DIR --bundle` for runc"},
		{"sign", "nothing is signed here; --referrers of `ocikit push`, pull, copy, save and bundle carries signatures"},
		{"squash", "`ocikit flatten`"},
		{"stat", "`ocikit inspect IMAGE`"},
		{"sync", "`ocikit copy --all` from any place to any other"},
		{"tree", "`ocikit inspect IMAGE`, or `ocikit registry referrers REF`"},
		{"unpack", "`ocikit extract IMAGE DIR`"},
		{"validate", "`ocikit verify IMAGE --deep`"},
	}
}

// foreignUploads are what follows "upload" in people's minds.
func foreignUploads() [][2]string {
	return [][2]string{
		{"close", "did you mean `ocikit upload finish`?"},
		{"commit", "did you mean `ocikit upload finish`?"},
		{"patch", "did you mean `ocikit upload chunk`?"},
		{"put", "did you mean `ocikit upload finish`?"},
		{"resume", "`ocikit upload status` finds out where to go on, `ocikit upload chunk` goes on"},
	}
}

// foreignRegistry is what follows "registry" in people's minds.
func foreignRegistry() [][2]string {
	const get = "`ocikit registry get REF` prints a manifest, with --blob a config or a layer"
	return [][2]string{
		{"config", get},
		{"copy", "`ocikit copy docker://HOST/REPO:TAG docker://HOST/REPO:TAG`"},
		{"digest", "`ocikit registry head REF` prints the descriptor"},
		{"inspect", get},
		{"list", "did you mean `ocikit registry tags`?"},
		{"ls", "did you mean `ocikit registry tags`?"},
		{"login", "did you mean `ocikit login`?"},
		{"logout", "did you mean `ocikit logout`?"},
		{"manifest", get},
		{"push", "did you mean `ocikit push`?"},
		{"pull", "did you mean `ocikit pull`?"},
		{"repos", "did you mean `ocikit registry catalog`?"},
		{"rm", "did you mean `ocikit registry delete`?"},
		{"serve", "did you mean `ocikit serve`?"},
		{"tag", "`ocikit registry get REF | ocikit registry put HOST/REPO:NEW`"},
	}
}

// foreignFlags returns a row for each meaning: names without dashes, the commands that it is about
// ("" for every command), and the hint. The first row that fits counts.
func foreignFlags() [][3]string {
	const (
		credentials = "--username NAME with --password-stdin; `ocikit help credentials` tells more"
		secret      = "other users can read command lines: --password-stdin takes the password from standard input"
		pipeTag     = "a pipe into `ocikit tag LAYOUT:TAG` names the result"
		nameTag     = "the name follows the layout: LAYOUT:TAG"
	)
	return [][3]string{
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
		{"compress layer-compress dest-compress dest-compress-format", "copy, mutate, push, pull, save", "`ocikit convert IMAGE --compress HOW -t TAG`"},
		{"1 2 3 4 5 6 7 8 9 fast best", "gzip", "--level N"},
		{"d", "gzip, zstd", "--decompress"},
		{"c stdout", "gzip", "standard output is where it goes, unless -o FILE is given"},
		{"dry-run n", "gc", "nothing is deleted unless --delete says so"},
		{"blob", "registry put", "`ocikit upload blob HOST/REPO FILE`"},
		{"platform", "registry get, registry head", "`ocikit registry get REF` lists the platforms of an index, each with the digest to ask for"},
		{"a", "save, bundle", "--all takes every image of a layout; of an index every platform is taken unless --platform names one"},
		{"raw", "inspect", "`ocikit cat IMAGE` prints the manifest as it is"},
		{"config", "inspect", "`ocikit cat IMAGE --config` prints it as it is"},
		{"f format template", "inspect, ls, resolve, files, layers, registry tags, registry get, registry head", "--json, where there is such a flag, for programs such as jq; descriptors are JSON anyway"},
		{"addr port http", "serve", "--listen HOST:PORT"},
		{"t tag", "layer, config, manifest, index", pipeTag},
		{"t tag", "pull, load, copy", nameTag},
		{"create", "append, mutate, rebase, flatten", "-t TAG"},
		{"C directory", "tar", "the folder is the operand: `ocikit tar DIR`, or DIR:DEST to put it below DEST"},
		{"cf f czf cvf", "tar", "-o FILE writes to a file, SRC is the operand: `ocikit tar DIR -o FILE`"},
		{"c x t xf tf", "tar", "`ocikit tar DIR` writes a tar, the program tar reads one"},
		{"file", "", "-o FILE writes to a file, operands and \"-\" are read"},
	}
}
