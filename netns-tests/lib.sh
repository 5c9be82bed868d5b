# What every story uses. A story runs in its own directory $DIR with its own namespaces, whose names begin with $NS.
# shellcheck shell=bash
set -euo pipefail
# However many CPUs there are: a story means the same everywhere.
export DOMICILE_QUEUES=${DOMICILE_QUEUES:-1}

A4=198.51.100.1 B4=198.51.100.2
A6=2002:c633:6401:1::10 B6=2002:c633:6402:1::20

fail() { echo "FAIL: $*" >&2; exit 1; }
say() { echo "  $*"; }

# --- machines and wires -------------------------------------------------------------------------------------------

on() { local host=$1; shift; ip netns exec "$NS$host" "$@"; }

host() {
    for name; do
        ip netns add "$NS$name"
        ip -n "$NS$name" link set lo up
        on "$name" sysctl -qw net.ipv4.ip_forward=0 net.ipv4.conf.all.promote_secondaries=1 \
            net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
    done
}

# veth HOST INTERFACE HOST INTERFACE: a pair. It hands super-packets over whole; with VETH=nic it cuts them as a network card
# does, and joins at the receiver what belongs together.
veth() {
    ip link add "$2" netns "$NS$1" type veth peer name "$4" netns "$NS$3"
    if [ "${VETH:-}" = nic ]; then
        on "$1" ethtool -K "$2" tso off tx-udp-segmentation off gro on >/dev/null
        on "$3" ethtool -K "$4" tso off tx-udp-segmentation off gro on >/dev/null
    fi
}

# wire HOST IPV4/LEN HOST IPV4/LEN: a veth pair; the interface is named after the other end.
wire() {
    local a=$1 a4=$2 b=$3 b4=$4
    veth "$a" "to-$b" "$b" "to-$a"
    ip -n "$NS$a" addr add "$a4" dev "to-$b"; ip -n "$NS$b" addr add "$b4" dev "to-$a"
    # No link-local chatter: what is on the wire is ours.
    ip -n "$NS$a" link set "to-$b" addrgenmode none; ip -n "$NS$b" link set "to-$a" addrgenmode none
    ip -n "$NS$a" link set "to-$b" up; ip -n "$NS$b" link set "to-$a" up
}

# Two machines and nothing between them but IPv4.
two_hosts() { host a b; wire a $A4/24 b $B4/24; }

# loss HOST PERCENT: of the IPv4 packets that arrive, and of the IKE messages among them every fifth for certain.
loss() {
    on "$1" nft -f - <<NFT
table inet loss {
    counter any { }
    counter ike { }
    chain lose_ike { numgen inc mod 5 == 1 counter name ike drop; }
    chain in {
        type filter hook input priority 0
        udp dport 500 jump lose_ike
        udp dport 4500 udp length > 12 @th,64,32 0 jump lose_ike
        meta nfproto ipv4 numgen random mod 1000 < $(( $2 * 10 )) counter name any drop
    }
}
NFT
}
# lost HOST any|ike: how many were.
lost() { on "$1" nft -j list counter inet loss "$2" | jq '.nftables[] | .counter // empty | .packets'; }
no_loss() { on "$1" nft delete table inet loss; }

# nat HOST OUTSIDE-INTERFACE PORTS: masquerades UDP to a range of ports; call again for another mapping.
nat() {
    on "$1" sysctl -qw net.ipv4.ip_forward=1
    on "$1" nft -f - <<NFT
table ip nat { }
delete table ip nat
table ip nat {
    chain post {
        type nat hook postrouting priority 100
        oifname "$2" meta l4proto udp masquerade to :$3
    }
}
NFT
}

# --- domicile -----------------------------------------------------------------------------------------------------

# Where the configuration of a host is. A story may say otherwise.
config_of() { echo "$DIR/$1.toml"; }

# entity HOST ADDRESS: key and the first half of a configuration.
entity() {
    local host=$1 address=$2
    [ -f "$DIR/$host.key" ] || "$DOMICILE" key generate "$DIR/$host.key" >"$DIR/$host.pub"
    cat >"$(config_of "$host")" <<TOML
[node]
control_socket = "$DIR/$host.sock"
allow_special_homes = true
[[entity]]
name = "$host"
address = "$address"
key_file = "$host.key"
TOML
}

