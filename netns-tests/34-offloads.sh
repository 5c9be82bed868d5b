# Every offload off at one end, one at a time and all of them, on a link that hands super-packets over whole and on one that cuts
# them as a network card does and joins them again: every octet of TCP and UDP both ways is what was sent, and what is on is used.
two_hosts
pair </dev/null
bulk() { local host=$1; shift; on "$host" python3 "$TESTS/bulk.py" "$@"; }
(exec ip netns exec "${NS}b" python3 "$TESTS/bulk.py" serve :: 7000 >"$DIR/serve.out" 2>"$DIR/serve.log") &
until_true 100 "the server listens" grep -q ready "$DIR/serve.out"
unset DOMICILE_WITHOUT; start b

# link whole|nic
link() {
    local state; [ "$1" = nic ] && state=off || state=on
    on a ethtool -K to-b tso $state tx-udp-segmentation $state gro on >/dev/null
    on b ethtool -K to-a tso $state tx-udp-segmentation $state gro on >/dev/null
}
# packets_per_write HOST: packets out of the tunnel for ten writes to the TUN, since the last time.
packets_per_write() {
    local packets writes before_packets before_writes
    packets=$(status "$1" '[.peers[0].children[].inbound.packets] | add') writes=$(on "$1" cat /sys/class/net/domicile0/statistics/rx_packets)
    read -r before_packets before_writes < <(cat "$DIR/$1.written" 2>/dev/null) || true
    echo "$packets $writes" >"$DIR/$1.written"
    echo $(( 10 * (packets - ${before_packets:-0}) / (writes - ${before_writes:-0} + 1) ))
}

for off in "" tun-offload coalesce udp-gso udp-gro tun-offload,coalesce,udp-gso,udp-gro; do
    [ -z "$off" ] || export DOMICILE_WITHOUT=$off
    start a; unset DOMICILE_WITHOUT
    until_true 200 "a reaches b" reaches a $B6
    for mode in whole nic; do
        link $mode
        packets_per_write a >/dev/null; packets_per_write b >/dev/null
        verdict=$(bulk a tcp $A6 $B6 7000 8000000 2>&1) || true
        [ "$verdict" = ok ] || fail "without '$off', link $mode: TCP: $verdict"
        at_a=$(packets_per_write a) at_b=$(packets_per_write b)
        verdict=$(bulk a udp $A6 $B6 7000 32 2>&1) || true
        [[ $verdict == "ok "* ]] || fail "without '$off', link $mode: UDP: $verdict"
        say "without '${off:-nothing}', link $mode: packets in ten writes to the TUN: a $at_a, b $at_b; UDP lost ${verdict#ok }"
        case $off in
            *tun-offload*|*coalesce*) [ "$at_a" -le 10 ] || fail "a joins packets although it was told not to" ;;
            *) [ "$at_a" -ge 15 ] || fail "a does not join packets" ;;
        esac
        [ "$at_b" -ge 15 ] || fail "b does not join packets"
    done
    drops=$(status a '.drops | with_entries(select(.key | IN("malformed", "tun_write", "integrity", "padding", "send_failed"))) | length')
    [ "$drops" = 0 ] || fail "without '$off': a dropped packets: $(status a .drops)"
    stop a
done
[ "$(status b '.drops | with_entries(select(.key | IN("malformed", "tun_write", "integrity", "padding", "send_failed"))) | length')" = 0 ] ||
    fail "b dropped packets: $(status b .drops)"
