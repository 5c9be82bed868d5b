# A child SA is replaced after so many packets, too.
two_hosts
pair <<<'[esp]
rekey_packets = 1000'
start a; start b
reaches a $B6 1 || fail "no tunnel"
first=$(status a '.peers[0].children[0].inbound.spi')
on a ping -6 -q -f -c 3000 -W 1 $B6 >"$DIR/ping" || true
until_true 50 "the child was replaced" bash -c "[ \"\$('$DOMICILE' --config $DIR/a.toml status --json | jq -r '.peers[0].children[0].inbound.spi')\" != $first ]"
grep -q " 0% packet loss" "$DIR/ping" || fail "$(cat "$DIR/ping")"
settled a b
