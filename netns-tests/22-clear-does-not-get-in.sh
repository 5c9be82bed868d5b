# A neighbour who sends plain IPv6 to a permanent address, under the name of a peer, does not reach it: neither now nor in
# the first moments of the daemon, because the kernel's own route for the address is gone before the daemon answers.
two_hosts
on a ip -6 addr add fd00::1/64 dev to-b nodad; on b ip -6 addr add fd00::2/64 dev to-a nodad
pair </dev/null
on b ip -6 addr add $B6/128 dev lo nodad
on b ip -6 route add $A6/128 via fd00::1
# Without a link-local address b does not ask for its neighbour's address under a name that is not of that wire.
on b ip -6 neigh add fd00::1 dev to-a lladdr "$(on a cat /sys/class/net/to-b/address)"
listen() {
    (exec ip netns exec "${NS}a" socat -u UDP6-RECVFROM:9999,bind=[$A6],fork SYSTEM:"cat >>$DIR/heard") & socat=$!
    until_true 30 "socat listens" bash -c "ip netns exec ${NS}a ss -Hlun 'sport = 9999' | grep -q ."
}
forge() { for _ in 1 2 3; do echo forged | on b socat -u - UDP6-SENDTO:[$A6]:9999,bind=[$B6]; done; sleep 0.5; }

# The control: an address that the machine simply has is reached.
on a ip -6 addr add $A6/128 dev lo nodad
listen; forge
kill $socat; wait $socat 2>/dev/null || true
[ "$(grep -c forged "$DIR/heard")" = 3 ] || fail "the neighbour cannot even reach an ordinary address"
on a ip -6 addr del $A6/128 dev lo; rm "$DIR/heard"

# The kernel adds its route on its own time, so one start proves little.
open_door() { on a ip -6 route show table local | grep -F "$A6"; }
for n in $(seq 20); do
    start a
    for _ in $(seq 5); do if open_door >"$DIR/door"; then fail "start $n: the address is open to every interface: $(cat "$DIR/door")"; fi; done
    [ "$n" = 20 ] || stop a
done
on a ip -6 route show table 4501 | grep -qF "local $A6" || fail "the address has no route of ours: $(on a ip -6 route show table 4501)"
listen
capture a to-b "$DIR/wire.pcap" "ip6 and udp port 9999 and dst host $A6"
forge
end_capture "$DIR/wire.pcap"
[ "$(captured "$DIR/wire.pcap")" = 3 ] || fail "the forged datagrams did not arrive at the machine"
[ ! -s "$DIR/heard" ] || fail "the forged datagram was delivered"
# Through loopback the address answers as ever.
echo own | on a socat -u - UDP6-SENDTO:[$A6]:9999
until_true 20 "the machine reaches itself" grep -q own "$DIR/heard"
# The kernel makes its own local route anew whenever somebody adds the address again; it does not stay.
gone() { ! open_door; }
on a ip -6 addr del $A6/128 dev domicile0; on a ip -6 addr add $A6/128 dev domicile0 nodad
until_true 5 "the guard said so" grep -q "reachable on every interface; taken back" "$DIR/a.log"
until_true 5 "the kernel's local route is taken back" gone
: >"$DIR/heard"
forge
[ ! -s "$DIR/heard" ] || fail "a forged datagram was delivered after the address was added again"
