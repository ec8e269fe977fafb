//go:build !windows

package disk

import "os"

// Rename gives a file a name that another may have.
func Rename(root *os.Root, from, to string) error { return root.Rename(from, to) }
