# Handshake, rekeys and TCP on a network that loses 1 and 5 % of the packets in both directions.
two_hosts
pair <<<'[esp]
rekey = "3s"'
for percent in 1 5; do
    loss a $percent; loss b $percent
    start a; start b
    until_true 100 "the handshake gets through" bash -c "ip netns exec ${NS}a ping -6 -q -c 1 -W 1 $B6"
    rate=$(iperf b $B6 a -t 8 | mbits)
    say "TCP with $percent % loss: $rate Mbit/s"
    [ "$rate" -ge 1 ] || fail "TCP does not get anywhere"
    expect a '.peers[0].state' established
    no_loss a; no_loss b
    stop a; stop b
done
