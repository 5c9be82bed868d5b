# A child SA is replaced after so many packets, too, without a lost one: so slowly that the eighth of the limit between the call
# for another SA and the end of this one is half a second.
two_hosts
pair <<<'[esp]
rekey_packets = 2000'
start a; start b
reaches a $B6 1 || fail "no tunnel"
active='.peers[0].children[] | select(.state == "active") | .inbound.spi'
spi() { status a "$active"; }
first=$(spi)
# One process that is there already: starting a new one each time takes seconds where the disk is busy.
(exec ip netns exec "${NS}a" "$DOMICILE" --config "$(config_of a)" status --json --watch 0.2 >"$DIR/watched") & watcher=$!
on a ping -6 -q -i 0.002 -c 5000 -W 1 $B6 >"$DIR/ping" || true
kill $watcher; wait $watcher || true
jq -r "$active" "$DIR/watched" | sort -u >"$DIR/spis"
grep -q " 0% packet loss" "$DIR/ping" || fail "$(cat "$DIR/ping"); dropped: $(status a .drops) $(status b .drops)"
[ "$(wc -l <"$DIR/spis")" -ge 3 ] || fail "in 5,000 packets there were only these SAs: $(xargs <"$DIR/spis"), seen $(wc -l <"$DIR/watched") times"
say "$(wc -l <"$DIR/spis") child SAs over 5,000 pings, none lost"
settled a b
[ "$(status a '.peers[0].children[0].outbound.packets')" -le 2250 ] || fail "an SA went beyond its limit"
[ "$(spi)" != "$first" ] || fail "the first SA is still there"
