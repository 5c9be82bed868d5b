# Two homes whose members trust each other reach each other, in both directions; where one end does not trust, nobody does, and both
# logs say why. A false root for a known prefix is not believed. What rested on a home that is trusted no longer ends. A
# known address with a new key is believed when its old key vouches for it, and under pin = "strict" only then.
source "$TESTS/home.sh"
internet
site left endpoint-independent; site right endpoint-independent
directory_each
home_at one 192.0.2.10 one.example
node_at left laptop desk
home_at two 192.0.2.20 two.example
place server right; at_home node add server >/dev/null; at_home service add web --node server >/dev/null; member server server
L6=$(entity_of laptop) D6=$(entity_of desk) S6=$(entity_of server)
ONE=2002:c000:20a::/48 TWO=2002:c000:214::/48
for home in one two; do dom $home home root >"$DIR/$home.root"; done
print_of() { dom "$1" trust list --json | jq -r ".[] | select(.prefix == \"$2\") | .fingerprint"; }
trusts() { dom "$1" trust add "$DIR/$2.root" --fingerprint "$(print_of "$2" "$3")" >"$DIR/trusted"; }
has_sa() { [ "$(status "$1" "[.peers[] | select(.address == \"$2\") | .ike[], .children[]] | length")" != 0 ]; }
no_sa() { ! has_sa "$@"; }
logged() { until_true 50 "the log of $1 says '$2'" grep -qE "$2" "$DIR/$1.log"; }

# Nobody trusts anybody: it is refused at once, and nothing but ESP and IKE leaves.
capture left wan "$DIR/left.pcap"; capture right wan "$DIR/right.pcap"
says laptop "prohibited" "$S6" -p 686561727468
logged laptop "$S6 is no listed peer, and its home is not trusted"
# The laptop trusts the server's home, and not the other way round.
trusts laptop two $TWO
cannot_reach laptop "$S6"
logged laptop "$S6 cannot be reached: .*AUTHENTICATION_FAILED.*whether it trusts our home"
logged server "IKE_AUTH refused .*$L6 is no listed peer, and its home is not trusted"
no_sa server "$L6" || fail "the server has an SA with a home that it does not trust"
cannot_reach server "$L6"
say "refused: $(grep -m1 -oE "IKE_AUTH refused.*" "$DIR/server.log" | cut -c1-120)"

# Both trust.
trusts server one $ONE
until_true 200 "the laptop reaches the server" reaches laptop "$S6"
reaches server "$L6" 3 || fail "the server does not reach the laptop"
on laptop ping -6 -q -c 3 -i 0.1 -p 686561727468 "$S6" >/dev/null || fail "the marked pings do not arrive"
W6=$(dom two home service show web --json | jq -r .entity.address)
until_true 200 "the laptop reaches a service of the other home" reaches laptop "$W6"
# In the other direction from the beginning, too.
dom server disconnect "$L6" >/dev/null
until_true 200 "the server reaches the laptop from nothing" reaches server "$L6"
# Trust is each machine's own: the desk was not told.
cannot_reach desk "$S6"
end_capture "$DIR/left.pcap"; end_capture "$DIR/right.pcap"
for side in left right; do
    # The NATs choose the ports.
    other=$(tcpdump -nr "$DIR/$side.pcap" 'not arp and not udp' 2>/dev/null | head -3)
    [ -z "$other" ] || fail "in clear on the wire: $other"
    if grep -qa hearthhearth "$DIR/$side.pcap"; then fail "what the pings carry is readable on the wire"; fi
done

# A false root for the same prefix: not taken by a person without --replace, nor by the daemon.
host false
dom false home init --address 192.0.2.20 --domain two.example --allow-special >/dev/null
dom false home root >"$DIR/false.root"
if dom laptop trust add "$DIR/false.root" --yes >"$DIR/out" 2>&1; then fail "a false root is taken"; fi
grep -q "trusts another root for $TWO" "$DIR/out" || fail "it says only: $(cat "$DIR/out")"
if dom laptop trust add "$DIR/false.root" --fingerprint "$(print_of two $TWO)" --replace >"$DIR/out" 2>&1; then fail "a root with another fingerprint is taken"; fi
# The impostor takes over the address of the home, and has members of its own.
stop server; stop two
ip -n "${NS}internet" link del to-two
attach false net 192.0.2.20
HOME_HOST=false HOME_V4=192.0.2.20
start false
place thief right; at_home node add server >/dev/null; member thief server
[ "$(entity_of thief)" = "$S6" ] || fail "the thief has $(entity_of thief), not the server's address"
cannot_reach laptop "$S6"
trusts thief one $ONE
cannot_reach thief "$L6"
logged laptop "not issued by the pinned root of $TWO"
logged thief "cannot be reached: .*AUTHENTICATION_FAILED"
no_sa laptop "$S6" || fail "the laptop talks to the thief"
# A member of the true home does not fall for it either, nor does the false home believe a certificate of the true one.
: >"$DIR/server.log"
start server
logged server "2002:c000:214::1 cannot be reached: authentication failed"
logged false "IKE_AUTH refused .*$S6: the certificate was not issued by the pinned root of $TWO"
if grep -q "is registered" "$DIR/server.log"; then fail "the server is registered with the impostor"; fi
cannot_reach laptop "$S6"
say "the impostor: $(grep -m1 -oE "IKE_AUTH refused.*" "$DIR/laptop.log" | cut -c1-150)"
stop thief; stop false; stop server
ip -n "${NS}internet" link del to-false
attach two net 192.0.2.20
start two; HOME_HOST=two; start server
until_true 300 "the laptop reaches the true server again" reaches laptop "$S6"

# Removing the trust cuts what rested on it, also at the other end.
has_sa laptop "$S6" || fail "there is no SA to cut"
dom laptop trust remove two.example >"$DIR/out"
until_true 50 "the laptop has cut its SAs with the other home" no_sa laptop "$S6"
until_true 50 "the server has heard of it" no_sa server "$L6"
cannot_reach laptop "$S6"; cannot_reach server "$L6"
[ "$(dom laptop trust keys --json | jq -r '.[].address' | grep -c "^2002:c000:214:")" = 0 ] || fail "keys of a home are remembered that is trusted no longer"
trusts laptop two $TWO
until_true 200 "the laptop reaches the server after it trusts again" reaches laptop "$S6"

# A new key that the old one endorses: taken without a question, also under pin = "strict", and not one ping is lost.
sed -i '0,/^\[node\]$/s//[node]\npin = "strict"/' "$DIR/laptop/domicile.toml"
dom laptop reload >/dev/null
key_of() { dom "$1" key show --fingerprint; }
remembered() { dom laptop trust keys --json | jq -r ".[] | select(.address == \"$1\") | .fingerprint"; }
[ "$(remembered "$S6")" = "$(key_of server)" ] || fail "the laptop does not remember the key of the server"
reaches laptop "$W6" || fail "the laptop does not reach web"
old=$(key_of server)
on laptop ping -6 -q -i 0.1 -c 150 -W 2 "$S6" >"$DIR/pinged" & ping=$!
dom server key rotate >"$DIR/out"
until_true 150 "the server has its new key" bash -c "[ -f '$DIR/server/server.key.old' ] && [ ! -f '$DIR/server/server.key.next' ]"
new=$(key_of server)
[ "$new" != "$old" ] || fail "the key is the old one"
is_remembered() { [ "$(remembered "$1")" = "$2" ]; }
until_true 100 "the laptop remembers the new key" is_remembered "$S6" "$new"
logged laptop "$S6 has a new key .*which its old one endorses"
until_true 150 "the service has the new key, too" is_remembered "$W6" "$new"
logged laptop "$W6 has a new key .*which its old one endorses"
wait $ping || fail "the change of the key was heard: $(tail -2 "$DIR/pinged")"
grep -q " 150 received" "$DIR/pinged" || fail "pings were lost at the change of the key: $(tail -2 "$DIR/pinged")"
for file in key key.old; do [ "$(stat -c %a "$DIR/server/server.$file")" = 600 ] || fail "server.$file can be read by others"; done
# While they are apart: twice, and again without the daemon.
stop laptop
dom server key rotate >/dev/null
until_true 150 "the server has its third key" [ ! -f "$DIR/server/server.key.next" ]
stop server
dom server key rotate >"$DIR/out"
start server
until_true 200 "the server has its fourth key" [ ! -f "$DIR/server/server.key.next" ]
start laptop
until_true 300 "the laptop follows the chain of keys" reaches laptop "$S6"
[ "$(remembered "$S6")" = "$(key_of server)" ] || fail "the laptop remembers another key than the last one"
say "three changes of the key, endorsed: 150 pings, none lost"

# A new key that nothing but the home vouches for: refused, until a person has looked.
stop server; rm -r "$DIR/server"
HOME_HOST=two HOME_V4=192.0.2.20; : >"$DIR/server.log"
member server server
trusts server one $ONE
cannot_reach laptop "$S6"; cannot_reach server "$L6"
logged laptop "shows the new key .*domicile trust forget $S6"
no_sa laptop "$S6" || fail "the laptop took a new key that its old one does not endorse"
dom laptop trust forget "$S6" >/dev/null
until_true 200 "the laptop takes the new key after it forgot the old one" reaches laptop "$S6"
[ "$(remembered "$S6")" = "$(key_of server)" ] || fail "the laptop remembers another key"
