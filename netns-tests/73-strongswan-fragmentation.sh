# With a strongSwan: IKE fragments (RFC 7383) in both directions and roles, and COOKIE.
source "$TESTS/strongswan.sh"
host a s; wire a $A4/24 s $B4/24
entity a $A6
FRAGMENT=300 strongswan s $B6 $B4 $A6 $A4 pubkey chacha20poly1305-prfsha256-curve25519 chacha20poly1305,aes256gcm16 "fragmentation = force"
peer a s $B6
more a <<<'[ike]
fragment_size = 300
cookie_threshold = 0'
capture a to-s "$DIR/wire.pcap"
start a
reaches a $B6 3 || fail "we start: no tunnel"
dom a disconnect s >/dev/null
sleep 0.5
swan s --initiate --child child >"$DIR/initiate" 2>&1 || fail "it starts: $(tail -3 "$DIR/initiate")"
reaches s $A6 3 || fail "it starts: no tunnel"
end_capture "$DIR/wire.pcap"
# Next payload 53 in the IKE header is an Encrypted Fragment; bare on port 500, four octets later on 4500.
fragments=$(tshark -r "$DIR/wire.pcap" -Y 'isakmp.nextpayload == 53' 2>/dev/null | wc -l)
cookies=$(tshark -r "$DIR/wire.pcap" -Y 'isakmp.notify.msgtype == 16390' 2>/dev/null | wc -l)
say "$fragments fragments, $cookies messages with COOKIE"
[ "$fragments" -ge 2 ] || fail "no fragments"
[ "$cookies" -ge 1 ] || fail "no cookie"
