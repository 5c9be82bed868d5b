# Child SAs are rekeyed every two seconds, IKE SAs every three, while TCP takes all the throughput there is and numbered datagrams go
# both ways: none is lost but those for which a queue was full. Says what rekeying costs.
two_hosts
often='rekey = "2s"' seldom='rekey = "1h"'
pair <<<"[esp]
$often
jitter = 0.3
[ike]
rekey = \"3s\""
start a; start b
reaches a $B6 3 || fail "no tunnel"
# The queues hold what TCP has on its way: what is missing is missing because of us.
for host in a b; do ip -n "$NS$host" link set domicile0 txqueuelen 20000; done
seen() { status a '.peers[0].children[].inbound.spi'; }

# One run of TCP at full speed from a to b, with paced UDP in both directions beside it.
under_load() {
    local name=$1 seconds=$2 port
    (exec ip netns exec "${NS}b" iperf3 -s -1 -p 5301 -B $B6 >/dev/null 2>&1) & local server=$!
    (exec ip netns exec "${NS}b" iperf3 -s -1 -p 5302 -B $B6 >/dev/null 2>&1) & server+=" $!"
    for port in 5301 5302; do
        until_true 100 "iperf3 listens" bash -c "ip netns exec ${NS}b ss -Hltn 'sport = $port' | grep -q ."
    done
    on a timeout 60 iperf3 -J -p 5302 -c $B6 -u --bidir -b 10M -l 1200 -t $((seconds + 1)) >"$DIR/$name.udp.json" & local paced=$!
    on a timeout 60 iperf3 -J -p 5301 -c $B6 -w 1M -t "$seconds" >"$DIR/$name.json" || fail "iperf3: $(tail -5 "$DIR/$name.json")"
    wait $paced || fail "iperf3: $(tail -5 "$DIR/$name.udp.json")"
    # shellcheck disable=SC2086
    kill $server 2>/dev/null || true
    # shellcheck disable=SC2086
    wait $server 2>/dev/null || true
}

# Numbers that did not come while later ones did: those at the very end may lie in a socket that iperf3 closes unread.
gaps() { jq "[.end.streams[].udp | select(.sender == $1) | .lost_packets] | add" "$DIR/rekeyed.udp.json"; }
unread() { ipv6_counters "$1" Udp6RcvbufErrors; }
full=$(( $(overrun a b) + $(overrun b a) )) unread_a=$(unread a) unread_b=$(unread b)
for _ in $(seq 90); do seen; sleep 0.2; done >"$DIR/spis" & watcher=$!
under_load rekeyed 16
wait $watcher
sleep 0.5
full=$(( $(overrun a b) + $(overrun b a) - full ))
there=$(( $(gaps true) - ($(unread b) - unread_b) - full )) back=$(( $(gaps false) - ($(unread a) - unread_a) - full ))
children=$(sort -u "$DIR/spis" | wc -l) datagrams=$(ipv6_counters a Udp6OutDatagrams Udp6InDatagrams)
say "$children child SAs; TCP $(mbits <"$DIR/rekeyed.json") Mbit/s with $(jq '.end.sum_sent.retransmits' "$DIR/rekeyed.json") retransmissions; of $datagrams datagrams $there did not come out at b, $back not at a; $full packets found a queue full"
[ "$children" -ge 6 ] || fail "too few rekeys"
[ "$datagrams" -ge 20000 ] || fail "only $datagrams datagrams were sent"
[ "$there" -le 0 ] && [ "$back" -le 0 ] || fail "packets lost: $there, $back; dropped: $(status a .drops) $(status b .drops)"
[ "$full" -le 400 ] || fail "$full packets found a queue full: the daemon does not keep up"
expect a '.peers[0].state' established

# What it costs, in turns: told, and not judged, because the machine has other things to do.
for turn in 1 2; do
    for kind in often seldom; do
        for host in a b; do
            sed -i "s/^rekey = .*/${!kind}/" "$DIR/$host.toml"
            dom $host reload >/dev/null
        done
        # The SA that is there still has the old lifetimes.
        sleep 2.5
        under_load $kind$turn 6
    done
done
mean() { for turn in 1 2; do mbits <"$DIR/$1$turn.json"; done | awk '{n += $1} END {print n / NR}'; }
say "TCP with rekeying $(mean often) Mbit/s, without $(mean seldom) Mbit/s (means of two)"