# peer HOST NAME ADDRESS [LINE…]: another end, by its key unless a line says psk_file.
peer() {
    local host=$1 name=$2 address=$3; shift 3
    { echo "[[peer]]"; echo "name = \"$name\""; echo "address = \"$address\""
      [[ "$*" == *psk_file* || "$*" == *public_key* ]] || echo "public_key = \"$(cat "$DIR/$name.pub")\""
      for line; do echo "$line"; done; } >>"$(config_of "$host")"
}

# more HOST: appends standard input to the configuration.
more() { cat >>"$(config_of "$1")"; }

# Two configurations that know each other; extra lines for both come from standard input.
pair() {
    local extra; extra=$(cat)
    entity a $A6; entity b $B6
    peer a b $B6; peer b a $A6
    more a <<<"$extra"; more b <<<"$extra"
}

dom() { local host=$1; shift; on "$host" "$DOMICILE" --config "$(config_of "$host")" "$@"; }

start() {
    local host=$1; shift
    # exec: the process whose number we keep is the daemon itself.
    (exec ip netns exec "$NS$host" "$DOMICILE" --config "$(config_of "$host")" up "$@" >>"$DIR/$host.log" 2>&1) &
    echo $! >"$DIR/$host.pid"
    until_true 100 "the daemon of $host is up" dom "$host" status --json
}
stop() { dom "$1" down >/dev/null; wait "$(cat "$DIR/$1.pid")" || true; }
kill9() { kill -9 "$(cat "$DIR/$1.pid")"; wait "$(cat "$DIR/$1.pid")" 2>/dev/null || true; }

# status HOST JQ: a value of the status document.
status() { dom "$1" status --json | jq -r "$2"; }
expect() { local got; got=$(status "$1" "$2"); [ "$got" = "$3" ] || fail "status of $1: $2 is '$got', not '$3'"; }
drops() { status "$1" ".drops.$2 // 0"; }

# --- waiting and measuring ----------------------------------------------------------------------------------------

# until_true TENTHS WHAT COMMAND…
until_true() {
    local tenths=$1 what=$2; shift 2
    for _ in $(seq "$tenths"); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done
    fail "waited $((tenths / 10)) s in vain: $what"
}
status_is() { [ "$(status "$1" "$2")" = "$3" ]; }
# With several queues more child SAs may stand beside that one (RFC 9611).
one_pair() {
    status_is "$1" '.peers[0] | [(.ike | length), (.children | map(select(.state != "additional")) | length), .state] | join(" ")' "1 1 established"
}
settled() { until_true 200 "$1 and $2 have one pair of SAs" one_pair "$1"; until_true 200 "$2 has one pair" one_pair "$2"; }

