# With a strongSwan: child and IKE rekey from either side, with and without a key exchange, without a lost ping. In silence
# it asks for liveness every second, and we answer each time; it says goodbye; and it dies, which we find out by asking.
source "$TESTS/strongswan.sh"
host a s; wire a $A4/24 s $B4/24
for pfs in "" -curve25519; do
    entity a $A6
    strongswan s $B6 $B4 $A6 $A4 pubkey chacha20poly1305-prfsha256-curve25519 "aes256gcm16$pfs" "dpd_delay = 1s"
    peer a s $B6
    more a <<<"[ike]
dpd = \"2s\"
retransmit_tries = 3
${pfs:+[esp]
pfs = true}"
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
    # Liveness in silence: it asks (an empty INFORMATIONAL request), we answer that very request, it never has to ask twice.
    : >"$DIR/s.log"; sleep 0.2
    until_true 80 "it asks three times" at_least 3 charon_says s 'sending DPD request'
    until_true 10 "three answers" at_least 3 charon_says s 'parsed INFORMATIONAL response [0-9]+ \[ \]'
    asked=$(grep -oP 'generating INFORMATIONAL request \K[0-9]+(?= \[ \])' "$DIR/s.log" | head -3 | tr '\n' ' ')
    answered=$(grep -oP 'parsed INFORMATIONAL response \K[0-9]+(?= \[ \])' "$DIR/s.log" | head -3 | tr '\n' ' ')
    [ "$asked" = "$answered" ] || fail "it asked with the message ids $asked, we answered $answered"
    [ "$(charon_says s 'retransmit [0-9]+ of request')" = 0 ] || fail "it had to ask twice: $(grep retransmit "$DIR/s.log")"
    say "its liveness requests $asked were answered at once"
    if [ -z "$pfs" ]; then
        swan s --terminate --ike peer >/dev/null
        until_true 50 "we were told goodbye" status_is a '.peers[0].ike | length' 0
        grep -q "is down: the peer closed it" "$DIR/a.log" || fail "goodbye was not understood: $(tail -1 "$DIR/a.log")"
        stop a; swan_stop s
        continue
    fi
    # Death without goodbye while we talk: after 2 s of silence we ask (76 octets: an empty INFORMATIONAL message), three
    # times again, and give up; not before.
    capture a to-s "$DIR/dpd.pcap" "udp port 4500 and src host $A4 and udp[8:4] == 0"
    swan_kill9 s; began=$(ms)
    (exec ip netns exec "${NS}a" ping -6 -q -i 0.2 -c 150 -W 1 $B6 >/dev/null 2>&1) & pinger=$!
    until_true 300 "we notice its death" grep -q "is down: the peer stopped answering" "$DIR/a.log"
    took=$(( $(ms) - began ))
    kill $pinger 2>/dev/null || true; wait $pinger 2>/dev/null || true
    end_capture "$DIR/dpd.pcap"
    asked=$(tshark -r "$DIR/dpd.pcap" -Y 'isakmp.exchangetype == 37 && isakmp.flag_r == 0' -T fields -e isakmp.messageid 2>/dev/null | sort | uniq -c | awk 'NR == 1 {print $1}')
    say "its death was noticed after $took ms, after asking ${asked:-0} times"
    [ "${asked:-0}" -ge 3 ] || fail "we gave up without asking"
    [ "$took" -ge 2500 ] || fail "we gave up too early: $took ms"
    stop a
done
