package imagecmd

import (
	"encoding/json"
	"strings"
	"unicode"

	"ocikit/oci/image/why"
	"ocikit/tarutil/cause"
)

// A memberFlag says which flag of mutate sets a member of a document, and which one removes it. A
// member without a flag is changed by a JSON patch.
type memberFlag struct {
	document string // config, manifest, index or layer
	pointer  string // a "*" is the name of the last component, at its end
	set      string
	unset    string
	named    bool // the value is NAME=VALUE
	whole    bool // the value is all of a list or an object, of which the pointer may name a part
	clears   bool // an empty value removes it
}

func memberFlags() []memberFlag {
	return []memberFlag{
		{document: "config", pointer: "/created", set: "--created"},
		{document: "config", pointer: "/author", set: "--author", clears: true},
		{document: "config", pointer: "/architecture", set: "--arch"},
		{document: "config", pointer: "/os", set: "--os"},
		{document: "config", pointer: "/variant", set: "--variant"},
		{document: "config", pointer: "/config/Env/*", set: "--env", unset: "--unset-env"},
		{document: "config", pointer: "/config/Labels/*", set: "--label", unset: "--unset-label", named: true},
		{document: "config", pointer: "/config/WorkingDir", set: "--workdir", clears: true},
		{document: "config", pointer: "/config/User", set: "--user", clears: true},
		{document: "config", pointer: "/config/StopSignal", set: "--stop-signal", clears: true},
		{document: "config", pointer: "/config/Entrypoint", set: "--entrypoint", whole: true, clears: true},
		{document: "config", pointer: "/config/Cmd", set: "--cmd", whole: true, clears: true},
		{document: "config", pointer: "/config/Healthcheck", set: "--healthcheck", whole: true, clears: true},
		{document: "config", pointer: "/config/Shell", set: "--shell", whole: true, clears: true},
		{document: "config", pointer: "/config/OnBuild", set: "--onbuild", whole: true, clears: true},
		{document: "config", pointer: "/config/ExposedPorts/*", set: "--expose"},
		{document: "config", pointer: "/config/Volumes/*", set: "--volume"},
		{document: "manifest", pointer: "/annotations/*", set: "--annotation", unset: "--unset-annotation", named: true},
		{document: "manifest", pointer: "/artifactType", set: "--artifact-type"},
		{document: "manifest", pointer: "/subject/*", set: "--subject"},
		{document: "index", pointer: "/annotations/*", set: "--index-annotation", named: true},
		{document: "layer", pointer: "/annotations/*", set: "--layer-annotation", named: true},
	}
}

// covers reports whether the flag can make the member that differs the same: only a flag that sets all of
// a list changes its order or its length.
func (f memberFlag) covers(c why.Cause) bool {
	if f.whole {
		return c.Path == f.pointer || strings.HasPrefix(c.Path, f.pointer+"/")
	}
	prefix, any := strings.CutSuffix(f.pointer, "*")
	return (f.pointer == c.Path || any && strings.HasPrefix(c.Path, prefix)) && c.Kind != why.MemberOrder && c.More == 0
}

// memberRemedy returns the command that makes a member of A the same as in B, in backquotes, or ""
// if there is none.
func memberRemedy(c why.Cause) string {
	document := ""
	if n := len(c.Where); n > 0 {
		document = c.Where[n-1]
		if n > 1 && (c.Where[n-2] == "manifest" || c.Where[n-2] == "index") { // a descriptor in it
			return "`ocikit mutate --json-patch " + c.Where[n-2] + "=FILE`"
		}
	}

	number := ""
	if n, ok := strings.CutPrefix(document, "layer "); ok {
		document, number = "layer", n+":"
	}

	parts := strings.Split(c.Path, "/")
	if document == "config" && len(parts) > 2 && parts[1] == "history" {
		return historyRemedy(c, parts, plainValue(c.There))
	}

	if remedy := flagRemedy(c, document, number, parts[len(parts)-1]); remedy != "" {
		return remedy
	}

	// The descriptor of a layer stands in the manifest.
	switch document {
	case "config":
		return "`ocikit mutate --json-patch FILE`"
	case "layer":
		document = "manifest"
	case "manifest", "index":
	default:
		return "" // a file alone
	}

	return "`ocikit mutate --json-patch " + document + "=FILE`"
}

// flagRemedy is memberRemedy for the members that have a flag. number stands before the value of one for a
// layer, and last is the last word of the pointer.
func flagRemedy(c why.Cause, document, number, last string) string {
	// Names in a JSON pointer escape the slash and the tilde (RFC 6901, section 3).
	name := plain(strings.NewReplacer("~1", "/", "~0", "~").Replace(last))

	// The first flag wins that covers the member and can do what is needed.
	value := plainValue(c.There)
	for _, f := range memberFlags() {
		if f.document != document || !f.covers(c) {
			continue
		}
		flag := f.set
		switch {
		case c.There == "" && c.Path == f.pointer && f.clears:
			value = "''"
		case f.whole:
			value = "" // what there is of it there is not known whole
		case c.There == "" && f.unset == "":
			continue
		case c.There == "":
			flag, value = f.unset, name
		case f.named && (name == "" || value == ""):
			value = ""
		case f.named:
			value = number + name + "=" + value
		}
		return "`" + strings.TrimSpace("ocikit mutate "+flag+" "+value) + "`"
	}

	return ""
}

// historyRemedy is memberRemedy for an entry of the history, /history/N/MEMBER. It has a flag as long as
// both configs have the entry, and the member is one that mutate knows.
func historyRemedy(c why.Cause, parts []string, value string) string {
	if c.More != 0 || len(parts) != 4 {
		return "`ocikit mutate --drop-history` of both"
	}
	switch parts[3] {
	case "created", "created_by", "author", "comment":
	default:
		return "`ocikit mutate --json-patch FILE`"
	}
	if c.There == "" || value == "" {
		value = "VALUE"
	}
	return "`ocikit mutate --history " + parts[2] + ":" + parts[3] + "=" + value + "`"
}

// plainValue returns the JSON string value if it is plain, else "".
func plainValue(value string) string {
	var s string
	if json.Unmarshal([]byte(value), &s) != nil {
		return ""
	}
	return plain(s)
}

// plain returns s if it can stand in a shell without quotes and is not too long, else "": a command that is
// proposed must not hold another one, which an image would have people run.
func plain(s string) string {
	if len(s) > 100 {
		return ""
	}
	for _, c := range s {
		if !strings.ContainsRune("/.,:=_+-@%", c) && !unicode.IsLetter(c) && !unicode.IsDigit(c) {
			return ""
		}
	}
	return s
}

// rebuildFix turns a remedy for two layers into a flag of --rebuild, which makes one of them, or
// "".
func rebuildFix(c why.Cause, fix string) string {
	switch {
	// No flag imitates the encoder of another program.
	case c.Kind == why.Compression && !strings.HasPrefix(c.Here, ownEncoder) && !strings.HasPrefix(c.Here, ownZstd):
		return ""
	// Entries of the image that differ among themselves have what the files had.
	case c.Kind == why.Kind(cause.Times) && !c.Tar.SameHere:
		return "`--mtime keep`"
	case c.Kind == why.Kind(cause.Owners) && !c.Tar.SameHere:
		return "`--owner keep`"
	}

	// The sources are packed in order already, so a sort is not a remedy.
	for _, command := range []string{"`ocikit retar ", "`ocikit convert "} {
		if rest, ok := strings.CutPrefix(fix, command+"--"); ok && !strings.HasPrefix(rest, "sort") {
			return strings.TrimSuffix("`--"+rest, " of both")
		}
	}
	return ""
}
