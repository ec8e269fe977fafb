package display

import (
	"fmt"
	"strings"
	"time"

	"ocikit/cmd/ocikit/internal/show"
)

// The widths of what stands on a line, in columns. What does not fit is left out, the least
// needed first: the note, the bar, the rate, the time, the bytes, the percentage.
const (
	labelWidth   = 12 // of a digest; names of files get more where there is room
	percentWidth = 4
	rateWidth    = 12
	etaWidth     = 6
	minBar       = 10
	maxBar       = 30
)

// A progressRow is one line before it is known how much of it fits.
type progressRow struct {
	label    string
	at, size int64 // size 0 is not known
	rate     float64
	state    string   // in place of rate and time
	notes    []string // as many as there is room for
}

// frame returns the lines that show the state on a terminal of a size. No line is wider than
// the terminal less one column, so that none wraps, and there are fewer of them than it has
// rows.
func (s *progressState) frame(now time.Time, cols, rows int) []string {
	var list []progressRow
	room := max(rows-1, 1)
	total := s.count > 1 || len(s.tasks) > 1
	if total {
		room--
	}

	for _, t := range s.running[:min(len(s.running), room)] {
		list = append(list, t.row(now))
	}

	if total {
		list = append(list, s.total(now, len(s.running)-len(list)))
	}

	// Labels and bytes are as wide on all lines, so that columns stand below each other.
	names, amounts := labelWidth, 0
	for _, r := range list {
		names = max(names, columns(r.label))
		amounts = max(amounts, len(r.amount()))
	}

	// A long name leaves two thirds to what is measured.
	names = min(names, max(labelWidth, cols/3-2))
	lines := make([]string, len(list))
	for i, r := range list {
		lines[i] = r.format(cols-1, names, amounts)
	}

	return lines
}

func (t *progressTask) row(now time.Time) progressRow {
	r := progressRow{label: label(t.name), at: t.at, size: t.size, rate: t.meter.rate(now, t.at)}
	switch {
	case t.committing:
		r.state = "committing"
	case t.note != "":
		r.notes = []string{t.note}
	case t.resumed > 0:
		r.notes = []string{"resumed", "at " + show.Size(t.resumed)}
	}
	return r
}

// total sums up all tasks, shown or hidden.
func (s *progressState) total(now time.Time, hidden int) progressRow {
	r := progressRow{label: "total", at: s.at, size: s.size, rate: s.meter.rate(now, s.moved)}
	done := fmt.Sprintf("%d done", s.ended)
	if s.count > 0 {
		done = fmt.Sprintf("%d/%d", min(s.ended, s.count), s.count)
	}

	r.notes = append(r.notes, done)
	for _, n := range []struct {
		n    int
		text string
	}{{hidden, "%d more"}, {s.exists, "%d present"}, {s.mounted, "%d mounted"}, {s.resumed, "%d resumed"}} {
		if n.n > 0 {
			r.notes = append(r.notes, fmt.Sprintf(n.text, n.n))
		}
	}

	return r
}

