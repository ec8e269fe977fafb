package tarutil

import "strings"

// What is a set of the ways in which a file changed.
type What uint

const (
	WhatType    What = 1 << iota // another type; nothing else is compared then
	WhatContent                  // bytes of a file, or number of a device
	WhatMode                     // permissions
	WhatOwner                    // uid or gid
	WhatTimes                    // modification time
	WhatXattrs                   // extended attributes
	WhatLink                     // target of a symbolic link, or the first of the hard links
)

var whatNames = [...]string{"type", "content", "mode", "owner", "times", "xattrs", "link"}

// Names returns the members of w in a fixed order, as type, content, mode, owner, times, xattrs
// and link.
func (w What) Names() []string {
	var names []string
	for i, name := range whatNames {
		if w>>i&1 != 0 {
			names = append(names, name)
		}
	}
	return names
}

// String returns the names, joined by commas.
func (w What) String() string { return strings.Join(w.Names(), ",") }
