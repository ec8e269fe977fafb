// Hello-cloud is the program in the image that scripts/demo builds. It greets whom it is
// told to.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	whom := "world"
	if len(os.Args) > 1 {
		whom = strings.Join(os.Args[1:], " ")
	}
	fmt.Println("Hello,", whom)
}
