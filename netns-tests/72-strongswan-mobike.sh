# With a strongSwan: MOBIKE in both roles, and its death, which we notice.
source "$TESTS/strongswan.sh"
host a s; wire a $A4/24 s $B4/24
for starter in a s; do
    entity a $A6
    strongswan s $B6 $B4 $A6 "$A4,198.51.100.11" pubkey chacha20poly1305-prfsha256-curve25519 chacha20poly1305 "mobike = yes"
    sed -i 's/local_addrs = .*/local_addrs = %any/' "$DIR/s/swanctl/swanctl.conf"; swan s --load-all >/dev/null
    peer a s $B6
    more a <<<'[ike]
dpd = "2s"
retransmit_tries = 4'
    start a
    if [ $starter = a ]; then reaches a $B6 3; else swan s --initiate --child child >/dev/null; fi || fail "no tunnel"
    reaches a $B6 2 || fail "no traffic"
    expect a '.peers[0].ike[0].mobike' true
    mover=$starter
    link=$([ $mover = a ] && echo to-s || echo to-a)
    old=$([ $mover = a ] && echo $A4 || echo $B4) new=$([ $mover = a ] && echo 198.51.100.11 || echo 198.51.100.12)
    on $mover ip addr add $new/24 dev $link; on $mover ip addr del $old/24 dev $link
    until_true 150 "traffic a -> s after $mover moved" bash -c "ip netns exec ${NS}a ping -6 -q -c 1 -W 1 $B6"
    until_true 50 "traffic s -> a" bash -c "ip netns exec ${NS}s ping -6 -q -c 1 -W 1 $A6"
    say "$starter started, $mover moved: traffic goes on"
    # Death: no goodbye.
    kill -9 "$(ip netns pids "${NS}s" | xargs -r ps -o pid=,comm= -p | awk '$2 == "charon" {print $1}')"
    (exec ip netns exec "${NS}a" ping -6 -q -i 0.2 -c 100 -W 1 $B6 >/dev/null 2>&1) & pinger=$!
    until_true 200 "we notice its death" status_is a '[.peers[0].ike[]] | length' 0
    kill $pinger 2>/dev/null || true; wait $pinger 2>/dev/null || true
    stop a; swan_stop s
    on $mover ip addr add $old/24 dev $link; on $mover ip addr del $new/24 dev $link
done
