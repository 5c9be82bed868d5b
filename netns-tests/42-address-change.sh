# One end gets another IPv4 address in the middle of a transfer: first the one that started the SA, then the other.
two_hosts
pair </dev/null
start a; start b
reaches a $B6 3 || fail "no tunnel"
expect a '.peers[0].ike[0].initiator' true
for mover in a b; do
    old=$([ $mover = a ] && echo $A4 || echo $B4)
    new=$([ $mover = a ] && echo 198.51.100.11 || echo 198.51.100.12)
    link=$([ $mover = a ] && echo to-b || echo to-a)
    iperf b $B6 a -t 8 -i 1 >"$DIR/tcp.json" & load=$!
    on a ping -6 -q -i 0.05 -c 120 -W 1 $B6 >"$DIR/ping" 2>&1 & pinger=$!
    sleep 2
    on $mover ip addr add "$new/24" dev $link
    on $mover ip addr del "$old/24" dev $link
    wait $load; wait $pinger || true
    rate=$(mbits <"$DIR/tcp.json")
    say "$mover moved: TCP went on at $rate Mbit/s, $(grep -o '[0-9.]*% packet loss' "$DIR/ping") of pings"
    [ "$(jq '.end.sum_received.bytes // 0' "$DIR/tcp.json")" -gt 1000000 ] || fail "the transfer broke: $(jq -c .error "$DIR/tcp.json")"
    [ "$(jq '.intervals[-1].sum.bytes' "$DIR/tcp.json")" -gt 0 ] || fail "the transfer stalled"
    other=$([ $mover = a ] && echo b || echo a)
    until_true 100 "$other sends to $new" bash -c "'$DOMICILE' --config $DIR/$other.toml status --json | jq -r '.peers[0].ike[].path_remote' | grep -q ^$new:"
    settled a b
done
