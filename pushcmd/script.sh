#!/bin/sh
# Pushes images of an OCI layout to a registry with nothing but a shell and curl.
#
#   sh push.sh [LAYOUT]
#
# LAYOUT is the directory with oci-layout, index.json and blobs. What the registry has is not
# sent. After a failure run the script again: an upload that broke goes on where the registry
# stands. Standard output gets HOST/REPOSITORY@DIGEST of each image that is there in the end.
#
# Settings are taken from the environment:
#   REG_USER, REG_PASS  credentials; without them a terminal is asked when the registry wants some
#   REG_URL             the registry, as https://HOST:PORT, in place of the one named below
#   REG_REALMS          hosts that may be sent the credentials for a token, split by blanks
#   REG_CONFIG          a file with more options for curl, a line each: cacert = "ca.pem"
#   REG_CHUNK           send at most so many bytes in one request
#   REG_STATE           directory that keeps broken uploads for the next run
#
# Exit status: 0 done; 1 the layout is wrong, or the registry refuses; 2 wrong usage; 3 try
# again later; 4 something is not there; 5 not allowed; 130 interrupted.
#
# The requests are those of the OCI distribution-spec; "end-4a" and its like are the numbers
# of its table of endpoints.
set -uf
LC_ALL=C
export LC_ALL
umask 077

# begin: what is pushed, and where to

host=registry.example                 # the registry as users write it
base=https://registry.example         # where requests go to
guessed=no                            # whether http is tried if base does not talk https
realms='auth.registry.example'        # hosts besides that of base that may be sent credentials
mount_from='base/image'               # repositories that may have the blobs already
chunk_size=0                          # bytes in a request at most; 0 means no limit
layout='app'

# Blobs go before the manifests that need them, children before parents, tags come last:
# whatever happens, no name ever means something incomplete.
images() {
    repository hello
    if lacks sha256:0000000000000000000000000000000000000000000000000000000000000001 v1; then
        blob sha256:0000000000000000000000000000000000000000000000000000000000000002 1234
        manifest sha256:0000000000000000000000000000000000000000000000000000000000000001 123 application/vnd.oci.image.manifest.v1+json v1
    fi
    pushed sha256:0000000000000000000000000000000000000000000000000000000000000001
}
# end

