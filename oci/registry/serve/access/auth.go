package access

import (
	"bufio"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// Auth says who may come in: the users of a password file, whoever has a token, or both. Whoever
// may come in may do everything that the registry does. It is safe for concurrent use.
//
// A user sends name and password (Basic). A token is sent as such (Bearer), or as the password of
// any user, since most clients of registries can do nothing else with it. Where tokens are asked
// for, both go to the token server.
type Auth struct {
	users  map[string]password
	tokens [][]byte

	rounds int // the most that a user has

	key  []byte // of the passwords in cache
	mu   sync.Mutex
	good map[string][]byte // user: what was found right
	slow chan struct{}     // one derivation at a time, so that guessing costs one core at most
}

// A password is one line of a password file.
type password struct {
	rounds     int
	salt, hash []byte
}

// Bounds of the rounds in a password file. The upper one keeps a line from costing minutes.
const (
	minRounds     = 1
	maxRounds     = 10_000_000
	defaultRounds = 600_000
)

// NewAuth reads a password file and a token file; either may be nil.
//
// A line of the password file is
//
//	USER:$pbkdf2-sha256$ROUNDS$SALT$HASH
//
// where HASH is PBKDF2 with HMAC-SHA-256 of the password, 32 bytes, and SALT and HASH are in
// base64 without padding, with . in place of +, as passlib writes it too. [PasswordLine] makes
// one. A line of the token file is a token. Blank lines and those that begin with # are
// skipped; any other line is an error, which does not repeat it.
func NewAuth(passwords, tokens io.Reader) (*Auth, error) {
	a := &Auth{
		users: map[string]password{},
		key:   make([]byte, 32),
		good:  map[string][]byte{},
		slow:  make(chan struct{}, 1),
	}

	rand.Read(a.key)
	err := eachLine("password file", passwords, func(line string) error {
		user, spec, ok := strings.Cut(line, ":")
		if !ok || user == "" {
			return errors.New("want USER:$pbkdf2-sha256$ROUNDS$SALT$HASH")
		}
		p, err := parsePassword(spec)
		a.users[user] = p
		a.rounds = max(a.rounds, p.rounds)
		return err
	})
	if err == nil {
		err = eachLine("token file", tokens, func(line string) error {
			if len(line) < 16 || strings.ContainsAny(line, " \t") {
				return errors.New("want at least 16 characters without blanks")
			}

			// Sums are of one length, so that a comparison takes the same time for each.
			a.tokens = append(a.tokens, a.sum(line))
			return nil
		})
	}

	if err == nil && len(a.users) == 0 && len(a.tokens) == 0 {
		err = errors.New("neither a user nor a token: nobody could come in")
	}
	if err != nil {
		return nil, err
	}

	return a, nil
}

func eachLine(what string, r io.Reader, use func(line string) error) error {
	if r == nil {
		return nil
	}

	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if err := use(line); err != nil {
			return fmt.Errorf("%s: line %d: %w", what, n, err)
		}
	}

	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}

	return nil
}

// base64 as passlib writes it.
var adapted = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789./").WithPadding(base64.NoPadding)

func parsePassword(spec string) (p password, err error) {
	parts := strings.Split(spec, "$")
	if len(parts) != 5 || parts[0] != "" || parts[1] != "pbkdf2-sha256" {
		return p, errors.New("password: want the scheme $pbkdf2-sha256$")
	}

	p.rounds, err = strconv.Atoi(parts[2])
	if err != nil || p.rounds < minRounds || p.rounds > maxRounds {
		return p, fmt.Errorf("password: rounds: want %d to %d", minRounds, maxRounds)
	}

	p.salt, err = adapted.DecodeString(parts[3])
	if err == nil {
		p.hash, err = adapted.DecodeString(parts[4])
	}

	if err != nil || len(p.hash) != sha256.Size {
		return p, errors.New("password: salt or hash is not in the base64 of passlib, or the hash has not 32 bytes")
	}

	return p, nil
}

// PasswordLine returns the line of a password file, without a newline, that lets the user in with
// the password. The salt is random, so it is another line each time. A name that would not be read
// again as it is, as one with a colon, is an error.
func PasswordLine(user, pass string) (string, error) {
	if user == "" || strings.ContainsAny(user, ":\r\n") || strings.TrimSpace(user) != user || user[0] == '#' {
		return "", fmt.Errorf("user %q: want a name without a colon, that does not begin with # or end in blanks", user)
	}
	var salt [16]byte
	rand.Read(salt[:])
	hash, err := pbkdf2.Key(sha256.New, pass, salt[:], defaultRounds, sha256.Size)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s:$pbkdf2-sha256$%d$%s$%s", user, defaultRounds, adapted.EncodeToString(salt[:]), adapted.EncodeToString(hash)), nil
}

func (a *Auth) sum(secret string) []byte {
	m := hmac.New(sha256.New, a.key)
	io.WriteString(m, secret)
	return m.Sum(nil)
}

// isToken compares with every token, in a time that tells nothing.
func (a *Auth) isToken(secret string) bool {
	sum := a.sum(secret)
	ok := 0
	for _, t := range a.tokens {
		ok |= subtle.ConstantTimeCompare(sum, t)
	}
	return ok == 1
}

// isUser reports whether the password is that of the user. A password that was right once
// is known from then on, by a keyed hash, until another one is: clients send it with every
// request, and to derive a key takes a good part of a second.
func (a *Auth) isUser(r *http.Request, user, pass string) bool {
	p, known := a.users[user]
	sum := a.sum(pass)
	a.mu.Lock()
	good := a.good[user]
	a.mu.Unlock()
	if known && subtle.ConstantTimeCompare(sum, good) == 1 {
		return true
	}

	if len(a.users) == 0 {
		return false
	}

	if !known { // take as long as for one who is
		p = password{rounds: a.rounds, salt: a.key[:16], hash: a.key}
	}

	// Guessing passwords costs one core at most, however many requests do it.
	select {
	case a.slow <- struct{}{}:
		defer func() { <-a.slow }()
	case <-r.Context().Done():
		return false
	}

	hash, err := pbkdf2.Key(sha256.New, pass, p.salt, p.rounds, sha256.Size)
	if err != nil || subtle.ConstantTimeCompare(hash, p.hash) != 1 || !known {
		return false
	}

	a.mu.Lock()
	a.good[user] = sum
	a.mu.Unlock()
	return true
}
