# Figures of a home; the limits are there only to notice when something is broken. Short by default; the whole, some minutes:
#
#   MOVES=50 RESTARTS=10 UPS=20 SECONDS_EACH=10 STORY_TIMEOUT=3000 BINDINGS="100000 1000000" netns-tests/run home-figures
#
# DELAY is what each crossing of the internet takes, in ms, so that interruptions can be told in round trips: there is no netem
# everywhere, so a small program holds the packets. WHICH="ups moves restarts relay bindings" chooses.
source "$TESTS/home.sh"
MOVES=${MOVES:-3} RESTARTS=${RESTARTS:-1} UPS=${UPS:-2} SECONDS_EACH=${SECONDS_EACH:-2} DELAY=${DELAY:-10} BINDINGS=${BINDINGS:-}
WHICH=${WHICH:-ups moves restarts relay bindings}
wanted() { [[ " $WHICH " == *" $1 "* ]]; }
figures() { python3 "$TESTS/figures.py" "$@"; }
now() { echo "$EPOCHREALTIME"; }
since() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.0f\n", (b - a) * 1000}'; }
# of WHAT UNIT: median and worst of the numbers on standard input.
of() { sort -n | awk -v what="$1" -v unit="$2" '{v[NR] = $1} END {printf "  %s: median %s %s, worst %s, of %d\n", what, v[int((NR + 1) / 2)], unit, v[NR], NR}'; }

# --- streams ------------------------------------------------------------------------------------------------------

# traced FROM TO NAME SECONDS: 500 datagrams a second in the background, until end_traced NAME.
TRACE_PORT=7100
traced() {
    local to; to=$(entity_of "$2"); TRACE_PORT=$((TRACE_PORT + 1))
    (exec ip netns exec "$NS$2" python3 "$TESTS/figures.py" receive "$to" $TRACE_PORT "$DIR/$3" 2>"$DIR/$3.err") & echo $! >"$DIR/$3.receiver"
    until_true 50 "the receiver listens" bash -c "ip netns exec $NS$2 ss -Hlun 'sport = $TRACE_PORT' | grep -q ."
    (exec ip netns exec "$NS$1" python3 "$TESTS/udp_stream.py" send any "$to" $TRACE_PORT 500 "$4" >/dev/null 2>&1) & echo $! >"$DIR/$3.sender"
}
end_traced() {
    kill "$(cat "$DIR/$1.sender")" 2>/dev/null || true; wait "$(cat "$DIR/$1.sender")" 2>/dev/null || true
    sleep 0.2; kill "$(cat "$DIR/$1.receiver")"; wait "$(cat "$DIR/$1.receiver")" || fail "the receiver of $1: $(cat "$DIR/$1.err")"
}
heading() {
    say "interruption                            of   longest silence      in round trips   away   after the network is back         lost"
    say "                                           median  worst  median  worst     ms  median  worst  median  worst  each"
}
# row FILE EVENTS LABEL
row() { figures gaps "$DIR/$1" "$DIR/$2" "$RTT" "$3" >"$DIR/row" || fail "$(cat "$DIR/row")"; say "$(cat "$DIR/row")"; }

# --- the machines ---------------------------------------------------------------------------------------------------

internet
if [ "$DELAY" != 0 ]; then
    (exec ip netns exec "${NS}internet" python3 "$TESTS/figures.py" delay "$(awk -v ms="$DELAY" 'BEGIN {print ms / 1000}')" >"$DIR/delay" 2>&1) &
    until_true 50 "packets are delayed" grep -q ready "$DIR/delay"
    on internet sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.delay.rp_filter=0
    ip -n "${NS}internet" link set delay addrgenmode none up txqueuelen 10000
    ip -n "${NS}internet" route add default dev delay table 77
    ip -n "${NS}internet" rule add pref 100 iif delay lookup main
    ip -n "${NS}internet" rule add pref 200 lookup 77