me=${0##*/}
user=${REG_USER:-} password=${REG_PASS:-}
unset REG_PASS # no program that runs below needs it
state=${REG_STATE:-push.state}
tmp='' tty=''

say() { printf '%s: %s\n' "$me" "$*" >&2; }

hint() { printf 'hint: %s\n' "$*" >&2; }

# fail STATUS WORD... ends the script.
fail() {
    failed=$1
    shift
    say "$@"
    exit "$failed"
}

clean_up() {
    [ -z "$tty" ] || stty "$tty"
    [ -z "$tmp" ] || rm -rf "$tmp"
}

# ---------------------------------------------------------------- requests

# request METHOD URL [OPTION...] sends one request and sets $status: 000 if no answer came.
# The answer is in $tmp/head, names of headers in lower case, and $tmp/body. Credentials go
# to the registry and to nobody else. Nothing is repeated, and no redirect is followed.
request() {
    method=$1 url=$2 why=
    shift 2
    case $url in
    "$base"/*) set -- -K "$tmp/auth" "$@" ;;
    esac
    transfer "$@"
}

# transfer [OPTION...] runs curl for $method and $url. Of the options, -q keeps ~/.curlrc out,
# -g takes brackets in the URL as they are. -X with a file by -T streams it with its length;
# --data-binary would hold it in memory. Above 1 MiB curl asks first (Expect: 100-continue),
# so a refusal comes before the bytes have gone.
transfer() {
    case $method in
    HEAD) set -- -I "$@" ;;
    *) set -- -X "$method" "$@" ;;
    esac
    [ -z "${REG_CONFIG:-}" ] || set -- -K "$REG_CONFIG" "$@"
    : >"$tmp/raw"
    : >"$tmp/body"
    code=0
    answer=$(curl -q -sS -g --proto =http,https --connect-timeout 30 --speed-limit 1 --speed-time 300 \
        -D "$tmp/raw" -o "$tmp/body" -w '%{http_code} %{size_upload}' "$@" "$url" 2>"$tmp/err") || code=$?
    status=${answer%% *} sent=${answer#* }
    case $status in
    [2-5]??) ;;
    *) status=000 ;; # none, or a 100 after which nothing came
    esac
    case $sent in
    '' | *[!0-9]*) sent=0 ;;
    esac
    # Parts of it come into messages, so nothing is kept that a terminal would obey.
    tr -cd '\n\t -~' <"$tmp/raw" |
        sed 'h;s/:.*//;y/ABCDEFGHIJKLMNOPQRSTUVWXYZ/abcdefghijklmnopqrstuvwxyz/;G;s/\n[^:]*//' >"$tmp/head"
    [ "$method" != HEAD ] || : >"$tmp/body" # -I writes the head there
}

# header NAME sets $value to the header of the last answer, joined by commas if it is there
# more than once. A 100 Continue and a proxy leave blocks of their own before it.
header() {
    value=
    while IFS= read -r line; do
        case $line in
        http/*) value= ;;
        "$1":*)
            line=${line#*:}
            value=${value:+$value, }${line#"${line%%[! ]*}"}
            ;;
        esac
    done <"$tmp/head"
}

# says TEXT... reports whether one of the texts is in the body of the answer.
says() {
    for text; do
        if grep -qi -e "$text" "$tmp/body"; then return 0; fi
    done
    return 1
}

# ask METHOD URL [OPTION...] is request, sent again after a login, a redirect within the
# registry, and a few times while the registry is out of breath. It is for requests that do
# no harm if they come twice; bytes of an upload do, they are appended.
ask() {
    logins=0 moves=0 repeats=0
    while :; do
        request "$@"
        case $status in
        401)
            [ "$logins" = 0 ] && login || return 0
            logins=1
            ;;
        307 | 308)
            [ "$moves" -lt 5 ] && moved || return 0
            moves=$((moves + 1))
            shift 2
            set -- "$method" "$value" "$@"
            ;;
        *)
            try_later && [ "$repeats" -lt 4 ] || return 0
            pause "$repeats"
            repeats=$((repeats + 1))
            ;;
        esac
    done
}

# try_later reports whether the last request may succeed at another time.
try_later() {
    case $status in
    000)
        case $code in
        1 | 2 | 3 | 26 | 51 | 58 | 59 | 60 | 66 | 77 | 80 | 82 | 83 | 90 | 91) return 1 ;; # wrong here, or a certificate
        esac
        ;;
    408 | 429 | 500 | 502 | 503 | 504) ;;
    *) return 1 ;;
    esac
}

# pause N waits as long as the registry asks, else the longer the larger N is.
pause() {
    header retry-after
    case $value in
    [1-9] | [1-5][0-9]) sleep "$value" ;;
    *)
        case $1 in
        0) ;;
        1) sleep 1 ;;
        2) sleep 2 ;;
        *) sleep 4 ;;
        esac
        ;;
    esac
}

# shown FILE prints the beginning of what somebody else wrote, as plain text without secrets.
shown() {
    text=$(tr -cd ' -~' <"$1" | cut -c 1-100000 | sed 's/\([Bb]asic\) [A-Za-z0-9+/=]\{16,\}/\1 .../g')
    for secret in "$password" "${token:-}"; do
        [ -n "$secret" ] || continue
        case $text in
        *"$secret"*) text='it repeats a secret' ;;
        esac
    done
    printf '%.300s' "$text"
}

# refused WHAT ends the script with what the last request met.
refused() {
    path=${url%%\?*} # the query holds the state of an upload, which is a secret
    if [ "$status" = 000 ]; then
        say "$1: $method $path: $(shown "$tmp/err")"
    else
        said=$(shown "$tmp/body")
        [ -z "$said" ] || said="\"$said\""
        said=${why:-$said}
        say "$1: $method $path: status $status${said:+: $said}"
    fi
    case $status:$code:$method:$path in
    000:60:*) hint "cacert in the file of REG_CONFIG is the authority that signed the registry's certificate" ;;
    401:*) hint "REG_USER and REG_PASS are the credentials" ;;
    404:*:P*) hint "some registries want a repository to be created before the first push" ;;
    405:*:P*) hint "the registry may be read-only" ;;
    413:*/blobs/*) hint "a smaller REG_CHUNK may pass" ;;
    esac
    if try_later; then exit 3; fi
    case $status in
    401 | 403) exit 5 ;;
    404) exit 4 ;;
    esac
    exit 1
}

# ---------------------------------------------------------------- addresses

# absolute TEXT sets $value to what TEXT means in the answer from $url. It fails if that is no
# address of the web.
absolute() {
    value=${1%%#*}
    case $value in
    [Hh][Tt][Tt][Pp]://?* | [Hh][Tt][Tt][Pp][Ss]://?*) ;;
    //?*) value=${url%%:*}:$value ;;
    /*)
        rest=${url#*://}
        value=${url%%:*}://${rest%%/*}$value
        ;;
    '' | *://*) return 1 ;;
    *)
        rest=${url%%\?*}
        value=${rest%/*}/$value
        ;;
    esac
    split "$value"
    # The usual port is as good as none.
    case $scheme:$port in
    http:80 | https:443) port= ;;
    esac
    value=$scheme://$name${port:+:$port}$rest
    # A name and password before the host would lead to another host than it looks.
    case $name in
    '' | *[!]a-z0-9._:[-]*) return 1 ;;
    esac
    case $port in
    *[!0-9]*) return 1 ;;
    esac
}

# split URL sets $scheme, $name, $port and, for what follows them, $rest.
split() {
    rest=${1#*://}
    name=${rest%%[/?]*}
    rest=${rest#"$name"}
    scheme=${1%%://*}
    port=
    case $scheme$name in
    *[A-Z]*)
        scheme=$(printf '%s' "$scheme" | tr '[:upper:]' '[:lower:]')
        name=$(printf '%s' "$name" | tr '[:upper:]' '[:lower:]')
        ;;
    esac
    case $name in
    \[*\]) ;;
    *:*)
        port=${name##*:}
        name=${name%:*}
        ;;
    esac
    case $rest in
    /*) ;;
    *) rest=/$rest ;;
    esac
}

# is_local NAME reports whether a name can only mean this machine or its network link.
is_local() {
    case $1 in
    localhost | *.localhost | 127.* | 0.* | 169.254.* | \[::*\] | \[fe[89ab]?:*) return 0 ;;
    esac
    return 1
}

# check_away WHAT looks at the address in $value, which the registry named and which is not its
# own: the registry cannot send us from https to http, nor to this machine.
check_away() {
    if [ "$scheme" = http ] && [ "${base%%:*}" = https ]; then
        fail 1 "$1 $scheme://$name: it is not https"
    fi
    if is_local "$name" && ! is_local "$base_name"; then
        fail 1 "$1 $scheme://$name: it is local"
    fi
}

# moved sets $value to where a redirect leads, and fails if that is not the registry.
moved() {
    header location
    absolute "$value" || return 1
    case $value in
    "$base"/*) ;;
    *) return 1 ;;
    esac
}

# ---------------------------------------------------------------- credentials

# login does what the 401 that just came asks for, and fails if it cannot.
login() {
    case $url in
    "$base"/*) ;;
    *) return 1 ;;
    esac
    header www-authenticate
    challenge=$value
    case $challenge in
    *[Bb][Ee][Aa][Rr][Ee][Rr]\ *)
        challenge=${challenge#*[Bb][Ee][Aa][Rr][Ee][Rr] }
        get_token
        ;;
    *[Bb][Aa][Ss][Ii][Cc]*)
        has_credentials && write_user "$tmp/auth"
        ;;
    *) return 1 ;;
    esac
}

# has_credentials asks for them once if there are none and somebody is there to ask.
has_credentials() {
    if [ -z "$user" ] && [ -t 0 ] && [ -z "${was_asked:-}" ]; then
        was_asked=yes
        printf 'User name for %s: ' "$base" >&2
        IFS= read -r user || user=
        tty=$(stty -g)
        printf 'Password: ' >&2
        stty -echo
        IFS= read -r password || password=
        stty "$tty"
        tty=
        printf '\n' >&2
    fi
    [ -n "$user" ]
}

# write_user FILE writes the credentials for curl. They never stand on a command line, where
# others could see them: a here-document is no argument.
write_user() {
    case $user$password in
    *"$newline"*) fail 5 "REG_USER or REG_PASS holds a line break" ;;
    esac
    sed 's/[\\"]/\\&/g;s/^/user = "/;s/$/"/' >"$1" <<END
$user:$password
END
}

# param NAME sets $value to the parameter of $challenge.
param() {
    case " $challenge" in
    *[\ ,]"$1"=\"*)
        value=" $challenge"
        value=${value#*[ ,]"$1"=\"}
        value=${value%%\"*}
        ;;
    *[\ ,]"$1"=*)
        value=" $challenge"
        value=${value#*[ ,]"$1"=}
        value=${value%%[, ]*}
        ;;
    *) value= ;;
    esac
}

# get_token gets a token from the server that $challenge names, for pushing: one is enough
# then for everything that follows. Credentials go there only if it is on the registry's host
# or among $realms.
get_token() {
    param scope
    scopes=$value
    param service
    service=$value
    param realm
    absolute "$value" || return 1
    : >"$tmp/login"
    if [ "$name" = "$base_name" ] && [ "$scheme:${base%%:*}" != http:https ] || is_realm; then
        if has_credentials; then write_user "$tmp/login"; fi
    else
        check_away "token server"
        [ -z "$user" ] || say "the token server $name is asked without credentials; REG_REALMS=$name sends them"
    fi
    # The request that was refused is what the caller asks about.
    refused_method=$method refused_url=$url
    method=GET url=$value
    set -- -G -K "$tmp/login" --data-urlencode "client_id=ocikit"
    [ -z "$service" ] || set -- "$@" --data-urlencode "service=$service"
    for scope in ${scopes:-"repository:$repo:pull"}; do
        case $scope in
        "repository:$repo:"*) scope=repository:$repo:pull,push ;;
        esac
        set -- "$@" --data-urlencode "scope=$scope"
    done
    transfer "$@"
    answered=$status
    method=$refused_method url=$refused_url status=401
    if [ "$answered" = 200 ] && read_token; then return 0; fi
    why="the token server $name says $answered: \"$(shown "$tmp/body")\""
    return 1
}

is_realm() {
    [ "$scheme" = https ] || [ "${base%%:*}" = http ] || return 1
    for realm in $realms ${REG_REALMS:-}; do
        if [ "$name" = "$realm" ] || [ "$name:$port" = "$realm" ]; then return 0; fi
    done
    return 1
}

# read_token takes the token out of the answer. It fails if there is none that may stand in a
# header.
read_token() {
    for key in token access_token; do
        token=$(tr -d '\n' <"$tmp/body" |
            sed -n 's/.*"'$key'"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p' |
            sed 's,\\/,/,g;s/\\u003[Dd]/=/g;s/\\u002[Bb]/+/g')
        case $token in
        '' | *[!A-Za-z0-9._~+/=:,-]*) ;;
        *)
            cat >"$tmp/auth" <<END
header = "Authorization: Bearer $token"
END
            return 0
            ;;
        esac
    done
    return 1
}

# ---------------------------------------------------------------- the layout

# find_layout [DIR] sets $layout: DIR, else the one that the script was made for, as it was
# written then or beside the script.
find_layout() {
    if [ "$#" -gt 0 ]; then
        layout=$1
    elif ! [ -d "$layout/blobs" ]; then
        case $0 in
        */*) beside=${0%/*} ;;
        *) beside=. ;;
        esac
        for dir in "$beside/$layout" "$beside/${layout##*/}"; do
            if [ -d "$dir/blobs" ]; then
                layout=$dir
                return
            fi
        done
    fi
    [ -d "$layout/blobs" ] || {
        say "there is no layout $layout"
        hint "sh $me LAYOUT names the directory with index.json and blobs"
        exit 4
    }
}

