# A machine behind a NAT whose mapping changes under its feet.
#
#   a 10.0.0.2 --- nat 10.0.0.1 | 198.51.100.1 --- 198.51.100.2 b
host a nat b
wire a 10.0.0.2/24 nat 10.0.0.1/24
wire nat $A4/24 b $B4/24
on a ip route add default via 10.0.0.1
nat nat to-b 20000-20999
pair </dev/null
sed -i 's/^name = "a"$/&\nendpoint = "none"/' "$DIR/b.toml"
sed -i '0,/^endpoint = "none"$/{/^endpoint = "none"$/d}' "$DIR/b.toml"
grep -q 'endpoint = "none"' "$DIR/b.toml" || more b <<<'endpoint = "none"'
start a; start b
reaches a $B6 3 || fail "no tunnel through the NAT"
expect a '.peers[0].ike[0].nat_local' true
expect b '.peers[0].ike[0].nat_remote' true
port() { status b '.peers[0].ike[0].path_remote' | cut -d: -f2; }
before=$(port)
on a ping -6 -q -i 0.1 -c 200 -W 1 $B6 >"$DIR/ping" 2>&1 & pinger=$!
sleep 1
# The NAT reboots: its table is gone, new mappings come from another range.
nat nat to-b 30000-30999
on nat ip link set to-a down; on nat ip link set to-a up
on nat conntrack -F >/dev/null 2>&1 || true
until_true 100 "b follows to the new port" bash -c "[ \$('$DOMICILE' --config $DIR/b.toml status --json | jq -r '.peers[0].ike[0].path_remote' | cut -d: -f2) -ge 30000 ]"
wait $pinger || true
say "mapping $before -> $(port); $(grep -o '[0-9.]*% packet loss' "$DIR/ping")"
reaches a $B6 3 || fail "no traffic a -> b"; reaches b $A6 3 || fail "no traffic b -> a"
expect b '.peers[0].ike | length' 1
