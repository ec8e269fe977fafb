package imagecmd

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"ocikit/tarutil/cause"
)

// tarWords says in words how two tars differ, and what would make them equal, or "". Its cases are
// the kinds of [cause.Cause].
func tarWords(c cause.Cause) (text, fix string) {
	// The path of the root is empty.
	c.Path = cmp.Or(c.Path, "./")

	values := fmt.Sprintf("%s here, %s there", quietly(c.Here, c.SameHere && c.Count > 1), quietly(c.There, c.SameThere && c.Count > 1))
	switch c.Kind {
	case cause.OnlyHere, cause.OnlyThere:
		return onlyWords(c)
	case cause.Order:
		return orderWords(c), "`ocikit retar --sort` of both"
	case cause.Types:
		return "type" + of(c) + ": " + values, ""
	case cause.Content:
		return contentWords(c)
	case cause.Links:
		return fmt.Sprintf("target%s: %q here, %q there", of(c), c.Here, c.There), ""
	case cause.Devices:
		return "device numbers" + of(c) + ": " + values, ""
	case cause.Modes:
		if c.Detail == "umask" {
			values += ", as by another umask"
		}
		return "permissions" + of(c) + ": " + values, "`ocikit retar --mode normalize` of both"
	case cause.Owners:
		return "owner" + of(c) + ": " + values, "`ocikit retar --owner " + common(c, "UID:GID") + "` of both"
	case cause.OwnerNames:
		return fmt.Sprintf("names of the owner%s: %q here, %q there", of(c), c.Here, c.There), "`ocikit retar --owner UID:GID`, which writes no names"
	case cause.Times:
		return timesWords(c, values)
	case cause.AccessTimes:
		return "times of access or change" + of(c) + " are recorded (" + c.Detail + "): " + values, "`ocikit retar`, which writes none"
	case cause.Xattrs:
		return xattrWords(c), "`ocikit tar --xattrs none`"
	case cause.Names:
		return fmt.Sprintf("names%s are written otherwise: %q here, %q there", of(c), c.Here, c.There), "`ocikit retar` of both"
	case cause.Form:
		return formWords(c, values)
	case cause.Padding:
		return "the padding between entries is not zeros on one side" + where(c), "`ocikit retar` of both"
	case cause.End:
		return "end of the tar: " + values, "`ocikit retar` of both"
	case cause.Apart:
		return "the orders of entries lie too far apart to compare the rest", "`ocikit retar --sort` of both, then compare again"
	}

	return string(c.Kind), ""
}

// of says which entries a cause is about, with a blank in front.
func of(c cause.Cause) string {
	if c.Count == 1 {
		return fmt.Sprintf(" of %q", c.Path)
	}
	return fmt.Sprintf(" of %d entries, %q first", c.Count, c.Path)
}

// where says before which entry something stands, or nothing if that is the root.
func where(c cause.Cause) string {
	if c.Path == "./" {
		return ""
	}
	return fmt.Sprintf(", before %q", c.Path)
}

// quietly returns a value, with the word all in front if all entries have it.
func quietly(value string, all bool) string {
	if all {
		return "all " + value
	}
	return value
}

func onlyWords(c cause.Cause) (text, fix string) {
	side := "here"
	if c.Kind == cause.OnlyThere {
		side = "there"
	}
	if c.Path == "stargz.index.json" || strings.HasSuffix(c.Path, ".prefetch.landmark") {
		return "eStargz " + side + " alone: its table of contents is in the tar", "`ocikit convert --compress estargz`"
	}
	if c.Count == 1 {
		return fmt.Sprintf("%q is %s alone", c.Path, side), ""
	}
	return fmt.Sprintf("%d entries are %s alone, %q first", c.Count, side, c.Path), ""
}

func orderWords(c cause.Cause) string {
	sorted := ""
	switch {
	case c.SameHere && !c.SameThere:
		sorted = "sorted here, not there: "
	case c.SameThere && !c.SameHere:
		sorted = "sorted there, not here: "
	case c.SameHere:
		sorted = "sorted in two ways: "
	}
	return fmt.Sprintf("order of entries: %s%q here stands where %q does there", sorted, c.Here, c.There)
}

