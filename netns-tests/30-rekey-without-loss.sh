# Child and IKE SAs are rekeyed again and again under load: not one packet is lost.
two_hosts
pair <<<'[esp]
rekey = "2s"
jitter = 0.3
[ike]
rekey = "3s"'
start a; start b
reaches a $B6 3 || fail "no tunnel"
there=$(missing a b) back=$(missing b a) full=$(( $(overrun a b) + $(overrun b a) ))
seen() { status a '.peers[0].children[].inbound.spi'; }
iperf b $B6 a -u -b 20M -l 1200 -t 20 >"$DIR/udp.json" & load=$!
on a ping -6 -q -i 0.02 -c 950 -W 2 $B6 >"$DIR/ping" & pinger=$!
for _ in $(seq 90); do seen; sleep 0.2; done | sort -u >"$DIR/spis"
wait $load $pinger
sleep 0.5
there=$(( $(missing a b) - there )) back=$(( $(missing b a) - back )) full=$(( $(overrun a b) + $(overrun b a) - full ))
say "$(wc -l <"$DIR/spis") child SAs seen; of $(jq '.end.sum.packets' "$DIR/udp.json") UDP packets and 950 pings $there did not come out at b, $back not back at a; $full found a queue full"
[ "$(wc -l <"$DIR/spis")" -ge 7 ] || fail "too few rekeys"
[ "$there" -le 0 ] && [ "$back" -le 0 ] || fail "packets lost: $there, $back"
[ "$full" -le 400 ] || fail "$full packets found a queue full: the daemon does not keep up"
[ "$full" -gt 0 ] || grep -q " 0% packet loss" "$DIR/ping" || fail "pings lost: $(cat "$DIR/ping")"
expect a '.peers[0].state' established
