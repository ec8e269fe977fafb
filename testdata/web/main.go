// Web serves the files of a directory, as the recipe of a static site needs it: "web DIR
// ADDRESS". With "web get URL" it prints what a server answers.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: web DIR ADDRESS\n       web get URL")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "web:", err)
		os.Exit(1)
	}
}

func run(what, where string) error {
	if what != "get" {
		return http.ListenAndServe(where, http.FileServer(http.Dir(what)))
	}
	resp, err := http.Get(where)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", where, resp.Status)
	}
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}