# find_file DIGEST SIZE sets $file to the file with these bytes.
find_file() {
    digest=$1 size=$2 algorithm=${1%%:*} hex=${1#*:}
    file=$layout/blobs/$algorithm/$hex
    [ -f "$file" ] || fail 1 "$file is not there: the image is incomplete"
    length=$(wc -c <"$file") || exit 1
    length=${length##* } # some put blanks before it
    [ "$length" = "$size" ] || fail 1 "$file has $length bytes, want $size"
}

# check_file compares $file with its digest, if this machine has a program for that. A
# registry does the same in the end; here it costs nothing to send.
check_file() {
    bits=${algorithm#sha}
    if command -v "${algorithm}sum" >/dev/null; then
        got=$("${algorithm}sum" <"$file")
    elif command -v shasum >/dev/null; then
        got=$(shasum -a "$bits" <"$file")
    else
        return 0
    fi
    [ "${got%% *}" = "$hex" ] || fail 1 "$file is damaged: it has the digest $algorithm:${got%% *}"
}

# ---------------------------------------------------------------- blobs

# repository NAME is where what follows goes. Blobs may be there already in the ones before.
repository() {
    [ "$pass" = check ] || [ -z "$repo" ] || mount_from="$mount_from $repo"
    repo=$1
}

# blob DIGEST SIZE brings a blob into the repository.
blob() {
    find_file "$1" "$2"
    [ "$pass" = push ] || return 0
    if is_there; then
        say "$digest: is there"
        return
    fi
    check_file
    location='' by_patch=yes tries=0 farthest=0 wrong=0 lost=0 least=0 chunk=${REG_CHUNK:-$chunk_size}
    if mount; then
        say "$digest: mounted from $from"
        return
    fi
    say "$digest: sending $size bytes"
    upload
}

# is_there asks for the blob (end-2). A redirect to a storage of its own says yes, too.
is_there() {
    ask HEAD "$base/v2/$repo/blobs/$digest"
    case $status in
    200)
        header content-length
        [ -n "$value" ] && [ "$value" != "$size" ] || return 0
        say "$digest: the registry has it with $value bytes, want $size; sending it again"
        ;;
    302 | 303 | 307)
        header location
        case $value in
        *"/v2/$repo/blobs/$digest"*) ;; # the same question at another address
        *) return 0 ;;
        esac
        ;;
    000 | 401 | 429) refused "$digest" ;;
    *) if try_later; then refused "$digest"; fi ;;
    esac
    return 1
}

