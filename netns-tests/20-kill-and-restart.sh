# kill -9 of one end and restart: traffic returns without anyone touching the other end.
two_hosts
pair <<<'[ike]
dpd = "3s"'
start a; start b
reaches a $B6 3 || fail "no tunnel"

for victim in a b; do
    other=$([ $victim = a ] && echo b || echo a)
    target=$([ $victim = a ] && echo $A6 || echo $B6)
    # The survivor goes on sending.
    (exec ip netns exec "$NS$other" ping -6 -q -i 0.05 -c 400 -W 1 "$target" >"$DIR/stream" 2>&1) & stream=$!
    sleep 0.5
    kill9 $victim
    sleep 0.5
    began=$(ms)
    start $victim
    until_true 200 "traffic $other -> $victim returns" bash -c "ip netns exec $NS$other ping -6 -q -c 1 -W 0.1 $target"
    say "traffic returned $(( $(ms) - began )) ms after $victim was started again (the survivor sends)"
    kill $stream 2>/dev/null; wait $stream 2>/dev/null || true
    settled a b
done

# The restarted end speaks first.
kill9 a; sleep 0.3; began=$(ms); start a
until_true 200 "traffic a -> b returns" bash -c "ip netns exec ${NS}a ping -6 -q -c 1 -W 0.1 $B6"
say "traffic returned $(( $(ms) - began )) ms after a was started again (the restarted end sends)"
settled a b
