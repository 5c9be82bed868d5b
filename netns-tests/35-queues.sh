# Three queues at each end, each with workers, a queue of the TUN and a socket on the port: every octet of many flows both ways is what was
# sent, the two addresses get an SA for each queue (RFC 9611), all of them and all workers have work, and rekeying goes on meanwhile.
two_hosts
pair <<<'[esp]
rekey = "15s"'
unset DOMICILE_QUEUES
for host in a b; do sed -i 's/^\[node\]/[node]\nqueues = 3/' "$DIR/$host.toml"; done
start a; start b
expect a .data_plane.queues 3
until_true 200 "a reaches b" reaches a $B6
say "a: $(dom a status | grep -i queues)"
if (exec ip netns exec "${NS}a" "$DOMICILE" --config "$(config_of a)" --socket "$DIR/second.sock" up) >"$DIR/second.log" 2>&1; then
    fail "a second daemon shares the port"
fi
grep -q "UDP port 4500 is in use" "$DIR/second.log" || fail "a second daemon is told: $(cat "$DIR/second.log")"

# workers HOST: CPU time in hundredths of a second of each worker that opens packets.
workers() { awk '{print $14 + $15}' $(grep -l data-udp "/proc/$(cat "$DIR/$1.pid")"/task/*/comm | sed 's/comm$/stat/'); }
[ "$(workers a | wc -l)" = 3 ] || fail "a has $(workers a | wc -l) workers"
active() { status "$1" '[.peers[0].children[] | select(.state != "draining") | .state] | sort | join(" ")'; }
sas() { status "$1" '.peers[0].children[] | [.state, .inbound.packets, .outbound.packets] | join(" ")'; }

(exec ip netns exec "${NS}b" python3 "$TESTS/bulk.py" serve :: 7000 >"$DIR/serve.out" 2>"$DIR/serve.log") &
until_true 100 "the server listens" grep -q ready "$DIR/serve.out"
# flows SECONDS: eight in each direction that take whatever there is.
flows() {
    (exec ip netns exec "${NS}b" iperf3 -s -1 -p 5301 -B $B6 >/dev/null 2>&1) &
    until_true 50 "iperf3 listens" bash -c "ip netns exec ${NS}b ss -Hltn 'sport = 5301' | grep -q ."
    on a timeout 60 iperf3 -J -p 5301 -c $B6 --bidir -P 8 -t "$1" >"$DIR/flows.json" || fail "iperf3: $(tail -5 "$DIR/flows.json")"
}
has_all() { [ "$(active "$1")" = "active additional additional" ]; }
spis() { status a '.peers[0].children[] | select(.state != "draining") | .inbound.spi' | sort; }
flows 20 & running=$!
for host in a b; do until_true 100 "$host has an SA for each queue" has_all $host; done
# Those that they have now.
spis >"$DIR/before"
sleep 3
for host in a b; do
    say "$host: state, packets received and sent of each SA: $(sas $host | paste -sd,)"
    [ "$(sas $host | awk '$2 < 1000 || $3 < 1000')" = "" ] || fail "$host has an SA that carries next to nothing: $(sas $host | paste -sd,)"
done
wait $running
say "8 flows each way: $(mbits <"$DIR/flows.json") Mbit/s; CPU of the workers, in hundredths of a second: a $(workers a | xargs), b $(workers b | xargs)"
for host in a b; do
    [ "$(workers $host | awk '$1 >= 10' | wc -l)" = 3 ] || fail "a worker of $host has nothing to do: $(workers $host | xargs)"
    has_all $host || fail "the SAs of $host do not last: $(active $host)"
done
all_new() { [ -z "$(spis | comm -12 - "$DIR/before")" ]; }
until_true 50 "all of them are replaced" all_new

# And exactly what was sent.
for turn in 1 2 3; do
    verdict=$(on a python3 "$TESTS/bulk.py" tcp $A6 $B6 7000 8000000 2>&1) || true
    [ "$verdict" = ok ] || fail "TCP: $verdict"
    verdict=$(on a python3 "$TESTS/bulk.py" udp $A6 $B6 7000 32 2>&1) || true
    [[ $verdict == "ok "* ]] || fail "UDP: $verdict"
done
for host in a b; do
    drops=$(status $host '.drops | with_entries(select(.key | IN("malformed", "tun_write", "integrity", "padding", "selectors", "send_failed"))) | length')
    [ "$drops" = 0 ] || fail "$host dropped packets: $(status $host .drops)"
done
stop a; stop b
