# What a home puts on its entities. Services of a node: added while it runs they are there, each under an address and a certificate of its own; one that moves to
# another node keeps its address; one that is removed answers no more. A restart of the node needs no home for them.
source "$TESTS/home.sh"
internet
site left endpoint-independent; site one endpoint-independent; site two endpoint-independent
home_at home 192.0.2.10 home.example
place laptop left; place server1 one; place server2 two
at_home user add alice >/dev/null
for name in server1 server2; do at_home node add $name >/dev/null; member $name $name; done
member laptop alice
at_home service add web --node server1 >/dev/null
at_home service add wiki --node server1 >/dev/null
WEB=$(at_home list --json | jq -r '.[] | select(.name == "web").address') WIKI=$(at_home list --json | jq -r '.[] | select(.name == "wiki").address')
hosts() { on "$1" ip -6 addr show dev domicile0 | grep -q "$2/128"; }
until_true 100 "server1 hosts web" hosts server1 "$WEB"
reaches laptop "$WEB" 3 || fail "web is not reached"
reaches laptop "$WIKI" 3 || fail "wiki is not reached"
# It is web itself that answers, with a certificate for this address.
status server1 ".entities[] | select(.address == \"$WEB\") | .certificate.name" | grep -q '^web.home.example' || fail "web has no certificate of its own"

at_home service move web --node server2 >/dev/null
until_true 100 "server2 hosts web" hosts server2 "$WEB"
hosts server1 "$WEB" && fail "server1 still has the address of web"
until_true 150 "web is reached where it is now" reaches laptop "$WEB" 1
on server2 tcpdump -i domicile0 -n -c 2 "ip6 dst $WEB and icmp6" >"$DIR/at" 2>"$DIR/at.err" & capture=$!
until_true 50 "tcpdump listens" grep -q "listening on" "$DIR/at.err"
reaches laptop "$WEB" 3 || fail "web is lost after its move"
wait $capture; [ -s "$DIR/at" ] || fail "the pings did not come to server2"
reaches laptop "$WIKI" 3 || fail "wiki went as well"

at_home service remove wiki >/dev/null
until_true 100 "server1 drops wiki" eval "! hosts server1 $WIKI"
if reaches laptop "$WIKI" 1; then fail "a removed service answers"; fi

# What a node knows of its services it remembers.
stop server2
until_true 50 "server2 is down" eval "! hosts server2 $WEB"
start server2
until_true 50 "server2 hosts web after a restart" hosts server2 "$WEB"
until_true 150 "web is reached after the restart of its node" reaches laptop "$WEB" 1

# The floating address of a user is on her first device.
ALICE=$(at_home list --json | jq -r '.[] | select(.name == "alice").address')
until_true 100 "the laptop has the floating address of alice" hosts laptop "$ALICE"
until_true 100 "alice is reached" reaches server1 "$ALICE" 1
