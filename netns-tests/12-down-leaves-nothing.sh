# 'down' takes device, addresses, rules, routes and the control socket with it, and so does SIGTERM.
two_hosts
pair </dev/null
before() { on a ip -6 rule; on a ip -6 route show table all; on a ip -6 addr; }
before >"$DIR/before"
for how in down term; do
    start a; start b
    reaches a $B6 3 || fail "no tunnel"
    on a ip link show domicile0 >/dev/null || fail "no device"
    if [ $how = down ]; then stop a; else kill "$(cat "$DIR/a.pid")"; wait "$(cat "$DIR/a.pid")" || true; fi
    before >"$DIR/after"
    diff "$DIR/before" "$DIR/after" >&2 || fail "$how left something"
    [ ! -e "$DIR/a.sock" ] || fail "the control socket is still there"
    until_true 30 "b was told goodbye" status_is b '.peers[0].ike | length' 0
    stop b
done
