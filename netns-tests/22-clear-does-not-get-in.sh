# A neighbour who sends plain IPv6 to a permanent address, under the name of a peer, does not reach it: neither now nor in
# the first moments of the daemon, because the kernel's own route for the address is gone before the daemon answers.
two_hosts
on a ip -6 addr add fd00::1/64 dev to-b nodad; on b ip -6 addr add fd00::2/64 dev to-a nodad
pair </dev/null
# The kernel adds that route on its own time, so one start proves little.
open_door() { on a ip -6 route show table local | grep -F "$A6"; }
for n in $(seq 20); do
    start a
    for _ in $(seq 5); do if open_door >"$DIR/door"; then fail "start $n: the address is open to every interface: $(cat "$DIR/door")"; fi; done
    [ "$n" = 20 ] || stop a
done
on a ip -6 route show table 4501 | grep -qF "local $A6" || fail "the address has no route of ours: $(on a ip -6 route show table 4501)"
on a timeout 30 socat -u UDP6-RECVFROM:9999,bind=[$A6],fork SYSTEM:"cat >>$DIR/heard" &
until_true 30 "socat listens" bash -c "ip netns exec ${NS}a ss -Hlun 'sport = 9999' | grep -q ."
on b ip -6 addr add $B6/128 dev lo nodad
on b ip -6 route add $A6/128 via fd00::1
# Without a link-local address b does not ask for its neighbour's address under a name that is not of that wire.
on b ip -6 neigh add fd00::1 dev to-a lladdr "$(on a cat /sys/class/net/to-b/address)"
capture a to-b "$DIR/wire.pcap" "ip6 and udp port 9999 and dst host $A6"
for _ in 1 2 3; do echo forged | on b socat -u - UDP6-SENDTO:[$A6]:9999,bind=[$B6]; done
sleep 0.5
end_capture "$DIR/wire.pcap"
[ "$(captured "$DIR/wire.pcap")" = 3 ] || fail "the forged datagrams did not even arrive"
[ ! -s "$DIR/heard" ] || fail "the forged datagram was delivered"
# An interface that comes and goes, or goes down and up, opens nothing.
on a ip link set to-b down; on a ip link set to-b up
on a ip link set domicile0 down; on a ip link set domicile0 up
sleep 0.5
if open_door >"$DIR/door"; then fail "open after a link went down and up: $(cat "$DIR/door")"; fi
# Through loopback the address answers as ever.
echo own | on a socat -u - UDP6-SENDTO:[$A6]:9999
until_true 20 "the machine reaches itself" grep -q own "$DIR/heard"
