# The home is killed under load, comes back, and is unreachable for a while: direct traffic goes on, and new conversations
# find everybody where they were. Whoever goes down is not reached any more.
source "$TESTS/home.sh"
internet
site e1 endpoint-independent; site e2 endpoint-independent; site s1 symmetric; site s2 symmetric
home_at home 192.0.2.10 home.example
node_at e1 laptop; node_at e2 server; node_at s1 sym1; node_at s2 sym2
direct_to laptop server "203.0.113.2:*"; direct_to server laptop "203.0.113.1:*"
reaches sym1 "$(entity_of sym2)" 5 || fail "the relayed conversation does not work"
sleep 2 # the store learns of bindings by then

stream laptop server direct 60; stream sym1 sym2 relayed 60; sleep 2
kill9 home; sleep 1; start home
sleep 10; end_stream direct; end_stream relayed
gap_below direct 500 "kill -9 of the home, direct"
gap_below relayed 8000 "kill -9 of the home and 1 s without it, relayed"
until_true 100 "a new conversation is relayed" reaches sym1 "$(entity_of server)"
say "after the restart a new conversation begins"

stream laptop server direct 60; sleep 1
ip -n "${NS}internet" link set to-home down; sleep 20
ip -n "${NS}internet" link set to-home up
ip -n "${NS}internet" route replace 192.0.2.10/32 dev to-home src 192.0.2.1
sleep 3; end_stream direct
gap_below direct 500 "home unreachable for 20 s, direct"
until_true 300 "relayed traffic recovers" reaches sym1 "$(entity_of sym2)"
until_true 100 "a new conversation is relayed" reaches laptop "$(entity_of sym2)"

# Down: others do not reach it.
gone=$(entity_of sym2)
stop sym2
cannot_reach server "$gone"