# agreed A B: one IKE SA and one child in use at each end, and they are the same ones; replaced children may still drain.
one_in_use() {
    status "$1" ".peers[0] | (.children | map(select(.state == \"active\"))) as \$active
        | [(.ike | length), (\$active | length), .ike[0].spi_i, .ike[0].spi_r, \$active[0].$2.spi, \$active[0].$3.spi] | join(\" \")"
}
same_in_use() { local got; got=$(one_in_use "$1" inbound outbound); [[ $got == "1 1 "* && $got = "$(one_in_use "$2" outbound inbound)" ]]; }
agreed() { until_true 200 "$1 and $2 have the same pair of SAs" same_in_use "$1" "$2"; }

reaches() { on "$1" ping -6 -q -c "${3:-1}" -i 0.1 -W 1 "$2" >/dev/null; }
# says HOST PATTERN ADDRESS [ARGS…]: one ping, whose output has the pattern.
says() {
    local host=$1 pattern=$2 address=$3; shift 3
    on "$host" ping -6 -c 1 -W 1 "$@" "$address" >"$DIR/said" 2>&1 || true
    grep -qiE "$pattern" "$DIR/said" || fail "ping says nothing of '$pattern': $(cat "$DIR/said")"
}
cannot_reach() { if on "$1" ping -6 -q -c 2 -i 0.2 -W 1 "$2" >/dev/null 2>&1; then fail "$1 reaches $2, and should not"; fi; }
ms() { date +%s%3N; }

# iperf SERVER-HOST ADDRESS CLIENT-HOST ARGS…: JSON on standard output.
iperf() {
    local server=$1 address=$2 client=$3; shift 3
    (exec ip netns exec "$NS$server" iperf3 -s -1 -B "$address" >/dev/null 2>&1) &
    local pid=$!
    until_true 50 "iperf3 listens" bash -c "ip netns exec $NS$server ss -Hltn 'sport = 5201' | grep -q ."
    on "$client" timeout 60 iperf3 -J -c "$address" "$@" || true
    kill $pid 2>/dev/null || true; wait $pid 2>/dev/null || true
}
mbits() { jq -r '(.end.sum_received.bits_per_second // .end.sum.bits_per_second // 0) / 1e6 | floor'; }

# missing FROM TO: UDP datagrams and pings that FROM sent through the tunnel, that found no queue full, and that the kernel of TO
# did not get from its TUN. Counted there and not by the application, whose own socket overflows when a busy machine lets it wait;
# and not at the TUN, where a super-packet is one packet.
missing() {
    echo $(( $(ipv6_counters "$1" Udp6OutDatagrams Icmp6OutEchos Icmp6OutEchoReplies)
        - $(ipv6_counters "$2" Udp6InDatagrams Udp6InErrors Udp6NoPorts Icmp6InEchos Icmp6InEchoReplies) - $(overrun "$1" "$2") ))
}
# ipv6_counters HOST NAME…: the sum of these of /proc/net/snmp6.
ipv6_counters() { on "$1" awk -v names=" ${*:2} " 'index(names, " " $1 " ") {n += $2} END {print n + 0}' /proc/net/snmp6; }
# overrun FROM TO: packets that found the queue of that TUN or of that socket full, because the machine let a daemon wait.
overrun() { echo $(( $(on "$1" cat /sys/class/net/domicile0/statistics/tx_dropped) + $(udp_counter "$2" RcvbufErrors) )); }
# udp_counter HOST NAME: of /proc/net/snmp.
udp_counter() {
    on "$1" awk -v name="$2" '/^Udp:/ {if (!n) n = split($0, names); else for (i = 1; i <= n; i++) if (names[i] == name) print $i}' /proc/net/snmp
}

# --- what is on the wire ------------------------------------------------------------------------------------------

# capture HOST INTERFACE FILE [FILTER]. SNAP=N keeps so many octets of each packet.
capture() {
    # What an earlier capture said there is not said by this one.
    rm -f "$3.log"
    (exec ip netns exec "$NS$1" tcpdump --immediate-mode -Z root -U -B 32768 -s "${SNAP:-0}" -i "$2" -w "$3" ${4:+"$4"} >"$3.log" 2>&1) &
    echo $! >"$3.pid"
    until_true 50 "tcpdump runs" grep -q "listening on" "$3.log"
}
# A capture that missed packets proves nothing about what was not there.
end_capture() {
    sleep 0.3; kill "$(cat "$1.pid")"; wait "$(cat "$1.pid")" 2>/dev/null || true
    grep -qx "0 packets dropped by kernel" "$1.log" || fail "the capture is not complete: $(cat "$1.log")"
}
captured() { tcpdump -nr "$1" ${2:+"$2"} 2>/dev/null | wc -l; }

# Nothing but UDP 4500 and 500 (and ARP), and nowhere the marker text.
assert_nothing_in_clear() {
    local other
    other=$(tcpdump -nr "$1" 'not arp and not (udp and (port 4500 or port 500))' 2>/dev/null | head -3)
    [ -z "$other" ] || fail "in clear on the wire: $other"
    if [ -n "${2:-}" ] && grep -qa "$2" "$1"; then fail "the text '$2' is readable on the wire"; fi
}
