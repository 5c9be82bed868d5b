# A packet above the TUN's MTU is answered with Packet Too Big, and nothing is fragmented on the wire.
two_hosts
pair </dev/null
start a; start b
reaches a $B6 2 || fail "no tunnel"
capture a to-b "$DIR/wire.pcap"
on a ping -6 -q -c 2 -i 0.1 -W 1 -M do -s 1332 $B6 >/dev/null || fail "1,380 octets should fit"
says a "too (long|big)" $B6 -M do -s 1333
on a ping -6 -q -c 2 -i 0.1 -W 1 -s 4000 $B6 >/dev/null || fail "a fragmented packet should get through"
end_capture "$DIR/wire.pcap"
[ "$(tcpdump -nr "$DIR/wire.pcap" 'ip[6:2] & 0x3fff != 0' 2>/dev/null | wc -l)" = 0 ] || fail "outer fragments"
largest=$(tcpdump -nr "$DIR/wire.pcap" 'udp port 4500 and greater 1400' 2>/dev/null | grep -o 'length [0-9]*' | sort -k2 -n | tail -1)
say "largest datagram: UDP payload of ${largest#length }"
