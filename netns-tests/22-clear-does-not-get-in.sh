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
