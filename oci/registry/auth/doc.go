// Package auth finds the Authorization header of requests to a registry: it reads the challenge of a
// 401, looks for credentials, and asks token servers.
//
// An [Authenticator], made by [New], serves one registry and is the Authorizer of its connection in
// package wire. The first request goes without credentials; what its 401 asks for is remembered for
// the requests that follow, and tokens are shared between them. [Authenticator.Token] explains an
// authorization. [Authenticator.CheckLogin], [Authenticator.Store] and [Authenticator.Erase] are
// what login and logout are made of.
//
// # Credentials
//
// The first source that knows the registry counts: options, the environment, credential files of
// Docker and podman with their helpers. If that source fails, no later one is asked: it could give
// another account than the one that was meant. Credentials go to the registry's origin, and to a
// token server only if it is on the same host, known to belong to the registry, or named by the
// user.
package auth
