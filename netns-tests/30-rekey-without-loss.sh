# Child and IKE SAs are rekeyed again and again under load: not one packet is lost.
two_hosts
pair <<<'[esp]
rekey = "2s"
jitter = 0.3
[ike]
rekey = "3s"'
start a; start b
reaches a $B6 3 || fail "no tunnel"
seen() { status a '.peers[0].children[].inbound.spi'; }
iperf b $B6 a -u -b 20M -l 1200 -t 20 >"$DIR/udp.json" & load=$!
on a ping -6 -q -i 0.02 -c 950 -W 2 $B6 >"$DIR/ping" & pinger=$!
for _ in $(seq 90); do seen; sleep 0.2; done | sort -u >"$DIR/spis"
wait $load $pinger
lost=$(jq '.end.sum.lost_packets' "$DIR/udp.json"); sent=$(jq '.end.sum.packets' "$DIR/udp.json")
say "$(wc -l <"$DIR/spis") child SAs seen; $lost of $sent UDP packets lost; $(grep -o '[0-9.]*% packet loss' "$DIR/ping") of pings"
[ "$(wc -l <"$DIR/spis")" -ge 7 ] || fail "too few rekeys"
[ "$lost" = 0 ] || fail "$lost packets lost"
grep -q " 0% packet loss" "$DIR/ping" || fail "pings lost: $(cat "$DIR/ping")"
expect a '.peers[0].state' established
