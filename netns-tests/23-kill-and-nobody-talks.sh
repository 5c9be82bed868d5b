# A peer with connect = "start" is kept up: when the other end is killed and restarted and nobody says a word, the SAs come
# back all the same.
two_hosts
entity a $A6; entity b $B6
peer a b $B6 'connect = "start"'; peer b a $A6 'endpoint = "none"'
more a <<<'[ike]
dpd = "2s"'
start b; start a
until_true 50 "a connects by itself" status_is a '.peers[0].state' established
kill9 b; start b
began=$(ms)
until_true 150 "b has an SA again" status_is b '.peers[0].state' established
say "back after $(( $(ms) - began )) ms of silence"
settled a b
reaches b $A6 2 || fail "no traffic b -> a"
