package image

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// composed are letters that Unicode has both as one character and in two parts, a letter and a
// mark. A letter in whole is the letter at the same place in parts, with the mark. The table has
// the letters of the languages of Europe, some of Vietnamese, and those of Japanese; macOS takes
// apart more.
var composed = [...]struct {
	mark         rune
	whole, parts string
}{
	{'\u0300', "ÀÈÌÒÙàèìòùǸǹẀẁỲỳ", "AEIOUaeiouNnWwYy"},
	{'\u0301', "ÁÉÍÓÚÝáéíóúýĆćĹĺŃńŔŕŚśŹź", "AEIOUYaeiouyCcLlNnRrSsZz"},
	{'\u0302', "ÂÊÎÔÛâêîôûĈĉĜĝĤĥĴĵŜŝŴŵŶŷ", "AEIOUaeiouCcGgHhJjSsWwYy"},
	{'\u0303', "ÃÑÕãñõĨĩŨũẼẽỸỹ", "ANOanoIiUuEeYy"},
	{'\u0304', "ĀāĒēĪīŌōŪū", "AaEeIiOoUu"},
	{'\u0306', "ĂăĔĕĞğĬĭŎŏŬŭЙй", "AaEeGgIiOoUuИи"},
	{'\u0307', "ĊċĖėĠġİŻż", "CcEeGgIZz"},
	{'\u0308', "ÄËÏÖÜäëïöüÿŸЁё", "AEIOUaeiouyYЕе"},
	{'\u030a', "ÅåŮů", "AaUu"},
	{'\u030b', "ŐőŰű", "OoUu"},
	{'\u030c', "ČčĎďĚěŇňŘřŠšŤťŽžǍǎ", "CcDdEeNnRrSsTtZzAa"},
	{'\u0323', "ẠạẸẹỊịỌọỤụỴỵ", "AaEeIiOoUuYy"},
	{'\u0327', "ÇçĢĶķĻļŅņŖŗŞşŢţ", "CcGKkLlNnRrSsTt"},
	{'\u0328', "ĄąĘęĮįŲų", "AaEeIiUu"},
	{'\u3099', "がぎぐげござじずぜぞだぢづでどばびぶべぼガギグゲゴザジズゼゾダヂヅデドバビブベボ", "かきくけこさしすせそたちつてとはひふへほカキクケコサシスセソタチツテトハヒフヘホ"},
	{'\u309a', "ぱぴぷぺぽパピプペポ", "はひふへほハヒフヘホ"},
}

// foldName returns what is the same for names that differ by case or by Unicode form alone.
func foldName(name string) string {
	if isLowerASCII(name) {
		return name
	}

	var b strings.Builder
	for len(name) > 0 {
		c, n := utf8.DecodeRuneInString(name)
		if c == utf8.RuneError && n == 1 { // a byte that is not text is itself
			b.WriteByte(name[0])
			name = name[1:]
			continue
		}

		name = name[n:]
		base, mark := takeApart(c)
		b.WriteRune(foldCase(base))
		if mark != 0 {
			b.WriteRune(mark)
		}
	}

	return b.String()
}

func isLowerASCII(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c >= utf8.RuneSelf || c >= 'A' && c <= 'Z' })
}

// takeApart returns a letter and its mark, or c and 0.
func takeApart(c rune) (base, mark rune) {
	if c < 'À' {
		return c, 0
	}

	for _, row := range composed {
		at := strings.IndexRune(row.whole, c)
		if at < 0 {
			continue
		}
		// The two texts have as many letters, of different lengths in bytes.
		n := utf8.RuneCountInString(row.whole[:at])
		for _, base := range row.parts {
			if n == 0 {
				return base, row.mark
			}
			n--
		}
	}

	return c, 0
}

// foldCase returns one of the letters that differ by case alone, the small one of the first.
func foldCase(c rune) rune {
	least := c
	for next := unicode.SimpleFold(c); next != c; next = unicode.SimpleFold(next) {
		least = min(least, next)
	}
	return unicode.ToLower(least)
}
