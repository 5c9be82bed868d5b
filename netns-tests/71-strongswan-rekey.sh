# With a strongSwan: child and IKE rekey from either side, with and without a key exchange, without a lost ping;
# while it asks for liveness every second; goodbye from its side.
source "$TESTS/strongswan.sh"
host a s; wire a $A4/24 s $B4/24
for pfs in "" -curve25519; do
    entity a $A6
    strongswan s $B6 $B4 $A6 $A4 pubkey chacha20poly1305-prfsha256-curve25519 "aes256gcm16$pfs" "dpd_delay = 1s"
    peer a s $B6
    [ -n "$pfs" ] && more a <<<'[esp]
pfs = true'
    start a
    reaches a $B6 3 || fail "no tunnel"
    on a ping -6 -q -i 0.05 -c 220 -W 2 $B6 >"$DIR/ping" 2>&1 & pinger=$!
    spi() { status a '.peers[0].children | last | .inbound.spi'; }
    ike() { status a '.peers[0].ike[0].spi_i'; }
    changed() { [ "$($1)" != "$2" ]; }
    old=$(spi); dom a rekey s >/dev/null; until_true 40 "our child rekey" changed spi "$old"; sleep 1
    old=$(spi); swan s --rekey --child child >/dev/null; until_true 40 "its child rekey" changed spi "$old"; sleep 1
    old=$(ike); dom a rekey s --ike >/dev/null; until_true 40 "our IKE rekey" changed ike "$old"; sleep 1
    old=$(ike); swan s --rekey --ike peer >/dev/null; until_true 40 "its IKE rekey" changed ike "$old"; sleep 1
    old=$(spi); swan s --rekey --child child >/dev/null; until_true 40 "its child rekey on the new IKE SA" changed spi "$old"
    wait $pinger || true
    grep -q " 0% packet loss" "$DIR/ping" || fail "pings lost: $(cat "$DIR/ping")"
    say "five rekeys${pfs:+ with a key exchange}: $(grep -o '[0-9.]*% packet loss' "$DIR/ping")"
    until_true 100 "one pair is left" one_pair a
    old=$(ike); dom a rekey s --reauth >/dev/null; until_true 40 "reauthentication" changed ike "$old"
    until_true 100 "one pair is left" one_pair a
    reaches a $B6 3 || fail "no tunnel after reauthentication"
    swan s --terminate --ike peer >/dev/null
    until_true 50 "we were told goodbye" status_is a '.peers[0].ike | length' 0
    stop a; swan_stop s
done
