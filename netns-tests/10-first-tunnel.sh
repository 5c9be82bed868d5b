# Two machines, IPv4 between them, IPv6 between their permanent addresses.
#
#   a 198.51.100.1 ------- veth, MTU 1500 ------- b 198.51.100.2
#   2002:c633:6401:1::10 ====== ESP in UDP ====== 2002:c633:6402:1::20
two_hosts
pair </dev/null
start a; start b
# Every packet from here on, the handshake included; its end asserts that none was missed.
capture a to-b "$DIR/wire.pcap"

reaches a $B6 5 || fail "ping a -> b"
reaches b $A6 5 || fail "ping b -> a"
dom a ping b -c 2 -i 0.1 >"$DIR/ping" || fail "domicile ping: $(cat "$DIR/ping")"
grep -q "2 sent, 2 answered" "$DIR/ping" || fail "domicile ping says $(cat "$DIR/ping")"
expect a '.peers[0].state' established
expect a '.peers[0].children[0].inbound.destination' $A6
expect a '.peers[0].children[0].outbound.protocol' esp
expect b '.peers[0].ike[0].peer_is_domicile' true

# What is said cannot be read on the wire.
echo "the quick brown domicile" | on b timeout 5 socat -u - TCP6-LISTEN:7000,bind=[$B6] &
until_true 30 "socat listens" bash -c "ip netns exec ${NS}b ss -Hltn 'sport = 7000' | grep -q ."
[ "$(on a timeout 3 socat -u TCP6:[$B6]:7000 -)" = "the quick brown domicile" ] || fail "TCP content"
end_capture "$DIR/wire.pcap"
assert_nothing_in_clear "$DIR/wire.pcap" "quick brown"
[ "$(captured "$DIR/wire.pcap" "udp port 4500 and src host $A4")" -ge 15 ] || fail "no ESP was captured"
# The same capture finds the same text where nothing hides it.
capture a to-b "$DIR/clear.pcap"
echo "the quick brown domicile" | on a socat -u - UDP4-SENDTO:$B4:7000
end_capture "$DIR/clear.pcap"
grep -qa "quick brown" "$DIR/clear.pcap" || fail "the capture would not have seen it"

# Under load, too: the headers of every packet.
SNAP=64 capture a to-b "$DIR/load.pcap"
say "TCP a -> b $(iperf b $B6 a -t 2 -b 200M | mbits) Mbit/s of 200, b -> a $(iperf b $B6 a -t 2 -b 200M -R | mbits)"
end_capture "$DIR/load.pcap"
assert_nothing_in_clear "$DIR/load.pcap"
# In octets: the capture sees super-datagrams before they are cut.
octets=$(tcpdump -nr "$DIR/load.pcap" "udp port 4500" 2>/dev/null | awk '{n += $NF} END {print n + 0}')
[ "$octets" -gt 60000000 ] || fail "the load did not go through the tunnel: $octets octets"
say "TCP at full speed: a -> b $(iperf b $B6 a -t 2 | mbits) Mbit/s, b -> a $(iperf b $B6 a -t 2 -R | mbits) Mbit/s"
