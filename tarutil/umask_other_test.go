//go:build !unix

package tarutil

func syscallUmask(int) int { return 0 }
