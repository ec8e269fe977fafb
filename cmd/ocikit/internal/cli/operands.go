package cli

import (
	"strings"

	"ocikit/cmd/ocikit/internal/show"
)

// checkOperands compares the number of operands with the synopsis of the command.
func checkOperands(cmd Command, n int) error {
	least, most := operandBounds(cmd.Args)
	if cmd.AnyOperands || n >= least && (n <= most || most < 0) {
		return nil
	}
	if cmd.Args == "" {
		return Usagef("no operands are taken")
	}
	err := &UsageError{Msg: show.Count(n, "operand") + ", want " + cmd.Args}
	if n > most && most >= 0 {
		err.Advice = cmd.Surplus
	}
	return err
}

// operandBounds returns how many operands a synopsis allows. A word in brackets may be left out,
// one with dots may be repeated. The operands end at a flag, as in that of login. Most is -1 if
// there is no limit.
func operandBounds(synopsis string) (least, most int) {
	unlimited := false
	for word := range strings.FieldsSeq(synopsis) {
		if strings.HasPrefix(word, "--") {
			break
		}
		if most++; !strings.HasPrefix(word, "[") {
			least++
		}
		unlimited = unlimited || strings.Contains(word, "...")
	}
	if unlimited {
		most = -1
	}
	return least, most
}

// FileOperand returns the operand that names an input, or "-" for standard input if there is
// none.
func FileOperand(args []string) string {
	if len(args) == 0 {
		return "-"
	}
	return args[0]
}