func contentWords(c cause.Cause) (text, fix string) {
	text = "content" + of(c)
	in := c.Inside
	values := fmt.Sprintf("%s here, %s there", cmp.Or(in.Here, "none"), cmp.Or(in.There, "none"))

	// If the format of the file is known, the text names the part that differs, and the way to make
	// it the same.
	switch in.What {
	case cause.GzipTime:
		return text + ": the time in its gzip header: " + values, "`gzip -n`"
	case cause.GzipName:
		return text + ": the name in its gzip header: " + values, "`gzip -n`"
	case cause.GzipForm:
		return text + ": the same in the gzip file, described otherwise in its header", "one gzip program and level"
	case cause.GzipCompression:
		return text + ": the same inside, compressed otherwise", "one gzip program and level"
	case cause.GzipContent:
		return text + ": inside the gzip file from byte " + in.Here + " on", ""
	case cause.ZipTimes:
		return fmt.Sprintf("%s: times of zip entries, %q first: %s", text, in.Name, values), "SOURCE_DATE_EPOCH, or `touch` and `zip -X`"
	case cause.ZipOrder:
		return text + ": the order of zip entries", "sorted input of zip"
	case cause.ZipContent:
		return text + zipMember(in.Name), ""
	case cause.ZipForm:
		return text + ": the same in the zip file, compressed or described otherwise", "`zip -X`"
	case cause.ArTimes:
		return fmt.Sprintf("%s: times of ar members, %q first: %s", text, in.Name, values), "`ar D`, `ranlib -D`"
	case cause.ArOwners:
		return fmt.Sprintf("%s: owners or modes of ar members, %q first: %s", text, in.Name, values), "`ar D`"
	case cause.ArContent:
		return fmt.Sprintf("%s: the ar member %q", text, in.Name), ""
	case cause.PycTime:
		return text + ": the time of the source in Python bytecode: " + values, "`python -m compileall --invalidation-mode unchecked-hash`, or SOURCE_DATE_EPOCH"
	case cause.BuildID:
		return text + ": the build ID alone: " + shortIDs(in), "`-ldflags=-buildid=` of Go, `-Wl,--build-id=none` of C"
	case cause.BuildIDs:
		return text + ": another build: build ID " + shortIDs(in), ""
	}

	if c.Offset >= 0 {
		text += fmt.Sprintf(" from byte %d on", c.Offset)
	}

	if c.Here != c.There {
		return text + fmt.Sprintf(" (%s bytes here, %s there)", c.Here, c.There), ""
	}

	return text, ""
}

func zipMember(name string) string {
	if name == "" {
		return ": other members in the zip file"
	}
	return fmt.Sprintf(": the zip entry %q", name)
}

func shortIDs(in cause.Inside) string {
	return fmt.Sprintf("%s here, %s there", valueText(cmp.Or(in.Here, "none")), valueText(cmp.Or(in.There, "none")))
}

func timesWords(c cause.Cause, values string) (text, fix string) {
	fix = "`ocikit retar --mtime " + common(c, "TIME") + "` of both"
	switch {
	case c.Detail == "fraction":
		text = "times" + of(c) + ": fractions of seconds are on one side alone: " + values
	case c.Shift != 0 && c.Count > 1 && !c.SameHere:
		side, shift := "later there", c.Shift
		if shift < 0 {
			side, shift = "earlier there", -shift
		}
		text = fmt.Sprintf("times%s: all %s %s: %s", of(c), shiftText(shift), side, values)
	default:
		text = "times" + of(c) + ": " + values
	}
	return text, fix
}

// common returns the value that all entries have on one side, which the other side can be given
// too; else other.
func common(c cause.Cause, other string) string {
	switch {
	case c.SameHere:
		return c.Here
	case c.SameThere:
		return c.There
	}
	return other
}

func shiftText(d time.Duration) string {
	if d < 100*time.Hour {
		return d.String()
	}
	return fmt.Sprintf("%.0f days", d.Hours()/24)
}

func xattrWords(c cause.Cause) string {
	name := fmt.Sprintf("extended attribute %q%s: ", c.Detail, of(c))
	switch {
	case c.Here == c.There:
		return name + "another value"
	case c.Here == "none":
		return name + "there alone"
	}
	return name + "here alone"
}

func formWords(c cause.Cause, values string) (text, fix string) {
	text = "form of the headers" + of(c) + ": " + values
	switch {
	case c.Detail == "":
	case c.Detail == "fractions":
		return text + ", and PAX keeps fractions of seconds", "`ocikit retar --mtime TIME` of both"
	case c.Detail == "owner-names":
		return text + ", and V7 has no names of owners", "`ocikit retar --owner UID:GID` of both"
	case c.Here == "" && c.There == "":
		text = "headers" + of(c) + " are written with " + c.Detail
	default:
		text = fmt.Sprintf("headers%s are written otherwise: %s: %s here, %s there", of(c), c.Detail, cmp.Or(c.Here, "none"), cmp.Or(c.There, "none"))
	}
	return text, "`ocikit retar` of both"
}
