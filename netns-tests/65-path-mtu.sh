# The MTU of a path is found by what arrives: routers on the way drop what is too large and say nothing. It is found at the
# start, and again when the path shrinks under a transfer; applications that ask are told the right number; 1,280 passes
# wherever the link can carry it, and where it cannot, 'status' says so.
#
#   a 198.51.100.1 ---- r (both links narrow, ICMP dropped) ---- 198.51.101.2 b
B4=198.51.101.2
host a r b
wire a $A4/24 r 198.51.100.254/24; wire r 198.51.101.254/24 b $B4/24
ip -n "${NS}a" route add default via 198.51.100.254; ip -n "${NS}b" route add default via 198.51.101.254
on r sysctl -qw net.ipv4.ip_forward=1
on r nft -f - <<'NFT'
table ip silent {
    counter said { }
    chain out { type filter hook output priority 0; icmp type destination-unreachable counter name said drop; }
}
NFT
narrow() { ip -n "${NS}r" link set to-a mtu "$1"; ip -n "${NS}r" link set to-b mtu "$1"; }
narrow 1400

entity a $A6; entity b $B6
peer a b $B6 "endpoint = \"$B4:4500\""; peer b a $A6 "endpoint = \"$A4:4500\""
start a; start b
reaches a $B6 2 || fail "no tunnel"
# Whoever says nothing is not probed: so somebody talks, in small packets.
on a ping -6 -q -i 0.2 $B6 >/dev/null &

case $(status a '.peers[0].children[0].suite') in *iiv*|*IIV*|*implicit*) iv=0 ;; *) iv=8 ;; esac
# largest OUTER: the inner packet that a link of this MTU carries; IPv4, UDP, ESP header, IV, two octets and padding, ICV.
largest() { local inner=$((($1 - 20 - 8 - 8 - iv - 16) / 4 * 4 - 2)); echo $((inner < most ? inner : most)); }
most=1380
width() { status "$1" '.peers[0].paths[0] | "\(.mtu) \(.mtu_state)"'; }
# found HOST OUTER TENTHS: the path of HOST is known to carry what such a link does.
is_width() { [ "$(width "$1")" = "$2" ]; }
found() { until_true "$3" "$1 finds $(largest "$2") through $2 and has $(width "$1")" is_width "$1" "$(largest "$2") proven"; }

# --- at the start -----------------------------------------------------------------------------------------------------------
began=$(ms)
found a 1400 100; found b 1400 100
say "a link of 1,400 carries $(largest 1400); both knew it $(($(ms) - began)) ms after the first ping"
dom a status | grep -q "MTU $(largest 1400)" || fail "status tells no MTU: $(dom a status)"
dom a ping b -c 1 | grep -q "MTU $(largest 1400)" || fail "ping tells no MTU: $(dom a ping b -c 1)"
says a "too (long|big).*mtu[:=] ?$(largest 1400)" $B6 -M do -s 1332
fits() { on a ping -6 -q -c 2 -i 0.2 -W 2 -M do -s $(($1 - 48)) $B6 >/dev/null; }
fits "$(largest 1400)" || fail "the largest packet does not fit"
# A UDP application that forbids fragments is told, and its kernel remembers.
on a ip -6 route flush cache
on a python3 - $B6 "$(largest 1400)" <<'PY' || fail "UDP with DF was not told the MTU"
import errno, socket, sys, time
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, 23, 2)  # IPV6_MTU_DISCOVER: IPV6_PMTUDISC_DO
s.connect((sys.argv[1], 9))
wanted = int(sys.argv[2])
for _ in range(50):
    try:
        s.send(bytes(1380 - 48))
    except OSError as error:
        if error.errno == errno.EMSGSIZE:
            got = s.getsockopt(socket.IPPROTO_IPV6, 24)  # IPV6_MTU
            sys.exit(f"told {got}, not {wanted}" if got != wanted else None)
    time.sleep(0.1)
sys.exit("never refused")
PY
for way in "" -R; do
    speed=$(iperf b $B6 a -t 2 $way | mbits)
    [ "$speed" -ge 1 ] || fail "TCP ${way:-to b} does not flow: $speed Mbit/s"
    say "TCP ${way:-} $speed Mbit/s"
done
[ "$(on r nft -j list counter ip silent said | jq '.nftables[] | .counter // empty | .packets')" -gt 0 ] ||
    say "(no router had anything to say: everything too large was dropped by a link)"

# --- it shrinks under a transfer --------------------------------------------------------------------------------------------
(iperf b $B6 a -t 16 -b 50M >"$DIR/transfer") &
transfer=$!
sleep 4; narrow 1344; shrunk=$(ms)
found a 1344 100
say "the shrunk path was known after $(($(ms) - shrunk)) ms: $(largest 1344)"
wait $transfer
# In the last five seconds it flows as it did; nothing is black-holed.
last=$(jq '[.intervals[-5:][].sum.bytes] | add' "$DIR/transfer")
[ "${last:-0}" -gt 1000000 ] || fail "the transfer did not go on: $(jq -c '[.intervals[].sum.bytes]' "$DIR/transfer")"
say "the transfer went on: $(jq -c '[.intervals[].sum.bytes / 1e6 | floor]' "$DIR/transfer") MB each second"
found b 1344 100

# --- the narrowest link that carries 1,280, and one that does not -----------------------------------------------------------
least=$((1284 + 52 + iv))
narrow $least
found a $least 150
until_true 50 "1,280 octets pass through $least" fits 1280
narrow $((least - 4))
until_true 150 "a says that 1,280 octets do not pass" is_width a "1280 narrow"
! fits 1280 || fail "1,280 octets passed through $((least - 4))"
reaches a $B6 3 || fail "small packets do not pass either"
dom a status | grep -q "packets of 1280 octets are lost" || fail "status does not say that 1,280 octets are lost: $(dom a status)"
grep -q "too narrow for the tunnel" "$DIR/a.log" || fail "the log does not warn"
narrow 1500
found a 1500 150; found b 1500 150

# --- the own link shrinks: the socket says so -------------------------------------------------------------------------------
ip -n "${NS}a" link set to-r mtu 1380
found a 1380 150
say "$least is the narrowest link for 1,280 here"

# --- an MTU for jumbo frames, where there are none --------------------------------------------------------------------------
ip -n "${NS}a" link set to-r mtu 1500
for name in a b; do stop $name; sed -i '/^\[node\]/a mtu = 9000' "$DIR/$name.toml"; done
start a; start b; most=9000
reaches a $B6 2 || fail "no tunnel with an MTU of 9,000"
on a ping -6 -q -i 0.2 $B6 >/dev/null &
found a 1500 150; found b 1500 150
speed=$(iperf b $B6 a -t 2 | mbits)
[ "$speed" -ge 1 ] || fail "TCP does not flow with an MTU of 9,000: $speed Mbit/s"
say "with an MTU of 9,000 a link of 1,500 carries $(largest 1500); TCP $speed Mbit/s"
