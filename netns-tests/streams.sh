# One-way UDP streams between members, each datagram numbered. Sourced by stories, after home.sh.
#
#   udp_stream FROM TO NAME SECONDS         100 datagrams a second from one host's permanent address to another's, in the background
#   end_udp_stream NAME                     waits for its end; then NAME has: sent, received, reordered, longest silence in ms
#   udp_within NAME MILLISECONDS WHAT       says that, and fails above this silence, or when more is lost than fits into it
# shellcheck shell=bash
STREAM_RATE=100
STREAM_PORT=7000
udp_stream() {
    local from to; from=$(entity_of "$1") to=$(entity_of "$2"); STREAM_PORT=$((STREAM_PORT + 1))
    (exec ip netns exec "$NS$2" python3 "$TESTS/udp_stream.py" receive "$to" $STREAM_PORT $(($4 + 15)) >"$DIR/$3.received" 2>"$DIR/$3.receiver.log") &
    echo $! >"$DIR/$3.receiver"
    until_true 50 "the receiver listens" bash -c "ip netns exec $NS$2 ss -Hlun 'sport = $STREAM_PORT' | grep -q ."
    (exec ip netns exec "$NS$1" python3 "$TESTS/udp_stream.py" send "$from" "$to" $STREAM_PORT $STREAM_RATE "$4" >"$DIR/$3.sent" 2>"$DIR/$3.sender.log") &
    echo $! >"$DIR/$3.sender"
}
end_udp_stream() {
    wait "$(cat "$DIR/$1.sender")" || fail "the sender of $1 failed: $(cat "$DIR/$1.sender.log")"
    wait "$(cat "$DIR/$1.receiver")" || fail "the receiver of $1 failed: $(cat "$DIR/$1.receiver.log")"
    echo "$(cat "$DIR/$1.sent") $(cat "$DIR/$1.received")" >"$DIR/$1"
}
udp_within() {
    local sent received reordered silence; read -r sent received reordered silence <"$DIR/$1"
    say "$3: $((sent - received)) of $sent datagrams lost, $reordered out of order, longest silence $silence ms"
    [ "$received" -gt 0 ] && [ "$silence" -le "$2" ] || fail "$3: silence of $silence ms is more than $2"
    # What got lost is what was sent in that silence, and hardly more.
    [ $((sent - received)) -le $(($2 * STREAM_RATE / 1000)) ] || fail "$3: $((sent - received)) datagrams were lost"
}
