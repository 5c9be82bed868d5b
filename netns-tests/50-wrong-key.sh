# A wrong key, a wrong PSK, a stranger and a second machine with somebody's address: each is refused, told plainly, and
# changes nothing for the others.
two_hosts
wrong_signature="the peer's signature does not match the public key listed for it"
# refused WHAT SAID-BY-A [WHY-IN-THE-LOG-OF-B]
refused() {
    : >"$DIR/b.log"
    start a; start b --log-level debug
    if dom a ping b -c 1 >"$DIR/out" 2>&1; then fail "$1: it worked"; fi
    grep -q "$2" "$DIR/out" || fail "$1: it says only: $(cat "$DIR/out")"
    expect a '.peers[0].state' failed
    expect b '[.peers[].ike[]] | length' 0
    grep "IKE_AUTH refused" "$DIR/b.log" >"$DIR/refusals" || true
    if [ -z "${3:-}" ]; then [ ! -s "$DIR/refusals" ] || fail "$1: b refused: $(cat "$DIR/refusals")"
    else grep -qF "from=$A4:4500 why=\"$A6$3" "$DIR/refusals" || fail "$1: b gives another reason: $(cat "$DIR/refusals")"; fi
    stop a; stop b
    say "$1: $(head -1 "$DIR/out")"
}

# The key that b has for a is another one.
pair </dev/null
"$DOMICILE" key generate "$DIR/x.key" >"$DIR/x.pub"
sed -i "s#$(cat "$DIR/a.pub")#$(cat "$DIR/x.pub")#" "$DIR/b.toml"
refused "wrong key at the responder" "authentication failed" ": $wrong_signature"

# The key that a has for b is another one.
pair </dev/null
sed -i "s#$(cat "$DIR/b.pub")#$(cat "$DIR/x.pub")#" "$DIR/a.toml"
refused "wrong key at the initiator" "authentication failed: $wrong_signature"

# Different PSKs.
echo "correct horse battery staple" >"$DIR/one.psk"; echo "another secret altogether" >"$DIR/two.psk"; chmod 600 "$DIR"/*.psk
entity a $A6; entity b $B6
peer a b $B6 'psk_file = "one.psk"'; peer b a $A6 'psk_file = "two.psk"'
refused "wrong PSK" "authentication failed" ": the pre-shared key is another one at the other end"

# The same PSK works.
sed -i s/two.psk/one.psk/ "$DIR/b.toml"
start a; start b
reaches a $B6 2 || fail "the right PSK does not work"
stop a; stop b

# b does not know a.
entity a $A6; entity b $B6
peer a b $B6
peer b x 2002:c633:6409:1::9 "public_key = \"$(cat "$DIR/x.pub")\""
refused "unknown peer" "authentication failed" " is no listed peer, and its home is not trusted"

# A third machine claims a's address with a key of its own: b refuses it for that reason, says where it came from, and goes
# on talking to a.
pair </dev/null
host c; wire c 203.0.113.3/24 b 203.0.113.2/24
entity c $A6
peer c b $B6 'endpoint = "203.0.113.2:4500"'
: >"$DIR/b.log"
start a; start b --log-level debug
reaches a $B6 2 || fail "no tunnel"
before=$(status b '.peers[0] | .ike[0].spi_i + .children[0].inbound.spi')
refusals() { grep "IKE_AUTH refused" "$DIR/b.log" || true; }
[ -z "$(refusals)" ] || fail "b refused before the impostor was there: $(refusals)"
on a ping -6 -q -i 0.05 -c 60 -W 1 $B6 >"$DIR/ping" & pinger=$!
start c
if dom c ping b -c 1 >"$DIR/out" 2>&1; then fail "the impostor got in"; fi
grep -q "authentication failed" "$DIR/out" || fail "the impostor is told: $(cat "$DIR/out")"
[ -n "$(refusals)" ] || fail "b does not say that it refused: $(tail -3 "$DIR/b.log")"
why="from=203.0.113.3:4500 why=\"$A6: $wrong_signature\""
[ -z "$(refusals | grep -vF "$why")" ] || fail "b refused for another reason: $(refusals)"
wait $pinger || true
grep -q " 0% packet loss" "$DIR/ping" || fail "the impostor disturbed the tunnel: $(tail -2 "$DIR/ping")"
expect b '.peers[0] | .ike[0].spi_i + .children[0].inbound.spi' "$before"
expect b '.peers[0].ike | length' 1
expect b '.peers[0].ike[0].path_remote' "$A4:4500"
expect b '.peers | length' 1
expect b '.peers[0].last_error' null
say "impostor: $(refusals | head -1 | sed 's/^ *//')"
