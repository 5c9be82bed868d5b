# Two members become direct where their NATs allow it, by the shortest way, and stay relayed where they do not; a NAT that
# reboots costs seconds.
source "$TESTS/home.sh"
internet
site e1 endpoint-independent; site e2 endpoint-independent; site s1 symmetric; site s2 symmetric; site ad address-dependent
home_at home 192.0.2.10 home.example
node_at e1 laptop neighbour; node_at e2 server; node_at s1 sym1; node_at s2 sym2; node_at ad dep
direct_to laptop server "203.0.113.2:*"
say "endpoint-independent to endpoint-independent: direct"
direct_to laptop neighbour "$(address_of neighbour):4500"
say "same local network: direct, by the local addresses"
direct_to laptop sym1 "203.0.113.3:*"
say "endpoint-independent to symmetric: direct, at the address that was learned"
direct_to dep server "203.0.113.2:*"
say "address-dependent to endpoint-independent: direct"

# Between two symmetric NATs nothing opens: the relay goes on working.
reaches sym1 "$(entity_of sym2)" 5 || fail "symmetric to symmetric does not work"
stream sym1 sym2 sym 12; sleep 12; end_stream sym
path_is sym1 "$(entity_of sym2)" relayed || fail "symmetric to symmetric is $(path_of sym1 "$(entity_of sym2)")"
gap_below sym 500 "symmetric to symmetric, relayed"

# The NAT forgets its mappings under a stream.
stream laptop server reboot 40; sleep 2
reboot_nat e1
sleep 25; end_stream reboot
gap_below reboot 15000 "reboot of the NAT"
direct_to laptop server "203.0.113.2:*"
direct_to server laptop "203.0.113.1:*"

# Two hosts of one site that only the router connects: by its outside address.
for name in laptop neighbour; do stop $name; bridge -n "${NS}e1" link set dev to-$name isolated on; done
hairpin e1 on
# It must not send them back to the wire between them.
on e1 sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.lan.send_redirects=0
for name in laptop neighbour; do : >"$DIR/$name.log"; start $name; registered $name; done
direct_to laptop neighbour "203.0.113.1:*"
say "hairpin: direct, by the router's outside address"
