# A second daemon in the same place, a taken port, and a missing capability: refused with a sentence and a code.
two_hosts
pair </dev/null
start a
code=0; dom a up >"$DIR/out" 2>&1 || code=$?
[ $code = 6 ] || fail "a second daemon exits with $code: $(cat "$DIR/out")"
grep -q "running already" "$DIR/out" || fail "$(cat "$DIR/out")"
code=0; on a "$DOMICILE" --config "$DIR/a.toml" --socket "$DIR/other.sock" up >"$DIR/out" 2>&1 || code=$?
[ $code = 6 ] || fail "a taken port exits with $code: $(cat "$DIR/out")"
reaches a $A6 1 || fail "the first daemon was disturbed"
[ -S "$DIR/a.sock" ] || fail "the first daemon's socket is gone"
stop a
code=0; on a setpriv --bounding-set=-net_admin --inh-caps=-net_admin "$DOMICILE" --config "$DIR/a.toml" up >"$DIR/out" 2>&1 || code=$?
[ $code = 4 ] || fail "without CAP_NET_ADMIN it exits with $code: $(cat "$DIR/out")"
grep -q CAP_NET_ADMIN "$DIR/out" || fail "$(cat "$DIR/out")"
code=0; dom a status >"$DIR/out" 2>&1 || code=$?
[ $code = 5 ] || fail "status without a daemon exits with $code"
