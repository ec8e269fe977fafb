package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

func completionCommand() Command {
	return Command{
		Name: "completion", Args: "bash|zsh|fish", Group: groupHelp,
		Short:   "print completion code for a shell",
		Long:    "Completion prints code that completes commands, flags and files. Load it with `eval \"$(ocikit completion bash)\"`, the same with zsh, or `ocikit completion fish | source`.",
		Example: "ocikit completion bash > ocikit.bash",
		Bind: func(fs *flag.FlagSet) Action {
			return func(ctx context.Context, env *Env, args []string) error {
				write := map[string]func(io.Writer) error{"bash": writeBash, "zsh": writeZsh, "fish": writeFish}
				if len(args) != 1 || write[args[0]] == nil {
					return usagef("want one of bash, zsh, fish")
				}
				return write[args[0]](env.Stdout)
			}
		},
	}
}

// flagWords returns the long flags of a command as words.
func flagWords(c Command) []string {
	var words []string
	for _, f := range flagsOf(c) {
		words = append(words, f.names...)
	}
	return append(words, "-h")
}

// firstWords returns the first words of all commands, and the second words of each.
func firstWords() (first []string, second map[string][]string) {
	second = map[string][]string{}
	for _, c := range commands() {
		a, b, two := strings.Cut(c.Name, " ")
		if !slices.Contains(first, a) {
			first = append(first, a)
		}
		if two {
			second[a] = append(second[a], b)
		}
	}
	return first, second
}

// writeCases prints a shell case statement that sets "words" by the command line so far. It
// is the same for bash and zsh.
func writeCases(b *strings.Builder, word func(i int) string) {
	first, second := firstWords()
	fmt.Fprintf(b, "    case \"%s %s\" in\n", word(1), word(2))
	for _, c := range commands() {
		pattern := fmt.Sprintf("%q", c.Name)
		if !strings.Contains(c.Name, " ") {
			pattern = fmt.Sprintf("%q*", c.Name+" ")
		}
		fmt.Fprintf(b, "        %s) words=%q ;;\n", pattern, strings.Join(flagWords(c), " "))
	}
	b.WriteString("    esac\n")
	fmt.Fprintf(b, "    if [ \"$at\" -eq 1 ]; then words=%q; fi\n", strings.Join(first, " "))
	b.WriteString("    if [ \"$at\" -eq 2 ]; then case \"" + word(1) + "\" in\n")
	for _, a := range first {
		if len(second[a]) > 0 {
			fmt.Fprintf(b, "        %s) words=%q ;;\n", a, strings.Join(second[a], " "))
		}
	}
	fmt.Fprintf(b, "        help) words=%q ;;\n", strings.Join(first, " "))
	b.WriteString("        completion) words=\"bash zsh fish\" ;;\n    esac; fi\n")
}

func writeBash(w io.Writer) error {
	var b strings.Builder
	b.WriteString(`# bash completion for ocikit
_ocikit() {
    local words="" at=$COMP_CWORD cur=${COMP_WORDS[COMP_CWORD]}
`)
	writeCases(&b, func(i int) string { return fmt.Sprintf("${COMP_WORDS[%d]}", i) })
	b.WriteString(`    COMPREPLY=()
    if [ "$at" -le 1 ] || [ "${cur#-}" != "$cur" ] || { [ "$at" -eq 2 ] && [ "${words#-}" = "$words" ]; }; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
    fi
}
complete -o default -o bashdefault -F _ocikit ocikit
`)
	_, err := io.WriteString(w, b.String())
	return err
}

func writeZsh(w io.Writer) error {
	var b strings.Builder
	b.WriteString(`#compdef ocikit
_ocikit() {
    local -a line; line=("${(@)words}")
    local at=$((CURRENT - 1)) cur=${line[CURRENT]}
    local words=""
`)
	writeCases(&b, func(i int) string { return fmt.Sprintf("${line[%d]}", i+1) })
	b.WriteString(`    if [ "$at" -le 1 ] || [ "${cur#-}" != "$cur" ] || { [ "$at" -eq 2 ] && [ "${words#-}" = "$words" ]; }; then
        compadd -- ${=words}
    else
        _files
    fi
}
compdef _ocikit ocikit
`)
	_, err := io.WriteString(w, b.String())
	return err
}

func writeFish(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# fish completion for ocikit\n")
	first, second := firstWords()
	short := map[string]string{}
	for _, c := range commands() {
		short[c.Name] = c.Short
	}
	for _, a := range first {
		fmt.Fprintf(&b, "complete -c ocikit -n __fish_use_subcommand -f -a %s -d %s\n", a, fishQuote(short[a]))
		for _, verb := range second[a] {
			fmt.Fprintf(&b, "complete -c ocikit -n '__fish_seen_subcommand_from %s; and not __fish_seen_subcommand_from %s' -f -a %s -d %s\n",
				a, strings.Join(second[a], " "), verb, fishQuote(short[a+" "+verb]))
		}
	}
	for _, c := range commands() {
		condition := "__fish_seen_subcommand_from " + strings.ReplaceAll(c.Name, " ", "; and __fish_seen_subcommand_from ")
		for _, f := range flagsOf(c) {
			line := fmt.Sprintf("complete -c ocikit -n '%s'", condition)
			for _, n := range f.names {
				if long, ok := strings.CutPrefix(n, "--"); ok {
					line += " -l " + long
				} else {
					line += " -s " + n[1:]
				}
			}
			if f.value != "" && !f.optionalArg {
				line += " -r"
			}
			fmt.Fprintf(&b, "%s -d %s\n", line, fishQuote(f.usage))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func fishQuote(s string) string {
	return "'" + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "'", `\'`) + "'"
}
