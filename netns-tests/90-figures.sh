# Figures, not limits: the tunnel beside the same wire without it. Medians of several.
two_hosts
pair </dev/null
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
rtt() { on a ping "$@" -q -c 200 -i 0.005 -W 1 | awk -F/ '/^rtt/ {print $5 * 1000}'; }
start a; start b
reaches a $B6 3 || fail "no tunnel"
for n in 1 2 3; do
    iperf b $B4 a -t 3 | mbits >>"$DIR/plain"; iperf b $B6 a -t 3 | mbits >>"$DIR/tunnel"
    iperf b $B4 a -t 3 -P 4 | mbits >>"$DIR/plain4"; iperf b $B6 a -t 3 -P 4 | mbits >>"$DIR/tunnel4"
    rtt $B4 >>"$DIR/plain-rtt"; rtt -6 $B6 >>"$DIR/tunnel-rtt"
done
say "TCP, one stream: $(median <"$DIR/tunnel") Mbit/s through the tunnel, $(median <"$DIR/plain") without"
say "TCP, four streams: $(median <"$DIR/tunnel4") Mbit/s through the tunnel, $(median <"$DIR/plain4") without"
say "ping: $(median <"$DIR/tunnel-rtt") us through the tunnel, $(median <"$DIR/plain-rtt") us without"
for n in $(seq 21); do
    dom a disconnect b >/dev/null
    until_true 50 "both are idle" status_is b '[.peers[0].ike[]] | length' 0
    dom a connect b | sed -n 's/.*after \([0-9]*\) ms.*/\1/p' >>"$DIR/handshake"
done
say "handshake: median $(median <"$DIR/handshake") ms, $(wc -l <"$DIR/handshake") of them"
for n in 1 2 3 4 5; do
    # A stream of pings every 10 ms from the survivor; the gap is counted in lost ones after the restart.
    on a ping -6 -q -i 0.01 -c 400 -W 1 $B6 >"$DIR/gap" 2>&1 & pinger=$!
    sleep 0.3; kill9 b
    began=$(ms); start b
    until_true 300 "b answers again" bash -c "ip netns exec ${NS}b true && [ \$(ip netns exec ${NS}b '$DOMICILE' --config $DIR/b.toml status --json | jq '[.peers[0].children[].inbound.packets] | add // 0') -gt 0 ]"
    echo $(( $(ms) - began )) >>"$DIR/recovery"
    wait $pinger || true
    settled a b
done
say "kill -9 and restart while the other end sends: traffic after a median of $(median <"$DIR/recovery") ms, start of the process included"