fi
for name in e1 e2 e3 e4; do site $name endpoint-independent; done
site s1 symmetric; site s2 symmetric
home_at home 192.0.2.10 home.example
node_at e1 laptop; node_at e2 server; node_at s1 sym1; node_at s2 sym2
direct_to laptop server "203.0.113.2:*"; direct_to server laptop "203.0.113.1:*"
RTT=$(on laptop ping -6 -q -c 20 -i 0.05 "$(entity_of server)" | awk -F/ '/^rtt/ {print $5 / 1000}')
say "round trip between two members, direct: $(since 0 "$RTT") ms (each crossing of the internet is made to take $DELAY ms)"

# --- from 'up' to the first packet ------------------------------------------------------------------------------------

if wanted ups; then
    for _ in $(seq "$UPS"); do
        stop laptop; until_true 100 "the server knows" status_is server "[.peers[] | select(.address == \"$(entity_of laptop)\") | .ike[]] | length" 0
        (exec ip netns exec "${NS}e2" tcpdump --immediate-mode -Z root -l -tt -n -i wan udp and src host "$(outside_of e1)" >"$DIR/seen" 2>"$DIR/seen.err") & echo $! >"$DIR/seen.pid"
        until_true 50 "tcpdump listens" grep -q "listening on" "$DIR/seen.err"
        traced laptop server first 30
        began=$(now)
        start laptop
        until_true 150 "the path is direct" path_is laptop "$(entity_of server)" "direct *"
        sleep 1; end_traced first; kill "$(cat "$DIR/seen.pid")"; wait "$(cat "$DIR/seen.pid")" 2>/dev/null || true
        since "$began" "$(figures first "$DIR/first")" >>"$DIR/first-relayed"
        since "$began" "$(figures first-direct "$DIR/seen" "$(outside_of e1)")" >>"$DIR/first-direct"
    done
    of "from 'up' (start of the process) to the first packet at the peer, relayed" ms <"$DIR/first-relayed"
    of "from 'up' to the first packet on the direct path" ms <"$DIR/first-direct"
fi

# --- moves ------------------------------------------------------------------------------------------------------------

# event FILE COMMAND…: runs it and notes when it began and ended.
event() { local file=$1 began ended; shift; began=$(now); "$@"; ended=$(now); echo "$began $ended" >>"$DIR/$file"; }
settle() { until_true 200 "direct again" eval 'path_is laptop "$(entity_of server)" "direct *" && path_is server "$(entity_of laptop)" "direct *"'; sleep 2; }
double_move() { unplug laptop; unplug server; plug laptop "$1"; plug server "$2"; }
if wanted moves; then
    direct_to laptop server "203.0.113.2:*"; direct_to server laptop "$(outside_of "${HOST_SITE[laptop]}"):*"
    traced laptop server out 100000; traced server laptop back 100000; sleep 1
    for n in $(seq "$MOVES"); do
        to=e3; [ $((n % 2)) = 1 ] || to=e1
        event moves move_host laptop $to; settle
    done
    end_traced out; end_traced back
    heading
    row out moves "move, from the one who moved"; row back moves "move, to the one who moved"
    traced laptop server out 100000; traced server laptop back 100000; sleep 1
    for n in $(seq "$MOVES"); do
        if [ "${HOST_SITE[laptop]}" = e1 ]; then to="e3 e4"; else to="e1 e2"; fi
        event doubles double_move $to; settle
    done
    end_traced out; end_traced back
    row out doubles "both move at once, there"; row back doubles "both move at once, back"
    # A silence of this length is not what this program is for; the machine may be loaded.
    awk '{if ($2 - $1 > 5) exit 1}' "$DIR/moves" || fail "this machine needs seconds to move an interface: no figures here"
fi

# --- restarts of the home ---------------------------------------------------------------------------------------------

restart() { kill9 home; start home; }
if wanted restarts; then
    reaches sym1 "$(entity_of sym2)" 5 || fail "the relayed conversation does not work"
    direct_to laptop server "*"
    sleep 2 # the store learns of bindings by then
    traced laptop server direct 100000; traced sym1 sym2 relayed 100000; sleep 1
    for _ in $(seq "$RESTARTS"); do event restarts restart; sleep 12; done
    end_traced direct; end_traced relayed
    wanted moves || heading
    row direct restarts "kill -9 and restart of the home, direct"; row relayed restarts "the same, relayed"