// label shortens the name of a task: a digest to its first digits, a path to its last name.
func label(name string) string {
	if alg, hex, ok := strings.Cut(name, ":"); ok && (alg == "sha256" || alg == "sha512") && len(hex) >= labelWidth {
		return hex[:labelWidth]
	}
	if i := strings.LastIndexAny(strings.TrimRight(name, `/\`), `/\`); i >= 0 {
		name = name[i+1:]
	}
	return show.Printable(name)
}

// format writes a row into so many columns, with so many for the label and the bytes.
func (r progressRow) format(width, nameWidth, amountWidth int) string {
	if room := width - 1 - amountWidth; r.size <= 0 && room > 0 {
		nameWidth = min(nameWidth, room) // there is nothing but the bytes to see
	}

	// Fields take their columns in the order in which they are needed, until there are none.
	left := width - nameWidth
	take := func(n int) bool {
		if left < n+1 {
			return false
		}
		left -= n + 1
		return true
	}

	var percent, amount, eta, rate, bar string
	if r.size > 0 && take(percentWidth) {
		percent = fmt.Sprintf("%3d%%", r.percent())
	}

	if take(amountWidth) {
		amount = fmt.Sprintf("%*s", amountWidth, r.amount())
	}

	// A state, as "committing", stands in the place of rate and time.
	switch {
	case r.state != "":
		if n := rateWidth + etaWidth + 1; take(n) {
			rate = fmt.Sprintf("%-*s", n, r.state)
		} else if take(len(r.state)) {
			rate = r.state
		}
	default:
		if r.size > 0 && take(etaWidth) {
			eta = fmt.Sprintf("%*s", etaWidth, r.eta())
		}
		if take(rateWidth) {
			rate = fmt.Sprintf("%*s", rateWidth, r.speed())
		}
	}

	// Bar and notes share what is left.
	if n := min(max(left/3, minBar), maxBar); take(n) {
		bar = r.bar(n)
	}

	text := fit(r.label, min(width, nameWidth))
	for _, field := range []string{bar, percent, amount, rate, eta} {
		if field != "" {
			text += " " + field
		}
	}

	return strings.TrimRight(text+r.noted(left), " ")
}

// noted joins the notes that fit into so many columns.
func (r progressRow) noted(left int) string {
	var text string
	for i, n := range r.notes {
		sep := ", "
		if i == 0 {
			sep = "  "
		}
		n = show.Printable(n)
		if i == 0 && columns(n) > left-len(sep) && left > 12 {
			n = fit(n, left-len(sep)) // a long reason begins with what matters
		}
		if columns(text)+len(sep)+columns(n) > left {
			break
		}
		text += sep + n
	}

	return text
}

func (r progressRow) percent() int { return int(min(float64(r.at)/float64(r.size), 1) * 100) }

// amount writes both numbers in the unit of the larger one.
func (r progressRow) amount() string {
	if r.size <= 0 {
		return show.Size(r.at)
	}
	number, unit, _ := strings.Cut(show.Size(r.size), " ")
	factor := 1.0
	for u := range strings.SplitSeq("KMGTPE", "") {
		if unit == "B" {
			return fmt.Sprintf("%d/%s %s", r.at, number, unit)
		}
		if factor *= 1024; strings.HasPrefix(unit, u) {
			break
		}
	}
	return fmt.Sprintf("%.1f/%s %s", float64(r.at)/factor, number, unit)
}

func (r progressRow) speed() string {
	if r.rate <= 0 {
		return ""
	}
	return show.Size(int64(r.rate)) + "/s"
}

// eta writes how long the rest will take.
func (r progressRow) eta() string {
	if r.rate <= 0 || r.at >= r.size {
		return ""
	}
	const most = 100 * 3600 // sizes come from outside: a number of seconds may be too large for an integer
	seconds := int64(min(float64(r.size-r.at)/r.rate+0.5, most))
	switch {
	case seconds < 60:
		return fmt.Sprintf("%ds", seconds)
	case seconds < 3600:
		return fmt.Sprintf("%dm%02ds", seconds/60, seconds%60)
	case seconds < most:
		return fmt.Sprintf("%dh%02dm", seconds/3600, seconds/60%60)
	}
	return ">4d"
}

func (r progressRow) bar(n int) string {
	if r.size <= 0 {
		return strings.Repeat(" ", n)
	}
	n -= 2
	full := int(min(float64(r.at)/float64(r.size), 1) * float64(n))
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", n-full) + "]"
}

// columns returns how many columns a terminal may take for s, rather too many than too few.
func columns(s string) int {
	n := 0
	for _, r := range s {
		if n++; r >= 0x1100 { // from here on there are wide ones
			n++
		}
	}
	return n
}

// fit fills s up to so many columns, or cuts it, which a tilde shows.
func fit(s string, width int) string {
	if n := columns(s); n <= width {
		return s + strings.Repeat(" ", width-n)
	}

	var b strings.Builder
	n := 0
	for _, r := range s {
		if n += columns(string(r)); n > width-1 {
			n -= columns(string(r))
			break
		}
		b.WriteRune(r)
	}

	if width <= 0 {
		return ""
	}

	return b.String() + "~" + strings.Repeat(" ", max(width-1-n, 0))
}
