# Wireshark's own dissectors read everything, and with the key log they decrypt AES-GCM: IKE and ESP.
two_hosts
pair <<<'[ike]
suites = ["aes-256-gcm"]
fragment_size = 576
[esp]
suites = ["aes-256-gcm"]'
capture a to-b "$DIR/wire.pcap" udp
start a --keylog "$DIR/keys"; start b
[ "$(stat -c %a "$DIR/keys")" = 600 ] || fail "the key log can be read by others"
on a ping -6 -q -c 3 -i 0.1 -W 1 -p 646f6d6963696c65 $B6 >/dev/null || fail "no tunnel"
dom a rekey b >/dev/null; sleep 0.3; dom b rekey a --ike >/dev/null; sleep 0.3
reaches a $B6 3
stop a; stop b
end_capture "$DIR/wire.pcap"
options=(-o esp.enable_encryption_decode:TRUE)
while read -r line; do options+=(-o "$line"); done <"$DIR/keys"
show() { tshark -r "$DIR/wire.pcap" "${options[@]}" "$@" 2>/dev/null; }
malformed=$(show -Y '_ws.malformed || _ws.expert.severity == error' | head -3)
[ -z "$malformed" ] || fail "tshark finds fault with: $malformed"
undissected=$(show -Y '!(isakmp || esp || udpencap)' | head -3)
[ -z "$undissected" ] || fail "tshark does not know: $undissected"
echoes=$(show -Y 'esp && icmpv6.type == 128' | wc -l)
auth=$(show -Y 'isakmp.exchangetype == 35 && isakmp.id.type' | wc -l)
deletes=$(show -Y 'isakmp.typepayload == 42' | wc -l)
say "tshark reads $echoes echo requests inside ESP, $auth IKE_AUTH messages, $deletes deletes"
[ "$echoes" -ge 6 ] || fail "ESP is not decrypted"
[ "$auth" -ge 2 ] || fail "IKE_AUTH is not decrypted"
[ "$deletes" -ge 2 ] || fail "INFORMATIONAL is not decrypted"