fi

# --- relaying beside forwarding ---------------------------------------------------------------------------------------

# two machines on two wires of the home: what it relays beside what its kernel forwards.
#   tx 198.18.1.2 ── 198.18.1.1 home 198.18.2.1 ── 198.18.2.2 rx
counted() { cat_on rx /sys/class/net/to-home/statistics/rx_packets; }
cat_on() { on "$1" cat "$2"; }
# rate LABEL OCTETS ARGS…: blasts, and says what came out at the other end.
rate() {
    local label=$1 octets=$2 before after began ended; shift 2
    before=$(counted) began=$(now)
    on tx python3 "$TESTS/figures.py" blast 198.18.1.2 4500 "$@" >"$DIR/sent" || fail "the sender failed"
    sleep 0.3; after=$(counted) ended=$(now)
    [ $((after - before)) -gt 1000 ] || fail "$label: only $((after - before)) packets of $(cat "$DIR/sent") came"
    awk -v n=$((after - before)) -v sent="$(cat "$DIR/sent")" -v s="$SECONDS_EACH" -v o="$octets" -v l="$label" \
        'BEGIN {printf "  %-44s %8.0f packets/s, %6.0f Mbit/s (offered %.0f)\n", l " of " o " octets", n / s, n * o * 8 / s / 1e6, sent / s}'
}
if wanted relay; then
    host tx rx
    wire tx 198.18.1.2/24 home 198.18.1.1/24
    wire rx 198.18.2.2/24 home 198.18.2.1/24
    ip -n "${NS}tx" route add default via 198.18.1.1; ip -n "${NS}rx" route add default via 198.18.2.1
    # TCP through the relay, and by the kernel. The home forwards nothing now, so there is no direct path.
    for name in tx rx; do at_home node add $name >/dev/null; member $name $name; done
    reaches tx "$(entity_of rx)" 5 || fail "tx does not reach rx"
    path_is tx "$(entity_of rx)" relayed || fail "tx and rx have a direct path"
    relayed=$(iperf rx "$(entity_of rx)" tx -t "$SECONDS_EACH" | mbits)
    [ "$relayed" -gt 0 ] || fail "no TCP through the relay"
    # The ends are killed, so that their bindings stay and their ports are free; packets that come to them go no further.
    tx6=$(entity_of tx) rx6=$(entity_of rx)
    kill9 tx; kill9 rx
    on home sysctl -qw net.ipv4.ip_forward=1
    plain=$(iperf rx 198.18.2.2 tx -t "$SECONDS_EACH" | mbits)
    say "TCP between two members: $relayed Mbit/s relayed by the home (keys at the ends included), $plain Mbit/s forwarded by its kernel in clear"
    on rx nft 'table ip eat { chain in { type filter hook prerouting priority -300; udp dport 4500 drop; }; }'
    # Single packets on the wire, not bundles of many.
    ip -n "${NS}tx" link set to-home gso_max_segs 1; ip -n "${NS}home" link set to-rx gso_max_segs 1
    for octets in 128 512 1400; do
        rate "relayed by the home" $octets 192.0.2.10 4500 $octets "$SECONDS_EACH" "$tx6" "$rx6"
        rate "forwarded by the kernel" $octets 198.18.2.2 4500 $octets "$SECONDS_EACH"
    done
    say "not relayed, by reason: $(dom home status --json | jq -c '.drops | with_entries(select(.key | startswith("relay")))')"
fi

# --- memory -----------------------------------------------------------------------------------------------------------

if wanted bindings; then
    for count in $BINDINGS; do
        (cd "$TESTS/.." && BINDINGS=$count cargo test --quiet --release --test mobility_memory -- --nocapture) >"$DIR/bindings" 2>&1 || fail "$(tail -5 "$DIR/bindings")"
        while read -r line; do say "$line"; done < <(grep -E 'bindings|octets each' "$DIR/bindings")
    done
fi
