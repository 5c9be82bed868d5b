# A home is named by a host whose address changes: members look the name up again and are registered at the new address in bounded
# time, when the old one is silent and when it still answers. A name without an address keeps no daemon from starting.
source "$TESTS/home.sh"
internet
# Strangers do not get in: the home cannot call its members from a new address.
site e1 endpoint-independent address-dependent; site e2 endpoint-independent address-dependent
home_at home 192.0.2.10 home.example
place laptop e1; place server e2; place phone e1
at_home user add alice >/dev/null; at_home node add web1 >/dev/null

# A resolver of the internet that knows one name, and machines that ask it.
public_host dns 192.0.2.53
name_is() { echo "$1" >"$DIR/zone.new"; mv "$DIR/zone.new" "$DIR/zone"; }
resolver() {
    (exec ip netns exec "${NS}dns" python3 - "$DIR/zone" >"$DIR/dns.out" 2>&1 <<'PY'
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("192.0.2.53", 53))
while True:
    query, who = server.recvfrom(4096)
    end = query.index(0, 12) + 5
    name, address = query[12:end - 4].lower(), open(sys.argv[1]).read().strip()
    good = name == b"\x04home\x03dyn\x07example\x00" and query[end - 4:end] == b"\0\1\0\1"
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(address) if good else b""
    flags = b"\x81\x80" if good else b"\x81\x83"
    server.sendto(query[:2] + flags + b"\0\1\0" + bytes([len(answer) > 0]) + b"\0\0\0\0" + query[12:end] + answer, who)
PY
    ) &
    echo $! >"$DIR/dns.pid"
    until_true 50 "the resolver listens" bash -c "ip netns exec ${NS}dns ss -Hlun 'sport = 53' | grep -q ."
}
echo "nameserver 192.0.2.53" >"$DIR/resolv.conf"
real=$DOMICILE
# 'ip netns exec' has mounts of its own: nobody else sees this.
printf '#!/bin/sh\nmount --bind %s /etc/resolv.conf && exec %s "$@"\n' "$DIR/resolv.conf" "$real" >"$DIR/domicile"
chmod +x "$DIR/domicile"; DOMICILE=$DIR/domicile
name_is 192.0.2.10; resolver

for pair in "laptop alice" "phone alice" "server web1"; do
    set -- $pair
    dom "$1" join home.dyn.example "$(code_for "$2")" --name "$1" --allow-special >"$DIR/$1.joined"
    grep -q '"home.dyn.example:4500"' "$DIR/$1.toml" || fail "the name is not kept: $(cat "$DIR/$1.toml")"
    more "$1" <<<$'[ike]\ndpd = "3s"\nretransmit_tries = 4'
    start "$1"; registered "$1"
done
H6=2002:c000:20a::1 S6=$(entity_of server) P6=$(entity_of phone)
at_home_in() { [ "$(status "$1" "[.peers[] | select(.address == \"$H6\") | .ike[].path_remote] | last")" = "$2:4500" ]; }
direct_to laptop server "203.0.113.2:*"

# move_home OLD NEW [keep]: another address from the provider.
move_home() {
    ip -n "${NS}home" addr add "$2/32" dev net
    ip -n "${NS}internet" route replace "$2/32" dev to-home src $GATEWAY
    ip -n "${NS}home" route replace $GATEWAY dev net src "$2"
    ip -n "${NS}home" route replace default via $GATEWAY dev net src "$2"
    [ "${3:-}" = keep ] || { ip -n "${NS}internet" route del "$1/32"; ip -n "${NS}home" addr del "$1/32" dev net; }
}
stream laptop server direct 200
began=$(ms)
move_home 192.0.2.10 192.0.2.30; name_is 192.0.2.30
for member in laptop phone server; do
    until_true 700 "$member follows the name" at_home_in $member 192.0.2.30
    until_true 100 "$member says so" grep -q "is at 192.0.2.30:4500 now, and was at 192.0.2.10:4500" "$DIR/$member.log"
done
say "the old address is silent: everybody is at the new one after $(( ($(ms) - began) / 1000 )) s"
until_true 200 "a new conversation is relayed by way of the new address" reaches server "$P6"

# Both addresses work, and the name changes: found at the next regular look-up.
began=$(ms)
move_home 192.0.2.30 192.0.2.40 keep; name_is 192.0.2.40
for member in laptop phone server; do until_true 900 "$member follows the name" at_home_in $member 192.0.2.40; done
say "the old address still answers: everybody is at the new one after $(( ($(ms) - began) / 1000 )) s"
end_stream direct
gap_below direct 4000 "the home changes its address twice, direct"

# No resolver answers, and the daemon starts all the same; it finds the home when one answers again.
stop phone
kill "$(cat "$DIR/dns.pid")"; wait "$(cat "$DIR/dns.pid")" 2>/dev/null || true
start phone
until_true 100 "the log tells that the name has no address" grep -q "not found by its name" "$DIR/phone.log"
resolver
until_true 300 "the phone is registered" at_home_in phone 192.0.2.40
until_true 200 "it is reached" reaches server "$P6"
