# A hundred rekeys on demand, child and IKE in turn, from both ends, under a stream.
two_hosts
pair </dev/null
start a; start b
reaches a $B6 3 || fail "no tunnel"
iperf b $B6 a -u -b 20M -l 1000 -t 24 >"$DIR/udp.json" & load=$!
sleep 0.5
for n in $(seq 25); do
    dom a rekey b >/dev/null; sleep 0.2
    dom b rekey a --ike >/dev/null; sleep 0.2
    dom b rekey a >/dev/null; sleep 0.2
    dom a rekey b --ike >/dev/null; sleep 0.2
done
wait $load
lost=$(jq '.end.sum.lost_packets' "$DIR/udp.json"); sent=$(jq '.end.sum.packets' "$DIR/udp.json")
say "$lost of $sent packets lost over 100 rekeys"
[ "$lost" = 0 ] || fail "$lost packets lost"
dom a rekey b --reauth >/dev/null
settled a b
reaches a $B6 3 || fail "no tunnel after reauthentication"
