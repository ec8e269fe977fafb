// Package disk holds what the systems do differently with files: locks ([OpenLock], [TryLock], [LockBeside]), the
// sharing of blocks ([Clone]), names that last ([Rename]), temporary files that give up their names
// ([CreateTemp]), pipes whose other end is waited for ([Open]), and advice about when to write
// ([StartWriteback]). Where a system lacks one of these, the function here says that it cannot, or does
// nothing if it promises nothing.
package disk
