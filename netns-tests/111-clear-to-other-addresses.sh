# What comes in clear under a name that belongs into the tunnel does not reach the machine's ordinary addresses either, and a
# machine that forwards puts nothing of others into the tunnel under its own name.
two_hosts
on a ip -6 addr add fd00::1/64 dev to-b nodad; on b ip -6 addr add fd00::2/64 dev to-a nodad
pair </dev/null
# b forges: from its own permanent address, and from one of a's.
on b sysctl -qw net.ipv6.ip_nonlocal_bind=1
on b ip -6 route add $A6/128 via fd00::1
on b ip -6 neigh add fd00::1 dev to-a lladdr "$(on a cat /sys/class/net/to-b/address)"
on b ip -6 route add $B6/128 via fd00::1
listen() {
    (exec ip netns exec "${NS}a" socat -u UDP6-RECV:9999,bind=[::] OPEN:"$DIR/heard",creat,append) & socat=$!
    until_true 30 "socat listens" bash -c "ip netns exec ${NS}a ss -Hlun 'sport = 9999' | grep -q ."
}
forge() { for _ in 1 2 3; do echo forged | on b socat -u - UDP6-SENDTO:[$2]:9999,bind=[$1]; done; sleep 0.3; }
counted() { on a nft -j list counter ip6 domicile "$1" | jq '.nftables[] | .counter // empty | .packets'; }

# The control: without the daemon they are heard, and without nft also with it, which it tells.
listen
forge $B6 fd00::1
[ "$(grep -c forged "$DIR/heard")" = 3 ] || fail "b cannot even be heard"
(exec unshare -m bash -c "mount --bind /dev/null \"\$(readlink -f \"\$(command -v nft)\")\" && exec ip netns exec ${NS}a $DOMICILE --config $DIR/a.toml up") >"$DIR/a.log" 2>&1 &
echo $! >"$DIR/a.pid"
until_true 50 "the daemon without nft is up" dom a status --json
[ "$(grep -c "are not refused on other interfaces, because nft cannot be run" "$DIR/a.log")" = 1 ] || fail "it does not tell once that nft is missing"
forge $B6 fd00::1
[ "$(grep -c forged "$DIR/heard")" = 6 ] || fail "without nft something else holds"
stop a

start a
: >"$DIR/heard"
forge $B6 fd00::1
[ ! -s "$DIR/heard" ] || fail "forged datagrams under a peer's name were delivered"
[ "$(counted clear)" = 3 ] || fail "clear counts $(counted clear), not 3"
forge $A6 fd00::1
[ ! -s "$DIR/heard" ] || fail "forged datagrams under the machine's own name were delivered"
[ "$(counted clear)" = 6 ] || fail "clear counts $(counted clear), not 6"
# Neighbours and whoever else has an address outside the tunnel are heard as ever.
echo neighbour | on b socat -u - UDP6-SENDTO:[fd00::1]:9999,bind=[fd00::2]
until_true 20 "an ordinary neighbour is heard" grep -q neighbour "$DIR/heard"
on a ip -6 neigh flush dev to-b; on b ip -6 neigh del fd00::1 dev to-a
reaches a fd00::2 2 || fail "neighbours are not found any more"
echo own | on a socat -u - UDP6-SENDTO:[fd00::1]:9999,bind=[$A6]
until_true 20 "the machine is heard by itself" grep -q own "$DIR/heard"
kill $socat; wait $socat 2>/dev/null || true

# As a router: a neighbour may not use the tunnel under our name.
on a sysctl -qw net.ipv6.conf.all.forwarding=1
on b ip -6 neigh replace fd00::1 dev to-a lladdr "$(on a cat /sys/class/net/to-b/address)"
forge $A6 $B6
[ "$(counted forwarded)" = 3 ] || fail "forwarded counts $(counted forwarded), not 3"
expect a '.peers[0].state' idle
on a sysctl -qw net.ipv6.conf.all.forwarding=0

# What a policy leaves alone comes in clear.
stop a
more a <<TOML
[[policy]]
remote = "$B6/128"
action = "bypass"
TOML
start a
: >"$DIR/heard"; listen
forge $B6 fd00::1
[ "$(grep -c forged "$DIR/heard")" = 3 ] || fail "what policy leaves alone is not heard"
kill $socat; wait $socat 2>/dev/null || true
kill9 a
on a nft list table ip6 domicile >/dev/null || fail "the table went with the daemon"
start a; stop a
[ -z "$(on a nft list tables)" ] || fail "left: $(on a nft list tables)"
