# A wrong key, a wrong PSK, a stranger and a second machine with somebody's address: each is refused, told plainly, and
# changes nothing for the others.
two_hosts
refused() {
    start a; start b
    if dom a ping b -c 1 >"$DIR/out" 2>&1; then fail "$1: it worked"; fi
    grep -q "$2" "$DIR/out" || fail "$1: it says only: $(cat "$DIR/out")"
    expect a '.peers[0].state' failed
    expect b '[.peers[].ike[]] | length' 0
    stop a; stop b
    say "$1: $(head -1 "$DIR/out")"
}

# The key that b has for a is another one.
pair </dev/null
"$DOMICILE" key generate "$DIR/x.key" >"$DIR/x.pub"
sed -i "s#$(cat "$DIR/a.pub")#$(cat "$DIR/x.pub")#" "$DIR/b.toml"
refused "wrong key at the responder" "authentication failed"

# The key that a has for b is another one.
pair </dev/null
sed -i "s#$(cat "$DIR/b.pub")#$(cat "$DIR/x.pub")#" "$DIR/a.toml"
refused "wrong key at the initiator" "authentication failed"

# Different PSKs.
echo "correct horse battery staple" >"$DIR/one.psk"; echo "another secret altogether" >"$DIR/two.psk"; chmod 600 "$DIR"/*.psk
entity a $A6; entity b $B6
peer a b $B6 'psk_file = "one.psk"'; peer b a $A6 'psk_file = "two.psk"'
refused "wrong PSK" "authentication failed"

# The same PSK works.
sed -i s/two.psk/one.psk/ "$DIR/b.toml"
start a; start b
reaches a $B6 2 || fail "the right PSK does not work"
stop a; stop b

# b does not know a.
entity a $A6; entity b $B6
peer a b $B6
peer b x 2002:c633:6409:1::9 "public_key = \"$(cat "$DIR/x.pub")\""
start a; start b
if dom a ping b -c 1 >"$DIR/out" 2>&1; then fail "a stranger got in"; fi
grep -q "authentication failed" "$DIR/out" || fail "$(cat "$DIR/out")"
say "unknown peer: $(cat "$DIR/out")"
stop a; stop b

# A third machine claims a's address with a key of its own: b goes on talking to a.
pair </dev/null
host c; wire c 203.0.113.3/24 b 203.0.113.2/24
entity c $A6
peer c b $B6 'endpoint = "203.0.113.2:4500"'
start a; start b
reaches a $B6 2 || fail "no tunnel"
start c
if dom c ping b -c 1 >"$DIR/out" 2>&1; then fail "the impostor got in"; fi
reaches a $B6 3 || fail "the impostor broke the tunnel"
expect b '.peers[0].ike | length' 1
expect b '.peers[0].ike[0].path_remote' "$A4:4500"