# mount asks the registry to take the blob over from another repository (end-11). One that
# cannot do so opens an upload, which is used.
mount() {
    if [ -f "$state/$repo/@$hex" ]; then return 1; fi # it would end an upload that can go on
    for from in $mount_from; do
        [ "$from" != "$repo" ] || continue
        ask POST "$base/v2/$repo/blobs/uploads/?mount=$digest&from=$from" -H 'Content-Length: 0'
        case $status in
        201) if is_there; then return 0; fi ;;
        202)
            [ -z "$location" ] || cancel
            begin
            ;;
        esac
    done
    return 1
}

# upload sends $file as the blob. The registry alone knows how much of a broken upload it
# holds, so after a failure it is asked, and nothing is sent twice on a guess.
upload() {
    [ -n "$location" ] || resume || start
    until deliver; do
        recover
    done
    forget
    # Only a look at it proves that the registry knows other algorithms than sha256.
    [ "$algorithm" = sha256 ] || is_there || [ "$status" != 404 ] ||
        fail 1 "$digest: it was accepted, but is not there under its digest"
}

# start opens an upload (end-4a; end-4c for another algorithm than sha256).
start() {
    query=
    [ "$algorithm" = sha256 ] || query="?digest-algorithm=$algorithm"
    ask POST "$base/v2/$repo/blobs/uploads/$query" -H 'Content-Length: 0'
    [ "$status" = 202 ] || refused "$digest: start an upload"
    begin
}

