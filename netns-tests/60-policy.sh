# PROTECT with confidentiality or integrity alone, DISCARD and BYPASS, by prefix.
two_hosts
on a ip -6 addr add fd00::1/64 dev to-b nodad; on b ip -6 addr add fd00::2/64 dev to-a nodad

# Integrity alone: authentic, readable.
pair <<<'[[policy]]
remote = "2002::/16"
action = "protect"
services = "integrity"'
start a; start b
capture a to-b "$DIR/wire.pcap"
on a ping -6 -q -c 2 -i 0.1 -p 646f6d6963696c65 $B6 >/dev/null || fail "no tunnel with integrity alone"
end_capture "$DIR/wire.pcap"
expect a '.peers[0].children[0].services' integrity
expect a '.peers[0].children[0].suite' null-hmac-sha2-256-128
grep -qa domicile "$DIR/wire.pcap" || fail "integrity alone should be readable"
stop a; stop b

# One end insists on confidentiality: no agreement, and both say so.
sed -i 's/"integrity"/"confidentiality"/' "$DIR/b.toml"
start a; start b
dom a ping b -c 1 >"$DIR/out" 2>&1 && fail "different services agreed"
grep -q NO_PROPOSAL_CHOSEN "$DIR/out" || fail "$(cat "$DIR/out")"
stop a; stop b

# DISCARD is answered at once.
pair <<<'[[policy]]
remote = "2002:c633:6402::/48"
action = "discard"'
start a
says a prohibited $B6
[ "$(drops a discard)" -ge 1 ] || fail "discard is not counted"
stop a

# BYPASS leaves a prefix to the machine's ordinary routes.
pair <<<'[[policy]]
remote = "2002:c633:6402:99::/64"
action = "bypass"'
on b ip -6 addr add 2002:c633:6402:99::9/128 dev lo nodad
on b ip -6 route add 2002:c633:6401:1::/64 via fd00::1 2>/dev/null || true
on a ip -6 route add 2002:c633:6402:99::/64 via fd00::2
start a; start b
reaches a $B6 2 || fail "the rest is not protected any more"
capture a to-b "$DIR/clear.pcap" "ip6 and dst host 2002:c633:6402:99::9"
on a ping -6 -q -c 1 -W 1 2002:c633:6402:99::9 >/dev/null 2>&1 || true
end_capture "$DIR/clear.pcap"
[ "$(tcpdump -nr "$DIR/clear.pcap" 2>/dev/null | wc -l)" -ge 1 ] || fail "bypass does not leave by the ordinary route"
stop a; stop b

# An earlier PROTECT keeps what it took from a later BYPASS that takes in more.
pair <<<'[[policy]]
remote = "2002:c633:6402:1::/64"
action = "protect"
[[policy]]
remote = "2002:c633:6402::/48"
action = "bypass"'
on a ip -6 route add $B6/128 via fd00::2
start a
capture a to-b "$DIR/leak.pcap" "ip6 and dst net 2002::/16"
on a ping -6 -q -c 2 -i 0.2 -W 1 $B6 >/dev/null 2>&1 || true
on a ping -6 -q -c 1 -W 1 2002:c633:6402:99::9 >/dev/null 2>&1 || true
end_capture "$DIR/leak.pcap"
tcpdump -nr "$DIR/leak.pcap" 2>/dev/null >"$DIR/leak"
grep -q "> $B6" "$DIR/leak" && fail "what is protected left in clear: $(cat "$DIR/leak")"
grep -q "> 2002:c633:6402:99::9" "$DIR/leak" || fail "bypass does not leave by the ordinary route any more"
start b
until_true 100 "what is protected goes through the tunnel" reaches a $B6
