# Either end may start first, and the first packet is not lost.
two_hosts
pair </dev/null
for first in a b; do
    second=$([ $first = a ] && echo b || echo a)
    start $first
    target=$([ $first = a ] && echo $B6 || echo $A6)
    on $first ping -6 -q -c 40 -i 0.25 -W 1 "$target" >"$DIR/early" 2>&1 & pinger=$!
    sleep 1.2
    start $second
    until_true 80 "$first is answered" bash -c "ip netns exec $NS$first ping -6 -q -c 1 -W 1 $target"
    wait $pinger || fail "none of the early pings was answered"
    settled a b
    stop a; stop b
done
