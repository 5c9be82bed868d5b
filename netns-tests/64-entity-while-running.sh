# Addresses of the machine itself come and go by reload, while everything else stays.
two_hosts
pair <<<""
start a; start b
reaches a $B6 3 || fail "no tunnel"
S6=${A6%::*}::5
dom a key generate "$DIR/second.key" >/dev/null
cp "$DIR/a.toml" "$DIR/before.toml"
more a <<T

[[entity]]
name = "second"
address = "$S6"
key_file = "second.key"
T
dom b peer add second $S6 --public-key "$(dom a key show --entity second)" --endpoint none >/dev/null
dom a reload >/dev/null
until_true 50 "a has its second address" eval "on a ip -6 addr show dev domicile0 | grep -q $S6/128"
on a ping -6 -q -c 3 -i 0.2 -W 1 -I $S6 $B6 >/dev/null || fail "nothing comes back to the second address"
status_is b "[.peers[] | select(.address == \"$S6\") | .children[]] | length" 1 || fail "b has no SA with the second address"
# Neighbours do not reach it in clear.
[ -z "$(on a ip -6 route show table local | grep "$S6" || true)" ] || fail "the kernel answers for the second address on every interface"
reaches a $B6 3 || fail "the first address lost its tunnel"
cp "$DIR/before.toml" "$DIR/a.toml"
dom a reload >/dev/null
until_true 50 "the second address is gone" eval "! on a ip -6 addr show dev domicile0 | grep -q $S6"
[ -z "$(on a ip -6 route show table all | grep "$S6" || true)" ] || fail "routes of the second address are left"
until_true 50 "b closed the SA with it" status_is b "[.peers[] | select(.address == \"$S6\") | .children[]] | length" 0
reaches a $B6 3 || fail "the tunnel of the first address went as well"

# What the command line says in place of the file is no change of the file.
stop a
(exec ip netns exec "${NS}a" "$DOMICILE" --config "$(config_of a)" --socket "$DIR/other.sock" up --queues 2 >>"$DIR/a.log" 2>&1) &
echo $! >"$DIR/a.pid"
other() { dom a --socket "$DIR/other.sock" "$@"; }
until_true 100 "the daemon of a is up" other status --json
[ "$(other status --json | jq .data_plane.queues)" = 2 ] || fail "it has not the queues that it was told"
other reload >/dev/null || fail "a reload is refused"
echo 'queues = 0' | sed -i '/^\[node\]/r /dev/stdin' "$(config_of a)"
if other reload >"$DIR/said" 2>&1; then fail "no queue at all is taken"; fi
grep -q "queues = 0 is not between 1 and 32" "$DIR/said" || fail "a reload says: $(cat "$DIR/said")"
reaches a $B6 3 || fail "no tunnel"