# begin takes over the upload that the answer opens, and how much it takes in one request.
begin() {
    take_location
    offset=0 reached=0
    header oci-chunk-max-length
    if is_number "$value" && [ "$value" -gt 0 ] && [ "$value" -lt "$size" ]; then
        if [ "$chunk" -eq 0 ] || [ "$chunk" -gt "$value" ]; then chunk=$value; fi
    fi
    header oci-chunk-min-length
    if is_number "$value"; then least=$value; fi
    remember
}

is_number() {
    case $1 in
    '' | *[!0-9]* | 0?* | ????????????????*) return 1 ;; # arithmetic takes 010 for 8
    esac
}

# take_location sets $location to that of the answer: each answer may bring a new one, and its
# query stays as it is. Off the registry's origin an upload gets no credentials, see request.
take_location() {
    header location
    absolute "$value" || fail 1 "$method ${url%%\?*}: status $status: there is no usable Location"
    case $value in
    "$base"/*) ;;
    *)
        if [ "$name" = "$base_name" ] && [ "$scheme:${base%%:*}" = http:https ] && { [ -z "$port" ] || [ "$port" = "$base_port" ]; }; then
            value=$base$rest # a proxy that ends TLS did not tell the registry about it
        else
            check_away "Location"
            [ "${away:-}" = "$name" ] || say "uploads go to $name, which gets no credentials"
            away=$name
        fi
        ;;
    esac
    location=$value
}

# deliver sends what is missing and closes the upload. It fails if a request does.
deliver() {
    while [ "$by_patch" = yes ] && [ "$offset" -lt "$size" ]; do
        next_end || break
        send PATCH "$location" # end-5
        case $status in
        200 | 201 | 202 | 204) accepted ;;
        *) return 1 ;;
        esac
    done
    end=$size
    close_upload
}

# next_end sets $end to the end of the next request. Without a chunk size that is the end of
# the blob. With one it is a multiple of $block, see cut_piece, and the last piece is left
# for the request that closes the upload.
next_end() {
    end=$size
    [ "$chunk" -gt 0 ] || return 0
    piece=$chunk
    block=65536
    if [ "$piece" -lt $((least + block)) ] && [ "$least" -gt 0 ]; then piece=$(((least + block - 1) / block * block)); fi
    while [ "$block" -gt "$piece" ]; do block=$((block / 2)); done
    [ $((size - offset)) -gt "$piece" ] || return 1
    end=$(((offset + piece) / block * block))
}

# send METHOD URL sends the bytes of $file from $offset to $end. Which they are is said if it
# is not the whole file: "first-last", without the word bytes.
send() {
    moves=0
    while :; do
        send_once "$@"
        reached=$((offset + sent))
        case $status in
        307 | 308) [ "$moves" -lt 5 ] && moved || return 0 ;; # it took nothing
        *) return 0 ;;
        esac
        moves=$((moves + 1))
        set -- "$1" "$value"
    done
}

send_once() {
    case $2 in
    */) set -- "$1" "$2?" ;; # curl would add the name of the file
    esac
    set -- "$1" "$2" -H 'Content-Type: application/octet-stream'
    if [ "$offset" -eq "$end" ]; then
        request "$@" -H 'Content-Length: 0'
    elif [ "$end" -lt "$size" ]; then
        cut_piece
        request "$@" -H "Content-Range: $offset-$((end - 1))" -C "$((offset % block))" -T "$tmp/piece"
    elif [ "$offset" -gt 0 ]; then
        request "$@" -H "Content-Range: $offset-$((end - 1))" -C "$offset" -T "$file"
    else
        request "$@" -T "$file"
    fi
}

