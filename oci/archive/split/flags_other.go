//go:build !unix

package split

const openFlags = 0
