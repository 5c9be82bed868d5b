# The dissector in docs/wireshark reads a session of members of a home (registered, relayed, probing, direct): every field of it
# is what the programs logged. Garbage does not break it.
# What leaves as one super-datagram is in the capture as one, and no dissector cuts it.
export DOMICILE_WITHOUT=udp-gso
source "$TESTS/home.sh"
suites='[ike]
suites = ["aes-256-gcm"]
[esp]
suites = ["aes-256-gcm"]'
export RUST_LOG=info,domicile::node::control=trace
internet
site left endpoint-independent; site right endpoint-independent; site train endpoint-independent
public_host home 192.0.2.10; HOME_HOST=home HOME_V4=192.0.2.10
dom home home init --address $HOME_V4 --domain home.example --allow-special >/dev/null
more home <<<"$suites"
capture home net "$DIR/home.pcap" udp
capture right wan "$DIR/right.pcap" udp
start home --keylog "$DIR/keys.home"
at_home user add alice >/dev/null; at_home node add web1 >/dev/null
for who in "laptop alice left" "phone alice left" "server web1 right"; do
    set -- $who
    place "$1" "$3"; join "$1" "$2"; more "$1" <<<"$suites"; start "$1" --keylog "$DIR/keys.$1"; registered "$1"
done
reaches phone "$(entity_of server)" 5 || fail "the phone does not reach the server"
direct_to laptop server "203.0.113.2:*"
move_host laptop train
until_true 100 "the laptop is direct again" path_is laptop "$(entity_of server)" "direct 203.0.113.2:*"
until_true 100 "and at the server, too" path_is server "$(entity_of laptop)" "direct 203.0.113.3:*"
reaches laptop "$(entity_of server)" 5 || fail "the laptop does not reach the server from the train"
at_home device revoke phone.alice >/dev/null
until_true 100 "the server knows of the revocation" grep -q "was revoked by its home" "$DIR/server.log"
# What is said later is not captured any more.
mkdir "$DIR/session"; cp "$DIR"/*.log "$DIR"/*.toml "$DIR"/keys.* "$DIR/session"
# What was said last may still be on its way into the file: members ask each other all the time how wide the path is.
sleep 2
end_capture "$DIR/right.pcap"; end_capture "$DIR/home.pcap"
mv "$DIR"/*.pcap "$DIR/session"
for what in session crafted mutated; do
    python3 "$TESTS/dissector.py" $what "$DIR/session" "$TESTS/../docs/wireshark/domicile.lua" || fail "the dissector: $what"
done
