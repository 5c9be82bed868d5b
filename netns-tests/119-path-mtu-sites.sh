# A site whose uplink carries 1,400 octets and says nothing about it: its members become direct all the same, and each path,
# direct and relayed, has the MTU that it has.
source "$TESTS/home.sh"
internet
site e1 endpoint-independent; site e2 endpoint-independent
home_at home 192.0.2.10 home.example
for router in internet e1; do
    on $router nft 'table ip silent { chain out { type filter hook output priority 0; icmp type destination-unreachable drop; }; }'
done
ip -n "${NS}internet" link set to-e1 mtu 1400; ip -n "${NS}e1" link set wan mtu 1400
node_at e1 laptop; node_at e2 server
to_server=$(entity_of server) to_laptop=$(entity_of laptop)

# width HOST PEER-ADDRESS: kind, MTU, and how far the search is.
width() { dom "$1" status "$2" --json | jq -r '.paths[0] | "\(.kind) \(.mtu) \(.mtu_state)"'; }
width_is() { [ "$(width "$1" "$2")" = "$3" ]; }
both_are() {
    until_true 200 "the path of laptop is $1 (it is $(width laptop "$to_server"))" width_is laptop "$to_server" "$1"
    until_true 200 "the path of server is $1 (it is $(width server "$to_laptop"))" width_is server "$to_laptop" "$1"
    say "$1"
}
flows() {
    local speed; speed=$(iperf server "$to_server" laptop -t 3 "$@" | mbits)
    [ "$speed" -ge 1 ] || fail "TCP $* does not flow: $speed Mbit/s, path $(width laptop "$to_server")"
    say "TCP $* $speed Mbit/s"
}

direct_to laptop server "203.0.113.2:*"
on laptop ping -6 -q -i 0.2 "$to_server" >/dev/null &
# IPv4, UDP, ESP without IV, two octets and padding, ICV.
both_are "direct $((1400 - 20 - 8 - 8 - 16 - 2)) proven"
flows; flows -R

# The direct path goes. What the relay carries is 40 octets less.
on e2 nft 'table ip apart { chain in { type filter hook prerouting priority -300; ip saddr 203.0.113.1 udp dport 1-65535 drop; }; }'
both_are "relayed $((1400 - 20 - 8 - 40 - 8 - 16 - 2)) proven"
flows; flows -R
on e2 nft delete table ip apart
until_true 900 "direct again" path_is laptop "$to_server" "direct *"
both_are "direct $((1400 - 20 - 8 - 8 - 16 - 2)) proven"
