package cli

import (
	"context"
	"flag"
	"fmt"
	"strings"

	"ocikit/cmd/ocikit/internal/show"
)

// CompletionCommand returns the command that prints completion code for shells. It reads p when it
// runs.
func CompletionCommand(p *Program) Command {
	return Command{
		Name: "completion", Args: "bash|zsh|fish", Group: GroupHelp, AnyOperands: true,
		Short: "print completion code for a shell",
		Long: `Completion prints code for a shell that completes commands, flags and their values, topics of help,
layouts, their tags, and files. Load it with eval "$(ocikit completion bash)", the same with zsh (behind
compinit), or "ocikit completion fish | source".

The code asks ocikit itself what may follow: with --words the operands are a command line without the
program, and each line that is printed is what the last of them may be completed to, a tab, and what it
means.`,
		Example: "ocikit completion bash > ocikit.bash\nocikit completion --words -- tag app:",
		Bind: func(fs *flag.FlagSet) Action {
			words := fs.Bool("words", false, "print what the last operand may be completed to")
			return func(ctx context.Context, env *Env, args []string) error {
				if *words {
					return p.writeCompletions(env, args)
				}
				code := map[string]string{"bash": bashCode, "zsh": zshCode, "fish": fishCode}
				if len(args) != 1 {
					return Usagef("%d operands, want one of bash, zsh, fish", len(args))
				}
				if code[args[0]] == "" {
					return Usagef("shell %q: want one of bash, zsh, fish", args[0])
				}
				return show.WriteAll(env.Stdout, []byte(code[args[0]]))
			}
		},
	}
}

func (p *Program) writeCompletions(env *Env, words []string) error {
	for _, c := range p.Complete(env, words) {
		if _, err := fmt.Fprintf(env.Stdout, "%s\t%s\n", c.Word, strings.ReplaceAll(show.Printable(c.Short), "\t", " ")); err != nil {
			return err
		}
	}
	return nil
}

// bashCode puts the words together again that readline has split at colons and equals signs,
// and takes off the part of each answer that stands in front of the last of these. It needs
// nothing of the package bash-completion, and runs in bash 3.2 as macOS has it.
const bashCode = `# bash completion for ocikit
_ocikit() {
    local rest=${COMP_LINE:0:COMP_POINT} word words=() i trimmed keep answer
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        trimmed=${rest#"${rest%%[![:space:]]*}"}
        if [ "$i" -lt 2 ] || [ "$trimmed" != "$rest" ] || [ -z "$rest$word" ]; then
            words[${#words[@]}]=
        fi
        [ "$i" -lt "$COMP_CWORD" ] || word=$trimmed
        rest=${trimmed#"$word"}
        words[${#words[@]} - 1]+=$word
    done
    word=${words[${#words[@]} - 1]}
    keep=
    case $word in *[:=]*) keep=${word%"${word##*[:=]}"} ;; esac
    case $COMP_WORDBREAKS in *:*) ;; *) keep= ;; esac
    for ((i = 0; i < ${#words[@]}; i++)); do
        words[i]=${words[i]//\\/}
    done
    COMPREPLY=()
    while IFS=$'\t' read -r answer _; do
        case $answer in "~/"*) answer="~/$(printf %q "${answer#"~/"}")" ;; *) answer=$(printf %q "$answer") ;; esac
        COMPREPLY[${#COMPREPLY[@]}]=${answer#"$keep"}
    done < <("$1" completion --words -- "${words[@]:1}" 2>/dev/null)
    case ${COMPREPLY[0]-} in
    *[:/=,]) [ "${#COMPREPLY[@]}" -gt 1 ] || ! type compopt >/dev/null 2>&1 || compopt -o nospace ;;
    esac
}
complete -F _ocikit ocikit
`

const zshCode = `#compdef ocikit
_ocikit() {
    local -a plain described further
    local line word
    while IFS= read -r line; do
        word=${line%%$'\t'*}
        if [[ $word == *[:/=,] ]]; then
            further+=("$word")
        else
            plain+=("$word") described+=("$word  ${line#*$'\t'}")
        fi
    done < <("${words[1]}" completion --words -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)
    (( $#further )) && compadd -S '' -- "${further[@]}"
    (( $#plain )) && compadd -l -d described -- "${plain[@]}"
    (( $#further + $#plain ))
}
if [ "${funcstack[1]}" = _ocikit ]; then _ocikit "$@"; else compdef _ocikit ocikit; fi
`

const fishCode = `# fish completion for ocikit
function __ocikit_words
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    $before[1] completion --words -- $before[2..] "$current" 2>/dev/null
end
complete -c ocikit -f -a '(__ocikit_words)'
`
