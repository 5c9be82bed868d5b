# With a strongSwan: the MTU of the path to a peer that is not one of us is found, too, though routers on the way drop what is
# too large and say nothing. It is asked by ICMPv6 echoes inside the tunnel; one that sends none back keeps the configured MTU.
#
#   a 198.51.100.1 ---- r (both links narrow, ICMP dropped) ---- 198.51.101.2 strongSwan s (userspace ESP)
source "$TESTS/strongswan.sh"
B4=198.51.101.2
host a r s
wire a $A4/24 r 198.51.100.254/24; wire r 198.51.101.254/24 s $B4/24
ip -n "${NS}a" route add default via 198.51.100.254; ip -n "${NS}s" route add default via 198.51.101.254
on r sysctl -qw net.ipv4.ip_forward=1
on r nft 'table ip silent { chain out { type filter hook output priority 0; icmp type destination-unreachable drop; }; }'
narrow() { ip -n "${NS}r" link set to-a mtu "$1"; ip -n "${NS}r" link set to-s mtu "$1"; }

# largest OUTER: the inner packet that a link of this MTU carries; IPv4, UDP, ESP header, IV (strongSwan knows no implicit one),
# two octets and padding, ICV.
largest() { local inner=$((($1 - 20 - 8 - 8 - 8 - 16) / 4 * 4 - 2)); echo $((inner < 1380 ? inner : 1380)); }
width() { status a '.peers[0].paths[0] | "\(.mtu) \(.mtu_state)"'; }
width_is() { [ "$(width)" = "$1" ]; }
# found OUTER SECONDS: so long after $began at the latest the path is known to carry what such a link does.
found() {
    local wanted; wanted="$(largest "$1") proven"
    until width_is "$wanted"; do
        [ $(($(ms) - began)) -lt $(($2 * 1000)) ] || fail "a path of $1 is '$(width)' after $2 s, not '$wanted'"
        sleep 0.1
    done
    say "a path of $1 carries $(largest "$1"), known after $(($(ms) - began)) ms"
}
fits() { on a ping -6 -q -c 2 -i 0.2 -W 2 -M do -s $(($1 - 48)) $B6 >/dev/null; }
# talk NAME ARGS…: pings in the background, because whoever is idle is not asked. end_talk NAME: sends no more.
talk() { (exec ip netns exec "${NS}a" ping -6 -q -i 0.2 "${@:2}" $B6 >"$DIR/$1.talk" 2>&1) & echo $! >"$DIR/$1.talker"; }
end_talk() { kill -INT "$(cat "$DIR/$1.talker")"; wait "$(cat "$DIR/$1.talker")" || true; }
flows() {
    local speed; speed=$(iperf s $B6 a -t 2 "$@" | mbits)
    [ "${speed:-0}" -ge 1 ] || fail "TCP ${*:-to s} does not flow: ${speed:-0} Mbit/s, path $(width)"
    say "TCP ${*:-to s} $speed Mbit/s"
}
# carries OUTER: what fits passes, what does not is told at once, and TCP flows.
carries() {
    fits "$(largest "$1")" || fail "a packet of $(largest "$1") octets does not pass through $1"
    # strongSwan does not search: what it sends is as large as the TCP MSS that our kernel announces, which is that of the route.
    # So what comes back flows when our kernel was told.
    says a "too (long|big).*mtu[:=] ?$(largest "$1")" $B6 -M do -s 1332
    flows; flows -R
}
spi() { status a '.peers[0].ike | map(.spi_i) | join(" ")'; }
# same_ike WHEN: nobody closed or replaced the IKE SA, and charon understood every request.
same_ike() {
    local ended
    [ "$(spi)" = "$old" ] || fail "$1: the IKE SA $old became '$(spi)': $(tail -2 "$DIR/a.log")"
    ended=$(grep -E 'giving up|deleting IKE_SA|received DELETE for IKE_SA|destroying IKE_SA|processing failed|N\(INVAL_SYN\)' "$DIR/s.log" | head -3 || true)
    [ -z "$ended" ] || fail "$1: charon says: $ended"
    [ "$(charon_says s 'IKE_SA peer.* established between')" = 1 ] || fail "$1: charon has had more than one IKE SA"
}
# --- at the start -----------------------------------------------------------------------------------------------------------
narrow 1400
entity a $A6
strongswan s $B6 $B4 $A6 $A4 pubkey chacha20poly1305-prfsha256-curve25519 chacha20poly1305
peer a s $B6 "endpoint = \"$B4:4500\""
start a
began=$(ms)
reaches a $B6 3 || fail "no tunnel through 1400"
talk small
old=$(spi)
expect a '.peers[0].ike[0].peer_is_domicile' false
expect a '.peers[0].children[0].suite' chacha20-poly1305
! fits 1380 || fail "1380 octets passed through 1400: the link is not narrow"
found 1400 15
carries 1400
same_ike "at the start"

# --- it shrinks under way ---------------------------------------------------------------------------------------------------
talk large -s $(($(largest 1400) - 48))
sleep 2; narrow 1344; began=$(ms)
! fits "$(largest 1400)" || fail "$(largest 1400) octets passed through 1344"
found 1344 60
carries 1344
same_ike "after the path shrank"
end_talk large; end_talk small
# The IKE SA and the child were there all the time: two seconds' worth of small pings at most was lost to changing links and full queues.
lost=$(sed -n 's/^\([0-9]*\) packets transmitted, \([0-9]*\) received.*/\1-\2/p' "$DIR/small.talk")
[ $((lost)) -le 10 ] || fail "small pings were lost: $(cat "$DIR/small.talk")"

# --- it is wide, and we start anew ------------------------------------------------------------------------------------------
# Our kernel remembers for ten minutes what it was told, for as long as there is the device.
narrow 1500
stop a; start a
capture a to-r "$DIR/wire.pcap" udp
began=$(ms)
reaches a $B6 3 || fail "no tunnel through 1500"
[ "$(spi)" != "$old" ] || fail "the IKE SA is the old one"
talk small
found 1500 15
fits 1380 || fail "1380 octets do not pass through 1500"
end_talk small
end_capture "$DIR/wire.pcap"
[ "$(tshark -r "$DIR/wire.pcap" -Y 'ip.flags.mf == 1 || ip.frag_offset > 0 || (esp && ip.flags.df == 0)' 2>/dev/null | wc -l)" = 0 ] ||
    fail "what is to prove a size may be cut on the way"

# --- it sends no echo back --------------------------------------------------------------------------------------------------
dom a disconnect s >/dev/null
old=$(spi); [ -z "$old" ] || fail "it is still connected: $old"
on s nft 'table ip6 quiet { chain in { type filter hook input priority 0; icmpv6 type echo-request counter drop; }; }'
flows; flows -R
[ "$(on s nft -j list table ip6 quiet | jq '[.. | .counter? // empty | .packets] | add')" -gt 0 ] || fail "nothing was asked"
width_is "1380 configured" || fail "the path to a peer that sends no echo back is '$(width)'"
say "a peer that sends no echo back keeps the configured MTU"
