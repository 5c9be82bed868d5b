# A machine behind a NAT whose mapping changes under its feet: the other end follows, the same SA goes on, and hardly a packet
# is lost.
#
#   a 10.0.0.2 --- nat 10.0.0.1 | 198.51.100.1 --- 198.51.100.2 b
host a nat b
wire a 10.0.0.2/24 nat 10.0.0.1/24
wire nat $A4/24 b $B4/24
on a ip route add default via 10.0.0.1
nat nat to-b 20000-20999
entity a $A6; entity b $B6
peer a b $B6; peer b a $A6 'endpoint = "none"'
start a; start b
reaches a $B6 3 || fail "no tunnel through the NAT"
expect a '.peers[0].ike[0].nat_local' true
expect b '.peers[0].ike[0].nat_remote' true
port() { status b '.peers[0].ike[0].path_remote' | cut -d: -f2; }
in_range() { local port; port=$(port); [ "$port" -ge "$1" ] && [ "$port" -le "$2" ]; }
before=$(port) spi=$(status b '.peers[0].ike[0].spi_i')
in_range 20000 20999 || fail "b sees a at port $before, which is none of the NAT's"
on a ping -6 -i 0.1 -c 100 -W 2 $B6 >"$DIR/ping" 2>&1 & pinger=$!
sleep 2
# The NAT reboots: its table is gone, new mappings come from another range.
nat nat to-b 30000-30999
on nat conntrack -F >/dev/null 2>&1
began=$(ms)
until_true 100 "b follows to the new port" in_range 30000 30999
took=$(( $(ms) - began ))
wait $pinger || true
lost=$(( 100 - $(grep -oP '[0-9]+(?= received)' "$DIR/ping") ))
say "mapping $before -> $(port) after $took ms; $lost of 100 pings lost, 10 a second"
[ "$lost" -le 5 ] || fail "$lost of 100 pings were lost: $(grep -o 'icmp_seq=[0-9]*' "$DIR/ping" | tr '\n' ' ')"
reaches a $B6 3 || fail "no traffic a -> b"; reaches b $A6 3 || fail "no traffic b -> a"
expect b '.peers[0].ike | length' 1
expect b '.peers[0].ike[0].spi_i' "$spi"
