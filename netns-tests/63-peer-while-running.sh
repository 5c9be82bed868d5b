# Peers come and go while the daemon runs.
two_hosts
entity a $A6; entity b $B6
start a; start b
says a prohibited $B6
dom a peer add b $B6 --public-key "$(cat "$DIR/b.pub")" >/dev/null
dom b peer add a $A6 --public-key "$(cat "$DIR/a.pub")" >/dev/null
reaches a $B6 3 || fail "no tunnel after peer add"
dom b peer remove a >/dev/null
until_true 50 "b closed the SAs" status_is b '[.peers[].children[]] | length' 0
until_true 50 "a was told" status_is a '[.peers[].children[]] | length' 0
cannot_reach a $B6
