# Either end may start first. What is sent before the other end is there waits for it: not one packet is lost.
two_hosts
pair </dev/null
for first in a b; do
    second=$([ $first = a ] && echo b || echo a)
    start $first
    target=$([ $first = a ] && echo $B6 || echo $A6)
    # -W: the first answers come seconds late, and ping must still be there.
    on $first ping -6 -c 30 -i 0.2 -W 10 "$target" >"$DIR/early" 2>&1 & pinger=$!
    sleep 1.2
    sent=$(on $first cat /sys/class/net/domicile0/statistics/tx_packets)
    expect $first '.peers[0].state' connecting
    [ "$sent" -ge 3 ] || fail "nothing was sent before $second was there"
    began=$(ms)
    start $second
    wait $pinger || fail "pings before $second was there: $(tail -3 "$DIR/early")"
    grep -q "icmp_seq=1 ttl" "$DIR/early" || fail "the first packet was lost: $(cat "$DIR/early")"
    grep -q " 30 received, 0% packet loss" "$DIR/early" || fail "packets were lost: $(tail -3 "$DIR/early")"
    say "$first first: $sent packets waited for $second, all 30 answered, the first after $(grep -oP 'icmp_seq=1 .*time=\K[0-9]+' "$DIR/early") ms"
    settled a b
    [ "$(status $first '.drops | length')" = 0 ] || fail "drops: $(status $first .drops)"
    stop a; stop b
done