# cut_piece copies the blocks with the bytes from $offset to $end; $end is a multiple of
# $block. curl skips what is before $offset.
cut_piece() {
    dd if="$file" of="$tmp/piece" bs="$block" skip="$((offset / block))" count="$((end / block - offset / block))" 2>"$tmp/err" ||
        fail 1 "$file: $(cat "$tmp/err")"
}

# accepted goes on after bytes were taken. The registry may say that it has a part of them
# only. One whose Range does not move is not believed: the digest decides.
accepted() {
    take_location
    from_offset=$offset
    offset=$end
    if held && [ "$held" -gt "$from_offset" ] && [ "$held" -lt "$end" ] && [ "$held" -gt 1 ]; then
        offset=$held
    fi
    progressed
    remember
}

# progressed forgives the failures so far if the upload has never been as far.
progressed() {
    [ "$offset" -gt "$farthest" ] || return 0
    farthest=$offset tries=0
}

# held sets $held to the number of bytes that the answer says the registry has. It fails if
# there is no such number.
held() {
    header range
    value=${value#bytes}
    value=${value#[= ]}
    case $value in
    0--1) held=0 ;;
    0-*)
        is_number "${value#0-}" || return 1
        held=$((${value#0-} + 1))
        ;;
    *) return 1 ;;
    esac
}

# close_upload closes the upload under the digest (end-6), with the bytes that are left.
close_upload() {
    case $location in
    *\?*) send PUT "$location&digest=$digest" ;;
    *) send PUT "$location?digest=$digest" ;;
    esac
    if [ "$status" = 401 ] && [ "$offset" -eq "$end" ] && login; then
        request "$method" "$url" -H 'Content-Type: application/octet-stream' -H 'Content-Length: 0'
    fi
    case $status in
    201 | 204) return 0 ;;
    000 | 200 | 202 | 404 | 5??) ;;
    *) return 1 ;;
    esac
    # The blob may have been stored although the answer does not say so.
    keep_answer
    if is_there; then return 0; fi
    bring_answer
    return 1
}

# keep_answer and bring_answer put the last answer aside while something else is asked.
keep_answer() {
    kept_status=$status kept_code=$code kept_method=$method kept_url=$url
    for part in head body err; do cp "$tmp/$part" "$tmp/kept_$part"; done
}

bring_answer() {
    status=$kept_status code=$kept_code method=$kept_method url=$kept_url
    for part in head body err; do cp "$tmp/kept_$part" "$tmp/$part"; done
}

# recover decides after a failed request: it goes on where the registry stands, sends smaller
# pieces, or everything in a new upload or another way. It ends the script if there is no hope.
recover() {
    tries=$((tries + 1))
    [ "$tries" -le 6 ] || refused "$digest"
    case $status in
    401) login || refused "$digest" ;;
    413)
        smaller
        return
        ;;
    416)
        if says 'too large' 'larger than' 'too big' 'exceed'; then
            smaller
            return
        fi
        ;;
    400 | 404 | 405 | 415 | 501)
        other_way
        return
        ;;
    2??) ;;
    *) try_later || refused "$digest" ;;
    esac
    pause $((tries - 1))
    cut=no
    [ "$status" != 000 ] || cut=yes
    if where_it_stands; then
        say "$digest: going on at byte $offset"
        return
    fi
    lost=$((lost + 1))
    [ "$lost" -lt 2 ] || by_patch=no # a registry that forgets what came by PATCH may take a PUT
    restart
}

