package cause

import (
	"archive/tar"
	"bytes"
	"path"
	"strconv"
	"strings"

	"ocikit/tarutil"
)

// appendSpelling appends how a header is written, whatever it says. There is a line "part=way" for each
// part that programs write in several ways. It is made for every entry, so it has to be cheap: numbers
// are described by codes, which numberWords turns into words if they are shown.
func appendSpelling(b []byte, h *tarutil.RawHeader) []byte {
	longNames := 0
	for _, ext := range h.Before {
		switch ext.Block[atType] {
		case tar.TypeXHeader:
			b = appendExtended(b, ext, h)
		case tar.TypeXGlobalHeader:
			b = appendKeys(b, ext.Content)
		default:
			longNames++
			b = appendBlock(b, "long name: ", ext.Block)
		}
	}

	if longNames > 0 {
		b = strconv.AppendInt(append(b, "long names="...), int64(longNames), 10)
		b = append(b, '\n')
	}

	b = appendBlock(b, "", h.Main)
	if h.LongName || h.Records["path"] != "" { // the name in the header is what could be put there
		b = appendText(append(b, "short name="...), h.Main[:atMode])
	}

	return b
}

// Where some fields stand.
const (
	atMode  = 100
	atType  = 156
	atMagic = 257
)

// appendBlock appends the spelling of one header block. where says which one it is.
func appendBlock(b []byte, where string, block []byte) []byte {
	for _, f := range tarutil.HeaderFields() {
		field := block[f.From:f.To]
		switch f.Name {
		case "name", "linkname", "uname", "gname":
			// A text ends at its first zero byte. Some programs leave rubbish behind it.
			if i := bytes.IndexByte(field, 0); i >= 0 && len(bytes.Trim(field[i:], "\x00")) > 0 {
				b = appendPart(b, where, f.Name)
				b = append(b, "bytes behind its end\n"...)
			}
		case "magic":
			b = appendText(appendPart(b, where, f.Name), field)
		case "prefix":
			b = appendPart(b, where, f.Name)
			b = strconv.AppendInt(b, int64(len(text(field))), 10)
			b = append(b, '\n')

			// The last twelve bytes of a ustar header are unused, and zero in most.
			if tail := block[f.To-12:]; string(block[atMagic:atMagic+6]) == "ustar\x00" && len(bytes.Trim(tail, "\x00")) > 0 {
				b = appendText(appendPart(b, where, "end"), tail)
			}
		case "type":
			if field[0] == 0 {
				b = append(appendPart(b, where, f.Name), "NUL\n"...)
			}
		default:
			b = append(appendNumber(appendPart(b, where, f.Name), field), '\n')
		}
	}

	return b
}

// appendPart appends the begin of a line.
func appendPart(b []byte, where, name string) []byte {
	return append(append(append(b, where...), name...), '=')
}

// appendText appends bytes as one line.
func appendText(b, field []byte) []byte {
	return append(strconv.AppendQuote(b, strings.TrimRight(string(field), "\x00")), '\n')
}

// appendNumber says how a number is written: how many digits, and N for each NUL byte, B for each
// blank before and behind them.
func appendNumber(b, field []byte) []byte {
	if field[0]&0x80 != 0 {
		return append(b, "binary"...)
	}

	// Programs differ in the number of digits, in what ends them, and in blanks before them. The
	// digits themselves are what the header says.
	digits := 0
	count := func() {
		if digits > 0 {
			b = strconv.AppendInt(b, int64(digits), 10)
		}
		digits = 0
	}

	for _, c := range field {
		switch c {
		case 0:
			count()
			b = append(b, 'N')
		case ' ':
			count()
			b = append(b, 'B')
		default:
			digits++
		}
	}

	count()
	return b
}

// numberWords turns a code of appendNumber into words, and passes other texts on.
func numberWords(code string) string {
	if code == "" || strings.Trim(code, "0123456789BN") != "" {
		return code
	}

	if digits := strings.Trim(code, "BN"); digits == "" {
		return "no digits"
	}

	var words []string
	for rest := code; rest != ""; {
		n := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		switch {
		case n > 0:
			words = append(words, rest[:n]+" digits")
			rest = rest[n:]
			continue
		case rest[0] == 'N':
			words = append(words, "NUL")
		default:
			words = append(words, "blank")
		}
		rest = rest[1:]
	}

	return strings.Join(words, ", ")
}

// appendExtended appends the spelling of an extended header: the pattern of its name, its numbers, which
// mean nothing, and the keys of its records.
func appendExtended(b []byte, ext tarutil.ExtendedBlock, h *tarutil.RawHeader) []byte {
	// Programs make the name from that of the entry, as in %d/PaxHeaders/%f. What belongs to the
	// entry is taken out, or every name would be a difference.
	dir, base := path.Split(strings.TrimSuffix(h.Name, "/"))
	name := text(ext.Block[:atMode])
	if strings.HasSuffix(name, "/"+base) {
		name = strings.TrimSuffix(name, base) + "%f"
	}

	if d := strings.TrimSuffix(dir, "/"); d != "" && strings.HasPrefix(name, d+"/") {
		name = "%d" + name[len(d):]
	} else if d == "" && strings.HasPrefix(name, "./") {
		name = "%d" + name[1:]
	}

	if len(name) > 90 { // it was cut
		name = "cut"
	}

	b = append(append(append(b, "name of extended headers="...), name...), '\n')
	for _, f := range tarutil.HeaderFields() {
		field := ext.Block[f.From:f.To]
		switch f.Name {
		case "mode", "uid", "gid", "mtime":
			b = append(append(b, f.Name...), " of extended headers="...)
			if bytes.Equal(field, h.Main[f.From:f.To]) {
				b = append(b, "of the entry\n"...)
			} else {
				b = appendText(b, field)
			}
		case "magic", "uname", "gname", "devmajor", "devminor":
			b = append(append(b, f.Name...), " of extended headers="...)
			b = appendText(b, field)
		}
	}

	return appendKeys(b, ext.Content)
}

// appendKeys appends which records an extended header has, in their order. Extended attributes are told
// by a cause of their own.
func appendKeys(b, content []byte) []byte {
	b = append(b, "records="...)
	for rest := content; len(rest) > 0; {
		digits, _, ok := bytes.Cut(rest, []byte(" "))
		n, err := strconv.Atoi(string(digits))
		if !ok || err != nil || n <= len(digits)+1 || n > len(rest) {
			break
		}
		key, _, _ := bytes.Cut(rest[len(digits)+1:n], []byte("="))
		if !isXattr(string(key)) {
			b = append(append(b, key...), ',')
		}
		rest = rest[n:]
	}
	return append(b, '\n')
}

// text returns a field up to its first NUL byte.
func text(field []byte) string {
	if i := bytes.IndexByte(field, 0); i >= 0 {
		field = field[:i]
	}
	return string(field)
}
