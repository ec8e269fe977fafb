package diff

import "strings"

// Aspects is a set of the ways in which a file changed.
type Aspects uint

// The members of Aspects.
const (
	Type    Aspects = 1 << iota // another type of file; nothing else is compared then
	Content                     // bytes of a file, or number of a device
	Mode                        // permissions
	Owner                       // uid or gid
	Times                       // modification time
	Xattrs                      // extended attributes
	Link                        // target of a symbolic link, or the first of the hard links
)

var aspectNames = [...]string{"type", "content", "mode", "owner", "times", "xattrs", "link"}

// Names returns the names of the members of w, always in the order type, content, mode, owner, times,
// xattrs, link.
func (w Aspects) Names() []string {
	var names []string
	for i, name := range aspectNames {
		if w>>i&1 != 0 {
			names = append(names, name)
		}
	}
	return names
}

// String returns the names, joined by commas.
func (w Aspects) String() string { return strings.Join(w.Names(), ",") }
