// Package access decides who may come into a registry: by the lines of a password file, by tokens
// that stand in a file, and by tokens that it signs itself, as the token servers of registries do.
//
// [NewAuth] reads the files, [PasswordLine] makes a line for one. A [Gate] lets requests in, or
// refuses them.
package access
