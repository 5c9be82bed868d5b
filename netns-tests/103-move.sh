# Members move from site to site under a TCP transfer and a UDP stream in each direction: one, the other, both at once. No
# connection is lost; lost datagrams are counted.
source "$TESTS/home.sh"
source "$TESTS/streams.sh"
internet
for name in e1 e2 e3 e4; do site $name endpoint-independent; done
home_at home 192.0.2.10 home.example
node_at e1 laptop; node_at e2 server
direct_to laptop server "203.0.113.2:*"; direct_to server laptop "203.0.113.1:*"

# moving WHAT BOUND COMMAND…: with everything running.
moving() {
    local what=$1 bound=$2; shift 2
    udp_stream laptop server out 16; udp_stream server laptop back 16
    (iperf server "$(entity_of server)" laptop -t 14 -b 20M >"$DIR/transfer.json") & local transfer=$!
    sleep 4
    "$@"
    wait $transfer
    end_udp_stream out; end_udp_stream back
    udp_within out "$bound" "$what, laptop to server"
    udp_within back "$bound" "$what, server to laptop"
    [ "$(jq -r '.error // "none"' "$DIR/transfer.json")" = none ] || fail "$what: the transfer ended: $(jq -r .error "$DIR/transfer.json")"
    say "$what: TCP transfer of $(mbits <"$DIR/transfer.json") Mbit/s went on; now $(path_of laptop "$(entity_of server)")"
}
both() { move_host laptop e1; move_host server e2; }
moving "the laptop moves" 3000 move_host laptop e3
direct_to laptop server "203.0.113.2:*"; direct_to server laptop "203.0.113.3:*"
moving "the server moves" 3000 move_host server e4
direct_to laptop server "203.0.113.4:*"; direct_to server laptop "203.0.113.3:*"
moving "both move at once" 6000 both
direct_to laptop server "203.0.113.2:*"; direct_to server laptop "203.0.113.1:*"
