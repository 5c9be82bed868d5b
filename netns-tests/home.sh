# A home in the middle of the internet of sites.sh, and members that join it by code. Sourced by stories, after sites.sh.
#
#   home_at HOST IPV4 [DOMAIN]     makes a public host a home, and starts it
#   at_home VERB…                  'domicile home VERB…' there; HOME_HOST tells where (the last home_at)
#   code_for WHO                   a fresh code
#   join HOST WHO [ARGS…]          a placed host joins as WHO (a user, node or service that the home knows), by code
#   member HOST WHO                joins and starts; then WHO is registered
#   node_at SITE HOST…             places hosts, each a node of the home, and starts them
#   directory_each                 each machine keeps its files in a directory of its own: roots and keys of the same name do not meet
#   entity_of HOST                 its permanent address
#   path_of HOST PEER-ADDRESS      "relayed" or "direct ADDRESS:PORT", by its status
# shellcheck shell=bash
source "$TESTS/sites.sh"

HOME_HOST= HOME_V4=
home_at() {
    public_host "$1" "$2"
    HOME_HOST=$1 HOME_V4=$2
    dom "$1" home init --address "$2" --domain "${3:-$1.example}" --allow-special >/dev/null
    start "$1"
}
at_home() { dom "$HOME_HOST" home "$@"; }
code_for() { at_home invite "$1" | grep -oE '([0-9A-Z]{5}-){5}[0-9A-Z]{5}' | head -1; }
join() {
    local host=$1 code; code=$(code_for "$2"); shift 2
    dom "$host" join "$HOME_V4" "$code" --name "$host" --allow-special "$@" >"$DIR/$host.joined"
}
member() { join "$@"; start "$1"; registered "$1"; }
node_at() {
    local site=$1 name; shift
    for name; do place "$name" "$site"; at_home node add "$name" >/dev/null; member "$name" "$name"; done
}
directory_each() { config_of() { echo "$DIR/$1/domicile.toml"; }; }
registered() { until_true 100 "$1 is registered" grep -q "is registered with its home agent" "$DIR/$1.log"; }
entity_of() { grep -m1 '^address' "$(config_of "$1")" | cut -d'"' -f2; }
path_of() { status "$1" ".peers[] | select(.address == \"$2\") | .ike[0] | if .path_kind == \"relayed\" then \"relayed\" else \"direct \" + .path_remote end"; }
path_is() { [[ "$(path_of "$1" "$2")" == $3 ]]; }

# direct_to A B PATTERN: B's path from A becomes direct to that pattern while A pings it.
direct_to() {
    local to; to=$(entity_of "$2")
    reaches "$1" "$to" 5 || reaches "$1" "$to" 5 || fail "$1 does not reach $2 at first"
    until_true 150 "the path of $1 to $2 is direct to $3 (it is '$(path_of "$1" "$to")')" path_is "$1" "$to" "direct $3"
}
# stream FROM TO FILE SECONDS: a packet each 50 ms, in the background, until end_stream.
stream() {
    (exec ip netns exec "$NS$1" ping -6 -n -D -O -i 0.05 -w "$4" "$(entity_of "$2")" >"$DIR/$3" 2>&1) &
    echo $! >"$DIR/$3.pid"
}
end_stream() { kill -INT "$(cat "$DIR/$1.pid")" 2>/dev/null || true; wait "$(cat "$DIR/$1.pid")" 2>/dev/null || true; }
# lost_and_gap FILE: packets without an answer, and the longest time without an answer in milliseconds.
lost_and_gap() {
    awk -F'[][ =]' '/bytes from/ { at = $2 * 1000; for (i = 1; i < NF; i++) if ($i == "icmp_seq") seq = $(i + 1)
            if (n && at - last > gap) gap = at - last; last = at; n++; if (seq > top) top = seq }
        END { if (!n) print "all", 999999; else printf "%d %d\n", top - n, gap }' "$DIR/$1"
}
# gap_below FILE MILLISECONDS WHAT
gap_below() {
    local lost gap; read -r lost gap < <(lost_and_gap "$1")
    say "$3: $lost packets of 20 a second lost, longest silence $gap ms"
    [ "$gap" -le "$2" ] || fail "$3: silence of $gap ms is more than $2"
}
