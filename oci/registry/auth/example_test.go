package auth_test

import (
	"fmt"
	"net/http"

	"ocikit/oci/registry/auth"
)

// A registry offers ways to be let in; several may stand in one header.
func ExampleParseChallenges() {
	h := http.Header{"Www-Authenticate": {`Basic realm="r.test", Bearer realm="https://auth.test/token",service=r.test,scope="repository:app:pull"`}}
	for _, c := range auth.ParseChallenges(h) {
		fmt.Printf("%s %s %q\n", c.Scheme, c.Params["realm"], c.Params["scope"])
	}
	// Output:
	// basic r.test ""
	// bearer https://auth.test/token "repository:app:pull"
}
