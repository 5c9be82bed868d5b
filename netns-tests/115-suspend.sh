# A daemon that stands still for half a minute, an interface that goes and comes back, a NAT that forgets while its host sleeps:
# each recovers within a few seconds, and 'status' tells which path is in use, why, and what was before. News from the kernel
# that changes nothing moves nobody.
source "$TESTS/home.sh"
internet
site e1 endpoint-independent; site e2 endpoint-independent
home_at home 192.0.2.10 home.example
node_at e1 laptop; node_at e2 server
direct_to laptop server "203.0.113.2:*"; direct_to server laptop "203.0.113.1:*"
to_server=$(entity_of server) to_laptop=$(entity_of laptop)

# path HOST PEER-ADDRESS JQ: of the path in use.
path() { dom "$1" status "$2" --json | jq -r ".paths[0] | $3"; }

# --- what status, ping and the home tell ------------------------------------------------------------------------------------
[ "$(path laptop "$to_server" '[.kind, .reason, .proven_mtu, (.history[0].kind)] | join("/")')" = "direct/a direct path was proven/1380/relayed" ] ||
    fail "the path is told as $(path laptop "$to_server" .)"
[ "$(path laptop "$to_server" '[.candidates[] | select(.in_use)] | length')" = 1 ] || fail "no candidate is in use"
# The address of the home is the first that was used.
dom laptop status "$to_server" >"$DIR/told"
grep -q "before: relayed 192.0.2.10:4500 until .* ago: conversations start relayed" "$DIR/told" || fail "no history: $(cat "$DIR/told")"
on laptop "$DOMICILE" --config "$DIR/laptop.toml" ping -c 1 "$to_server" >"$DIR/told" || fail "ping: $(cat "$DIR/told")"
grep -qE "^path +direct 203.0.113.2:[0-9]+ for .*: a direct path was proven" "$DIR/told" || fail "ping tells no path: $(cat "$DIR/told")"
registration='.registrations[0] | [.state, .behind_nat, (.care_of | startswith("203.0.113.1:")), (.expires > 60), (.refresh > 0), .last_error] | map(tostring) | join(" ")'
expect laptop "$registration" "registered true true true true null"
expect home '.home | [.bindings, .prefixes, .tentative] | map(tostring) | join(" ")' "2 2 0"
at_home bindings --json >"$DIR/bindings"
[ "$(jq -r 'length' "$DIR/bindings")" = 4 ] || fail "not four bindings: $(cat "$DIR/bindings")"
[ "$(at_home bindings "$to_laptop" --json | jq -r '.[0] | [.home_address, .behind_nat, .tentative] | map(tostring) | join(" ")')" = "$to_laptop true null" ] ||
    fail "the binding of the laptop is told as $(at_home bindings "$to_laptop")"

# --- news that are none -----------------------------------------------------------------------------------------------------
before=$(path laptop "$to_server" '.history | length')
for _ in 1 2 3; do
    ip -n "${NS}laptop" addr change "$(address_of laptop)/24" dev net valid_lft 3600 preferred_lft 3600
    ip -n "${NS}laptop" link add idle type veth peer name idler; sleep 0.2
    ip -n "${NS}laptop" link del idle; sleep 0.2
done
[ "$(path laptop "$to_server" '.history | length')" = "$before" ] || fail "a lease that was renewed moved the laptop: $(path laptop "$to_server" .history)"
say "leases that are renewed and links of others move nobody"

# back_within SECONDS WHAT: traffic in both directions, from now on.
back_within() {
    local began; began=$(ms)
    until_true $(($1 * 10)) "$2: the laptop reaches the server" reaches laptop "$to_server" 1
    until_true $(($1 * 10)) "$2: the server reaches the laptop" reaches server "$to_laptop" 1
    local took=$(($(ms) - began))
    say "$2: both reach each other again after $took ms"
    [ $took -le $(($1 * 1000)) ] || fail "$2: $took ms are more than $1 s"
    until_true 100 "$2: registered again" status_is laptop '.registrations[0].state' registered
}

# --- a daemon that stands still ---------------------------------------------------------------------------------------------
(exec ip netns exec "${NS}server" ping -6 -q -i 0.5 -w 32 "$to_laptop" >/dev/null 2>&1) & pinger=$!
kill -STOP "$(cat "$DIR/laptop.pid")"; sleep 30; kill -CONT "$(cat "$DIR/laptop.pid")"
back_within 5 "stopped for 30 s"
wait $pinger 2>/dev/null || true
until_true 20 "the daemon noticed" grep -q "nothing ran for" "$DIR/laptop.log"
direct_to laptop server "203.0.113.2:*"; direct_to server laptop "203.0.113.1:*"

# --- and meanwhile its NAT forgot it ----------------------------------------------------------------------------------------
old=$(status laptop '.registrations[0].care_of')
kill -STOP "$(cat "$DIR/laptop.pid")"; reboot_nat e1; sleep 10; kill -CONT "$(cat "$DIR/laptop.pid")"
back_within 8 "stopped while its NAT forgot it"
new=$(status laptop '.registrations[0].care_of')
[ "$new" != "$old" ] || fail "the home agent still sees the laptop at $old"
direct_to laptop server "203.0.113.2:*"; direct_to server laptop "203.0.113.1:*"

# --- a NAT that forgets, without any sleep: the path dies, and the home is asked at once ------------------------------------
stream laptop server forgot 30; sleep 1
reboot_nat e2; sleep 9; end_stream forgot
gap_below forgot 6000 "the server's NAT forgot it"
direct_to laptop server "203.0.113.2:*"; direct_to server laptop "203.0.113.1:*"

# --- an interface that goes and comes back ----------------------------------------------------------------------------------
unplug laptop; sleep 10; plug laptop e1
back_within 8 "unplugged for 10 s"
direct_to laptop server "203.0.113.2:*"; direct_to server laptop "203.0.113.1:*"
[[ $(path laptop "$to_server" '[.history[].reason] | join(", ")') == *"this machine moved"* ]] || fail "history: $(path laptop "$to_server" .history)"
