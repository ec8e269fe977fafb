package imagecmd

import (
	"cmp"
	"fmt"
	"strings"

	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci/image/why"
)

// whyWords says a cause in words, and what would have made the two equal, or "". rebuilt is as in
// writeCauses.
func whyWords(c why.Cause, rebuilt bool) (text, fix string) {
	if c.Tar != nil {
		text, fix = tarWords(*c.Tar)
	} else {
		text, fix = documentWords(c)
	}
	if rebuilt {
		fix = rebuildFix(c, fix)
	}
	return text, fix
}

// documentWords says a cause that is not in a tar. Its cases are the kinds of [why.Cause].
func documentWords(c why.Cause) (text, fix string) {
	switch c.Kind {
	case why.Kinds:
		if strings.Contains(c.Path, "/") {
			return fmt.Sprintf("an %s here, an %s there: the image is the one for %s in the index", c.Here, c.There, c.Path), "`--platform " + c.Path + "`"
		}
		text = fmt.Sprintf("an %s here, an %s there", c.Here, c.There)
		if c.Here != "index" && c.There != "index" {
			return text, ""
		}
		return text, "`--platform OS/ARCH`, which takes an image out of the index"
	case why.Algorithm:
		return fmt.Sprintf("digests are of %s here, of %s there", c.Here, c.There), "`--algorithm` of the commands that store"
	case why.Absent:
		return absentWords(c), ""
	case why.Family:
		return fmt.Sprintf("media types: %s's here, %s's there", c.Here, c.There), "`ocikit convert --types " + strings.ToLower(c.There) + "`"
	case why.Member:
		return memberWords(c), memberRemedy(c)
	case why.MemberOrder:
		if c.Path == "/config/Env" {
			return "/config/Env: the same variables in another order", memberRemedy(c)
		}
		return c.Path + ": the same in another order", memberRemedy(c)
	case why.JSON:
		return "the same JSON: " + map[string]string{
			string(why.Whitespace): "whitespace alone differs", string(why.KeyOrder): "the order of members alone differs",
		}[c.Here] + map[bool]string{true: "characters are written otherwise"}[c.Here == string(why.Escapes)], ""
	case why.Manifests:
		return fmt.Sprintf("order of the manifests: %s here, where %s is there", c.Here, c.There), "`ocikit index --manifest` in the same order"
	case why.PlatformHere:
		return "an entry for " + c.Path + " here, none there", ""
	case why.PlatformThere:
		return "an entry for " + c.Path + " there, none here", ""
	case why.LayerOrder:
		return fmt.Sprintf("the same %d layers in another order", c.Count), "`ocikit mutate --move-layer FROM:TO`"
	case why.LayersHere:
		return fmt.Sprintf("%s more here, from layer %s on: %s", show.Count(c.Count, "layer"), c.Path, c.Here), "`ocikit mutate --remove-layer " + c.Path + "`"
	case why.LayersThere:
		return fmt.Sprintf("%s more there, from layer %s on: %s", show.Count(c.Count, "layer"), c.Path, c.There), "`ocikit mutate --insert-layer " + c.Path + ":INPUT`"
	case why.Layering:
		return fmt.Sprintf("the same files in %s here, in %s there", c.Here, c.There), "`ocikit flatten` of both"
	case why.Files:
		return fmt.Sprintf("%s layers here, %s there, and other files: %d paths, %q first", c.Here, c.There, c.Count, c.Path), ""
	case why.Compression:
		return compressionWords(c)
	case why.GzipHeader:
		return gzipHeaderWords(c), "`gzip -n`, or `ocikit gzip`, which writes neither"
	case why.GzipEnd:
		return "the same compressed bytes, and more behind them: " + c.Here + " bytes here, " + c.There + " there", ""
	case why.ClaimedDiffID:
		return fmt.Sprintf("the same layer, but its diff ID in the config is %s here, %s there", c.Here, c.There), "`ocikit verify --deep` says which is wrong"
	case why.Bytes:
		return fmt.Sprintf("bytes differ from byte %s on (%s bytes here, %s there)", c.Path, c.Here, c.There), ""
	}

	return string(c.Kind), ""
}

func absentWords(c why.Cause) string {
	side := func(d string) string {
		if d == "" {
			return "is there to read"
		}
		return "is not to be had: " + d
	}
	return fmt.Sprintf("they differ, and cannot be compared: it %s here, it %s there", side(c.Here), side(c.There))
}

// memberWords says how a member of a document differs.
func memberWords(c why.Cause) (text string) {
	parts := strings.Split(c.Path, "/")

	// Two lists of different lengths: where they begin to differ, and by how much one is longer.
	if c.More != 0 {
		list := strings.Join(parts[:len(parts)-1], "/")
		side, more := "there", c.More
		if more < 0 {
			side, more = "here", -more
		}
		return fmt.Sprintf("%s: %d more %s, and from %s on: %s here, %s there", list, more, side, parts[len(parts)-1], valueText(c.Here), valueText(c.There))
	}

	if c.Count > 1 { // of history
		text = fmt.Sprintf("%s of %d history entries, %s first: %s here, %s there", parts[3], c.Count, c.Path, valueText(c.Here), valueText(c.There))
	} else {
		text = fmt.Sprintf("%s: %s here, %s there", c.Path, valueText(c.Here), valueText(c.There))
	}

	return text
}

// valueText shortens a JSON value to what fits in a line.
func valueText(s string) string {
	if s == "" {
		return "none"
	}
	const most = 80
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return s
}

// These are the names that causes give our own encoders, before their levels.
const (
	ownEncoder = "ocikit -"
	ownZstd    = "ocikit zstd -"
)

func compressionWords(c why.Cause) (text, fix string) {
	here, there := encoderText(c.Here), encoderText(c.There)
	text = "compressed otherwise: " + here + " here, " + there + " there"
	switch {
	case here == there && c.Path == why.SameContent:
		text = "the same content, compressed to other bytes by " + here + ", with another level or release"
	case c.Path == why.SameContent:
		text = "the same content, " + text
	}

	// The remedy must give the same bytes on both sides. Where our encoder made one of them, that
	// side stays and only the other is converted, with the same level.
	fix = "`ocikit convert --compress gzip` of both"
	switch {
	case c.Here == "none" || c.There == "none":
		fix = "`ocikit convert --compress` of images, `ocikit gzip` of files"
	case strings.Contains(c.Here, "zstd") && strings.Contains(c.There, "zstd"):
		fix = "`ocikit convert --compress zstd` of both"
	}

	for _, encoder := range []string{c.There, c.Here} {
		if level, ok := strings.CutPrefix(encoder, ownZstd); ok {
			fix = "`ocikit convert --compress zstd --level " + level + "`"
		} else if level, ok := strings.CutPrefix(encoder, ownEncoder); ok {
			fix = "`ocikit convert --compress gzip --level " + level + "`"
		}
	}

	return text, fix
}

// encoderText names an encoder: "gzip by pigz, level 6".
func encoderText(s string) string {
	name, level, ok := strings.Cut(s, " -")
	switch {
	case s == "none":
		return "not compressed"
	case !ok:
		return s
	case strings.HasPrefix(s, ownZstd):
		return "zstd by ocikit, level " + level
	}
	return "gzip by " + name + ", level " + level
}

func gzipHeaderWords(c why.Cause) string {
	here, there := cmp.Or(c.Here, "none"), cmp.Or(c.There, "none")
	if c.Path == "flags" {
		return fmt.Sprintf("header of the gzip file: %s here, %s there", here, there)
	}
	return fmt.Sprintf("%s in the header of the gzip file: %s here, %s there", c.Path, here, there)
}
