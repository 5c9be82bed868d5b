# A hundred rekeys on demand, child and IKE in turn, from both ends, under a stream.
two_hosts
pair </dev/null
start a; start b
reaches a $B6 3 || fail "no tunnel"
there=$(missing a b) back=$(missing b a) full=$(( $(overrun a b) + $(overrun b a) ))
iperf b $B6 a -u -b 20M -l 1000 -t 24 >"$DIR/udp.json" & load=$!
sleep 0.5
for n in $(seq 25); do
    dom a rekey b >/dev/null; sleep 0.2
    dom b rekey a --ike >/dev/null; sleep 0.2
    dom b rekey a >/dev/null; sleep 0.2
    dom a rekey b --ike >/dev/null; sleep 0.2
done
wait $load
sleep 0.5
there=$(( $(missing a b) - there )) back=$(( $(missing b a) - back )) full=$(( $(overrun a b) + $(overrun b a) - full ))
say "$there of $(jq '.end.sum.packets' "$DIR/udp.json") packets did not come out over 100 rekeys, $back the other way; $full found a queue full"
[ "$there" -le 0 ] && [ "$back" -le 0 ] || fail "packets lost: $there, $back"
[ "$full" -le 600 ] || fail "$full packets found a queue full: the daemon does not keep up"
dom a rekey b --reauth >/dev/null
settled a b
reaches a $B6 3 || fail "no tunnel after reauthentication"
