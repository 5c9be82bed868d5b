# With a strongSwan, in both roles: who starts sends IKE_AUTH in fragments (RFC 7383), who answers answers in fragments, none
# larger than agreed; and who answers demands a COOKIE first (RFC 7296 §2.6), which the other one returns.
source "$TESTS/strongswan.sh"
host a s; wire a $A4/24 s $B4/24
entity a $A6
CHARON="fragment_size = 256
  cookie_threshold = 1" strongswan s $B6 $B4 $A6 $A4 pubkey chacha20poly1305-prfsha256-curve25519 chacha20poly1305,aes256gcm16 "fragmentation = force"
peer a s $B6
more a <<<'[ike]
fragment_size = 300
cookie_threshold = 0'
start a

# One line a message: source, octets of the IPv4 packet, exchange, response?, the first payload, notifications, their data.
dissect() {
    tshark -r "$DIR/wire.pcap" -Y isakmp -T fields -e ip.src -e ip.len -e isakmp.exchangetype -e isakmp.flag_r -e isakmp.nextpayload \
        -e isakmp.notify.msgtype -e isakmp.notify.data 2>/dev/null | awk -F'\t' -v OFS='\t' '{sub(/,.*/, "", $5); print}' >"$DIR/messages"
}
# messages CONDITION: how many lines there are, in words of awk.
messages() { awk -F'\t' "$1 {n++} END {print n + 0}" "$DIR/messages"; }
SA_INIT='$3 == 34' AUTH='$3 == 35' FRAGMENT='$5 == 53' REQUEST='$4 == 0' RESPONSE='$4 == 1' COOKIE='$6 ~ /16390/'
# in_fragments FROM4 SIZE REQUEST|RESPONSE
in_fragments() {
    local n largest
    n=$(messages "\$1 == \"$1\" && $AUTH && $3 && $FRAGMENT")
    [ "$n" -ge 2 ] || fail "$1 sent IKE_AUTH in $n fragments: $(cat "$DIR/messages")"
    [ "$(messages "\$1 == \"$1\" && $AUTH && !($FRAGMENT)")" = 0 ] || fail "$1 sent IKE_AUTH whole, too"
    largest=$(awk -F'\t' -v from="$1" '$1 == from && $5 == 53 {print $2}' "$DIR/messages" | sort -n | tail -1)
    [ "$largest" -le "$2" ] || fail "a fragment from $1 has $largest octets"
    told="${told:+$told; }$1 sent $n fragments of at most $largest octets"
}
# cookie INITIATOR4 RESPONDER4: the first request has none; the answer is a cookie; the next request has the same one in front.
cookie() {
    local i="\$1 == \"$1\" && $SA_INIT" r="\$1 == \"$2\" && $SA_INIT" demanded returned
    demanded=$(awk -F'\t' "$r && $RESPONSE && $COOKIE {print \$7; exit}" "$DIR/messages")
    returned=$(awk -F'\t' "$i && $REQUEST && $COOKIE && \$5 == 41 {split(\$7, data, \",\"); print data[1]; exit}" "$DIR/messages")
    [ -n "$demanded" ] || fail "$2 demanded no cookie: $(cat "$DIR/messages")"
    [ "$returned" = "$demanded" ] || fail "$2 demanded $demanded, $1 returned '$returned'"
    [ "$(messages "NR == 1 && $i && $REQUEST && !($COOKIE)")" = 1 ] || fail "the first request is not one without cookie: $(head -1 "$DIR/messages")"
    [ "$(messages "\$1 == \"$1\" && $RESPONSE && $COOKIE")" = 0 ] || fail "$1 demanded a cookie, too"
}

# strongSwan demands cookies while it has a half-open SA: somebody at our address leaves one there.
on a python3 - <<'PY'
import os, socket, struct
def transform(kind, number, more, attribute=b""):
    return struct.pack("!BBHBBH", 3 if more else 0, 0, 8 + len(attribute), kind, 0, number) + attribute
transforms = transform(1, 28, True) + transform(2, 5, True) + transform(4, 31, False)
proposal = struct.pack("!BBHBBBB", 0, 0, 8 + len(transforms), 1, 1, 0, 3) + transforms
payload = lambda after, body: struct.pack("!BBH", after, 0, 4 + len(body)) + body
body = payload(34, proposal) + payload(40, struct.pack("!HH", 31, 0) + os.urandom(32)) + payload(0, os.urandom(32))
message = os.urandom(8) + bytes(8) + struct.pack("!BBBBII", 33, 0x20, 34, 8, 0, 28 + len(body)) + body
wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); wire.bind(("198.51.100.1", 0)); wire.settimeout(3)
wire.sendto(message, ("198.51.100.2", 500))
answer = wire.recv(2000)
assert answer[16] == 33, "strongSwan did not open an SA"
PY
capture a to-s "$DIR/wire.pcap" "udp port 500 or udp port 4500"
reaches a $B6 3 || fail "we start: no tunnel"
expect a '.peers[0].ike[0].initiator' true
end_capture "$DIR/wire.pcap"
dissect; told=
cookie $A4 $B4; in_fragments $A4 300 "$REQUEST"; in_fragments $B4 256 "$RESPONSE"
say "we start: $told; its cookie came back"

dom a disconnect s >/dev/null
until_true 50 "s was told goodbye" bash -c "! SWANCTL_DIR=$DIR/s/swanctl swanctl --list-sas --uri unix://$DIR/s/charon.vici | grep -q ESTABLISHED"
capture a to-s "$DIR/wire.pcap" "udp port 500 or udp port 4500"
swan s --initiate --child child >"$DIR/initiate" 2>&1 || fail "it starts: $(tail -3 "$DIR/initiate")"
reaches s $A6 3 || fail "it starts: no tunnel"
expect a '.peers[0].ike[0].initiator' false
end_capture "$DIR/wire.pcap"
dissect; told=
cookie $B4 $A4; in_fragments $B4 256 "$REQUEST"; in_fragments $A4 300 "$RESPONSE"
say "it starts: $told; our cookie came back"
