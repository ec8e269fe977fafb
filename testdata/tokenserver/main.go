// Tokenserver is a token server for registries that have none of their own: whoever knows the name
// and the password gets a token for everything that is asked for. It prints its address and answers
// until it is killed.
//
//	tokenserver -cert FILE -key FILE -login NAME:PASSWORD -issuer TEXT
package main

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"time"
)

func main() {
	cert := flag.String("cert", "", "the certificate, which registries trust")
	key := flag.String("key", "", "its key, of ECDSA with P-256")
	login := flag.String("login", "", "who may come in")
	issuer := flag.String("issuer", "test", "what the server calls itself")
	flag.Parse()
	pair, err := tls.LoadX509KeyPair(*cert, *key)
	if err != nil {
		log.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ln.Addr())
	log.Fatal(http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, password, ok := r.BasicAuth()
		if r.Method == http.MethodPost { // OAuth2, as docker asks
			name, password, ok = r.PostFormValue("username"), r.PostFormValue("password"), true
		}
		if !ok || name+":"+password != *login {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		token, err := sign(pair, map[string]any{
			"iss": *issuer, "sub": name, "aud": r.FormValue("service"), "jti": rand.Text(),
			"iat": time.Now().Unix(), "nbf": time.Now().Unix() - 10, "exp": time.Now().Add(time.Hour).Unix(),
			"access": access(r.Form["scope"]),
		})
		if err != nil {
			log.Fatal(err)
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"token": token, "access_token": token, "expires_in": 3600})
	})))
}

type grant struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// access grants scopes, which are TYPE:NAME:ACTION[,…], several joined by blanks or in a list.
func access(scopes []string) []grant {
	grants := []grant{}
	for _, scope := range strings.Fields(strings.Join(scopes, " ")) {
		kind, rest, _ := strings.Cut(scope, ":")
		if i := strings.LastIndexByte(rest, ':'); i >= 0 {
			grants = append(grants, grant{kind, rest[:i], strings.Split(rest[i+1:], ",")})
		}
	}
	return grants
}

// sign returns claims as a JSON web token that carries its certificate.
func sign(pair tls.Certificate, claims any) (string, error) {
	head, err := json.Marshal(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(pair.Certificate[0])}})
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(head) + "." + base64.RawURLEncoding.EncodeToString(body)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, pair.PrivateKey.(*ecdsa.PrivateKey), sum[:])
	if err != nil {
		return "", err
	}
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}