# other_way begins again after an answer that says that the upload is not known, that its
# bytes are wrong, or that this way to send them is not.
other_way() {
    if says DIGEST_INVALID SIZE_INVALID; then
        wrong=$((wrong + 1))
        [ "$wrong" -lt 2 ] || refused "$digest"
    elif [ "$method" = PATCH ] && [ "$offset" -eq 0 ] && ! says BLOB_UPLOAD_UNKNOWN; then
        by_patch=no
    elif [ "$by_patch" = no ] && [ "$tries" -gt 2 ]; then
        refused "$digest"
    fi
    restart
}

# smaller begins again with smaller pieces.
smaller() {
    if [ "$chunk" -gt 0 ]; then chunk=$((chunk / 4)); else chunk=16777216; fi
    while [ "$chunk" -ge "$size" ]; do chunk=$((chunk / 4)); done
    [ "$chunk" -ge 65536 ] || refused "$digest"
    say "$digest: too large for one request here; sending pieces of $chunk bytes"
    by_patch=yes
    restart
}

restart() {
    cancel
    start
}

# cancel gives an upload up (end-14). Whether that works does not matter.
cancel() {
    request DELETE "$location" -m 5
    forget
}

# where_it_stands asks how much of the upload the registry has (end-13) and sets $offset. It
# fails if that is not clear: more than was sent is nonsense, and "0-0" is one byte or none,
# besides after an answer that refused the first bytes.
where_it_stands() {
    ask GET "$location"
    if try_later; then refused "$digest"; fi
    case $status in
    200 | 202 | 204) ;;
    *) return 1 ;;
    esac
    held || return 1
    if [ "$held" -le 1 ]; then
        [ "$cut" = no ] && [ "$offset" -eq 0 ] || return 1
        held=0
    fi
    [ "$held" -le "$reached" ] || return 1
    header location
    if [ -n "$value" ]; then take_location; fi
    offset=$held
    progressed
    remember
}

# resume takes up the upload that an earlier run left.
resume() {
    saved=$state/$repo/@$hex
    [ -n "$state" ] && [ -f "$saved" ] || return 1
    { IFS= read -r value && IFS= read -r location; } <"$saved" || return 1
    case $value:$location in
    "$base":http://* | "$base":https://*) ;;
    *) return 1 ;;
    esac
    reached=$size offset=0 cut=yes
    if where_it_stands; then
        say "$digest: going on at byte $offset"
        return 0
    fi
    forget
    return 1
}

# remember keeps the upload for the next run. Its Location may be a secret: see umask.
remember() {
    [ -n "$state" ] || return 0
    if mkdir -p "$state/$repo" 2>"$tmp/err" && cat 2>"$tmp/err" >"$state/$repo/@$hex" <<END; then
$base
$location
END
        return
    fi
    say "another run will not be able to go on with this upload: $(shown "$tmp/err")"
    hint "REG_STATE names a directory that can be written"
    state=
}

# forget removes what was remembered, and the directories if nothing is left in them.
forget() {
    [ -n "$state" ] && [ -d "$state/$repo" ] || return 0
    rm -f "$state/$repo/@$hex"
    { (cd "$state" && rmdir -p "$repo") && rmdir "$state"; } 2>/dev/null || :
}

# ---------------------------------------------------------------- manifests

# lacks DIGEST [TAG...] reports whether the image is to be sent, which it is not if it has all
# its names (end-3).
lacks() {
    [ "$pass" = push ] || return 0
    digest=$1
    shift
    [ "$#" -gt 0 ] || set -- "$digest"
    for tag; do
        is_named "$tag" || return 0
    done
    say "$digest: is there, with its names"
    return 1
}

# is_named NAME reports whether NAME means $digest in the registry.
is_named() {
    ask HEAD "$base/v2/$repo/manifests/$1" -H "Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, */*"
    case $status in
    200) ;;
    000 | 401) refused "$1" ;;
    *)
        if try_later; then refused "$1"; fi
        return 1
        ;;
    esac
    header docker-content-digest
    [ "$value" = "$digest" ] || { [ -z "$value" ] && [ "$1" = "$digest" ]; }
}

