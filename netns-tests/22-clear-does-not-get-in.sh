# A neighbour who sends plain IPv6 to a permanent address, under the name of a peer, does not reach it.
two_hosts
on a ip -6 addr add fd00::1/64 dev to-b nodad; on b ip -6 addr add fd00::2/64 dev to-a nodad
pair </dev/null
start a
on a timeout 20 socat -u UDP6-RECVFROM:9999,bind=[$A6],fork SYSTEM:"cat >>$DIR/heard" &
until_true 30 "socat listens" bash -c "ip netns exec ${NS}a ss -Hlun 'sport = 9999' | grep -q ."
on b ip -6 addr add $B6/128 dev lo nodad
on b ip -6 route add $A6/128 via fd00::1
for _ in 1 2 3; do echo forged | on b socat -u - UDP6-SENDTO:[$A6]:9999,bind=[$B6]; done
sleep 0.5
[ ! -s "$DIR/heard" ] || fail "the forged datagram was delivered"
# Through loopback the address answers as ever.
echo own | on a socat -u - UDP6-SENDTO:[$A6]:9999
until_true 20 "the machine reaches itself" grep -q own "$DIR/heard"
# The kernel makes its own local route anew whenever somebody adds the address again; it does not stay.
gone() { ! on a ip -6 route show table local | grep -q "^local $A6 "; }
gone || fail "the kernel's local route is there after the start"
on a ip -6 addr del $A6/128 dev domicile0; on a ip -6 addr add $A6/128 dev domicile0 nodad
until_true 5 "the guard said so" grep -q "reachable on every interface; taken back" "$DIR/a.log"
until_true 5 "the kernel's local route is taken back" gone
: >"$DIR/heard"
echo forged | on b socat -u - UDP6-SENDTO:[$A6]:9999,bind=[$B6]; sleep 0.5
[ ! -s "$DIR/heard" ] || fail "a forged datagram was delivered after the address was added again"
