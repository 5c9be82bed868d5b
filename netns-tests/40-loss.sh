# Handshake, rekeys of child and IKE SA, and TCP on a network that loses 1 and 5 % of the packets in both directions, and of
# the IKE messages every fifth for certain.
two_hosts
pair <<<'[esp]
rekey = "3s"
[ike]
rekey = "4s"'
seen() { sort -u "$DIR/seen" | grep -c "$1"; }
for percent in 1 5; do
    loss a $percent; loss b $percent
    start a; start b
    until_true 100 "the handshake gets through" bash -c "ip netns exec ${NS}a ping -6 -q -c 1 -W 1 $B6"
    # Both ends rekey: the SPIs that either has had. A lost message delays a rekey by its retransmission, and while the child SA
    # is being rekeyed the IKE SA has to wait (RFC 7296 2.25.2): eight seconds usually do, and sometimes they do not.
    : >"$DIR/seen"
    on a ping -6 -q -i 0.2 -w 60 $B6 >/dev/null & pings=$!
    (for turn in $(seq 200); do
        for end in a b; do status $end '.peers[0] | (.children[] | "child \(.inbound.spi)"), (.ike[] | "ike \(.spi_i)")'; done >>"$DIR/seen"
        sleep 0.2
        [ $turn -lt 40 ] || [ "$(seen child)" -lt 6 ] || [ "$(seen ike)" -lt 2 ] || break
    done) & watcher=$!
    rate=$(iperf b $B6 a -t 10 | mbits)
    wait $watcher
    kill $pings; wait $pings || true
    children=$(seen child) ikes=$(seen ike)
    say "TCP with $percent % loss: $rate Mbit/s; inbound child SPIs at both ends: $children, IKE SAs: $ikes"
    say "lost: $(lost a any) at a and $(lost b any) at b of all packets, $(lost a ike) and $(lost b ike) IKE messages besides"
    [ "$rate" -ge 1 ] || fail "TCP does not get anywhere"
    [ "$children" -ge 6 ] || fail "the child SAs were not rekeyed under loss: $children"
    [ "$ikes" -ge 2 ] || fail "the IKE SA was not rekeyed under loss"
    for end in a b; do
        [ "$(lost $end any)" -ge 10 ] || fail "hardly anything was lost at $end: $(lost $end any)"
        [ "$(lost $end ike)" -ge 1 ] || fail "no IKE message was lost at $end"
    done
    no_loss a; no_loss b
    agreed a b
    reaches b $A6 3 || fail "no traffic after the loss"
    stop a; stop b
done