# manifest DIGEST SIZE TYPE [TAG...] stores a manifest under its tags, or under its digest.
manifest() {
    find_file "$1" "$2"
    [ "$pass" = push ] || return 0
    type=$3
    shift 3
    [ "$#" -gt 0 ] || set -- ''
    for tag; do
        store "${tag:-$digest}" || refused "manifest $digest"
        say "$digest: stored${tag:+ as $tag}"
    done
}

# referrer DIGEST SIZE TYPE SUBJECT [TAG...] is manifest for one that refers to another. A
# registry that says nothing of the subject keeps no list of what refers to it; a list under
# a tag would have to be edited, which takes more than a shell.
referrer() {
    subject=$4 first=$1 second=$2 third=$3
    shift 4
    manifest "$first" "$second" "$third" "$@"
    [ "$pass" = push ] || return 0
    header oci-subject
    [ "$value" = "$subject" ] || ask_referrers || {
        say "$digest: the registry does not list what refers to $subject"
        hint "\`ocikit push\` keeps the list under a tag"
    }
}

# ask_referrers reports whether the registry knows the list (end-12).
ask_referrers() {
    ask GET "$base/v2/$repo/referrers/$subject"
    [ "$status" = 200 ] && says "$digest"
}

# other DIGEST SIZE TYPE is manifest for a type that not every registry takes.
other() {
    find_file "$1" "$2"
    [ "$pass" = push ] || return 0
    type=$3
    store "$digest" || say "$digest: the registry does not take the type $type"
}

# store NAME stores the manifest in $file (end-7a). It names its own place, so it may be sent
# again. A registry may need a moment to see blobs that it has taken.
store() {
    for try in 1 2 3 4; do
        ask PUT "$base/v2/$repo/manifests/$1" -H "Content-Type: $type" --data-binary "@$file"
        case $status in
        200 | 201 | 202)
            header docker-content-digest
            case $value in
            "$digest") return 0 ;;
            "$algorithm":*) fail 1 "manifest $digest: the registry says that it is $value" ;;
            esac
            is_named "$digest"
            return
            ;;
        400 | 404)
            says BLOB_UNKNOWN MANIFEST_UNKNOWN || break
            pause "$try"
            ;;
        *) break ;;
        esac
    done
    case $status in
    400 | 403 | 409 | 412) ;;
    *) return 1 ;;
    esac
    # A tag that may not change is refused even if it is right.
    [ "$1" != "$digest" ] || return 1
    keep_answer
    if is_named "$1"; then return 0; fi
    bring_answer
    return 1
}

# pushed DIGEST prints the name of an image that is there.
pushed() {
    [ "$pass" = push ] || return 0
    printf '%s/%s@%s\n' "$host" "$repo" "$1"
}

# ---------------------------------------------------------------- all of it

# use_url takes the registry from REG_URL.
use_url() {
    [ -n "${REG_URL:-}" ] || return 0
    case $REG_URL in
    http://* | https://*) ;;
    *) fail 2 "REG_URL is $REG_URL, want https://HOST:PORT" ;;
    esac
    if ! absolute "$REG_URL" || [ "$rest" != / ]; then fail 2 "REG_URL is $REG_URL, want https://HOST:PORT"; fi
    base=${value%/} guessed=no
    host=${base#*://}
}

# find_scheme turns to http on this machine if there is no https. It brings $base into the form
# that absolute gives all addresses: they are compared with it.
find_scheme() {
    if [ "$guessed" = yes ]; then
        request GET "$base/v2/" # end-1
        case $status:$code in
        000:35 | 000:52 | 000:56) base=http://${base#https://} ;;
        esac
    fi
    absolute "$base"
    base=${value%/} base_name=$name base_port=$port
}

make_tmp() {
    for i in 1 2 3 4 5 6 7 8 9; do
        if mkdir "${TMPDIR:-/tmp}/push-$$-$i" 2>/dev/null; then
            tmp=${TMPDIR:-/tmp}/push-$$-$i
            : >"$tmp/auth"
            return
        fi
    done
    fail 1 "cannot make a directory in ${TMPDIR:-/tmp}"
}

newline='
'
[ "$#" -le 1 ] || fail 2 "usage: sh $me [LAYOUT]"
is_number "${REG_CHUNK:-0}" || fail 2 "REG_CHUNK is $REG_CHUNK, want a number of bytes"
command -v curl >/dev/null || fail 1 "curl is not installed"
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
trap 'exit 141' PIPE
use_url
find_layout "$@"
pass=check repo=
images
make_tmp
find_scheme
pass=push repo=
images
