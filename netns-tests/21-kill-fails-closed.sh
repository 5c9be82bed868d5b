# After kill -9 nothing leaves in clear, although the machine has an IPv6 default route; the next start sweeps.
two_hosts
on a ip -6 addr add fd00::1/64 dev to-b nodad; on b ip -6 addr add fd00::2/64 dev to-a nodad
on a ip -6 route add default via fd00::2
pair </dev/null
capture b to-a "$DIR/wire.pcap" "ip6 and net 2002::/16"
in_clear() { sleep 0.2; captured "$DIR/wire.pcap"; }
# The control: without a daemon the same traffic leaves in clear, and this capture sees it.
cannot_reach a $B6
control=$(in_clear)
[ "$control" -ge 2 ] || fail "the capture sees no clear traffic"
start a; start b
reaches a $B6 3 || fail "no tunnel"
kill9 a
on a ip link show domicile0 >/dev/null 2>&1 && fail "the TUN outlived its daemon"
cannot_reach a $B6
{ on a ip -6 route get $B6 2>&1 || true; } | grep -qiE "unreachable|no route" || fail "the route is not closed"
start a
reaches a $B6 3 || fail "no tunnel after the restart"
[ "$(on a ip -6 rule | grep -c 'proto 208')" = 3 ] || fail "rules piled up: $(on a ip -6 rule)"
[ "$(in_clear)" = "$control" ] || fail "left in clear: $(tcpdump -nr "$DIR/wire.pcap" 2>/dev/null | tail -3)"
stop a
on a ip -6 rule | grep -q 'proto 208' && fail "rules are left"
# And the capture still sees: 'down' on purpose gives the traffic back to the ordinary routes.
reaches a $B6 2 || true
[ "$(in_clear)" -ge $((control + 2)) ] || fail "the capture was blind at the end"
end_capture "$DIR/wire.pcap"
say "$control packets in clear before the daemon was there, none with it or after kill -9"
