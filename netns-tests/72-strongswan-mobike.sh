# With a strongSwan: MOBIKE in both roles. Then either end dies, the other one notices, and all comes back by itself.
source "$TESTS/strongswan.sh"
host a s; wire a $A4/24 s $B4/24
for starter in a s; do
    entity a $A6
    CHARON="retransmit_tries = 2" strongswan s $B6 $B4 $A6 "$A4,198.51.100.11" pubkey chacha20poly1305-prfsha256-curve25519 chacha20poly1305 "mobike = yes
  dpd_delay = 1s
  keyingtries = 0" "dpd_action = restart"
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
    on $mover ip addr add $old/24 dev $link; on $mover ip addr del $new/24 dev $link
    until_true 150 "traffic a -> s after $mover moved back" bash -c "ip netns exec ${NS}a ping -6 -q -c 1 -W 1 $B6"
    # Our death, no goodbye and no traffic: strongSwan asks, gives up, and by its DPD action calls us until we are back.
    : >"$DIR/s.log"; kill9 a; began=$(ms)
    until_true 300 "strongSwan notices our death" at_least 1 charon_says s 'giving up after 2 retransmits'
    noticed=$(( $(ms) - began ))
    until_true 50 "its DPD action" at_least 1 charon_says s 'restarting CHILD_SA child|initiating IKE_SA'
    : >"$DIR/a.log"
    start a; began=$(ms)
    until_true 300 "strongSwan calls us" status_is a '.peers[0] | [.state, .ike[0].initiator] | map(tostring) | join(" ")' "established false"
    reaches s $A6 3 || fail "s -> a after our death"
    reaches a $B6 3 || fail "a -> s after our death"
    say "our death: noticed after $noticed ms, the SAs were back $(( $(ms) - began )) ms after our start, by its call"
    # Its death, no goodbye: we notice, and find it when it is back.
    swan_kill9 s; began=$(ms)
    (exec ip netns exec "${NS}a" ping -6 -q -i 0.2 -c 300 -W 1 $B6 >/dev/null 2>&1) & pinger=$!
    until_true 200 "we notice its death" status_is a '[.peers[0].ike[]] | length' 0
    grep -q "is down: the peer stopped answering" "$DIR/a.log" || fail "another reason: $(tail -2 "$DIR/a.log")"
    noticed=$(( $(ms) - began ))
    strongswan s $B6 $B4 $A6 "$A4,198.51.100.11" pubkey chacha20poly1305-prfsha256-curve25519 chacha20poly1305 "mobike = yes"
    began=$(ms)
    until_true 300 "we find it again" bash -c "ip netns exec ${NS}a ping -6 -q -c 1 -W 1 $B6"
    say "its death: noticed after $noticed ms, traffic was back $(( $(ms) - began )) ms after its start, by our call"
    expect a '.peers[0].ike[0].initiator' true
    kill $pinger 2>/dev/null || true; wait $pinger 2>/dev/null || true
    stop a; swan_stop s
done
