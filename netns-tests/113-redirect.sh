# A home moves to another public address: backup, restore, redirect. Members follow without a restart, relayed and direct, and
# also who was off meanwhile, by way of the old machine, which gives out nothing any more. They remember it over a restart, when
# the old machine is gone. A redirect that the root did not sign is refused.
source "$TESTS/home.sh"
internet
site e1 endpoint-independent; site e2 endpoint-independent; site s1 symmetric; site s2 symmetric
home_at home 192.0.2.10 home.example
node_at e1 laptop; node_at e2 server; node_at s1 sym1; node_at s2 sym2
H6=2002:c000:20a::1 OLD=192.0.2.10 NEW=192.0.2.20
L6=$(entity_of laptop) S6=$(entity_of server) Y6=$(entity_of sym2)
# ike_home HOST: where its home agent is, by its status.
ike_home() { status "$1" "[.peers[] | select(.address == \"$H6\") | .ike[].path_remote] | last"; }
at_home_in() { [ "$(ike_home "$1")" = "$2:4500" ]; }
direct_to laptop server "203.0.113.2:*"; direct_to server laptop "203.0.113.1:*"
reaches sym1 "$Y6" 5 || reaches sym1 "$Y6" 5 || fail "the relayed conversation does not work"
stop sym2

# To the new machine: the copy of the registry, the root key, the configuration with its keys.
at_home backup "$DIR/backup.db" >/dev/null
public_host new $NEW
mkdir -m 700 "$DIR/new-home"
cp -p "$DIR/home/root.key" "$DIR/home/root.pem" "$DIR/new-home/"
sed -e "s|home\.sock|new.sock|; s|^directory = .*|directory = \"new-home\"|" "$DIR/home.toml" >"$DIR/new.toml"
chmod 600 "$DIR/new.toml"
dom new home restore "$DIR/backup.db" >/dev/null
start new
stream laptop server direct 60; stream sym1 server relayed 60; sleep 1
began=$(ms)
at_home redirect set $NEW >"$DIR/set"
grep -q "only tells" "$DIR/set" || fail "the old machine does not say what it is now: $(cat "$DIR/set")"
for member in laptop server sym1; do
    until_true 200 "$member is at the new place (it is at $(ike_home $member))" at_home_in $member $NEW
    until_true 100 "$member says so" grep -q "is at $NEW:4500 now" "$DIR/$member.log"
done
say "everybody moved after $(( $(ms) - began )) ms"
sleep 3; end_stream direct; end_stream relayed
gap_below direct 1000 "the home moves, direct"
gap_below relayed 8000 "the home moves, relayed"
HOME_HOST=new
until_true 100 "new conversations are relayed by the new home" reaches sym1 "$L6"
path_is laptop "$S6" "direct 203.0.113.2:*" || fail "the direct path was lost: $(path_of laptop "$S6")"
dom laptop reload >/dev/null; sleep 3
at_home_in laptop $NEW || fail "after a reload the laptop is at $(ike_home laptop)"

# Addresses are given out in one place only.
if dom home home user add bob >"$DIR/refused" 2>&1; then fail "the old machine gave out an address"; fi
grep -q "$NEW" "$DIR/refused" || fail "it does not say where the home is: $(cat "$DIR/refused")"
at_home user add bob >/dev/null || fail "the new machine gives out nothing"
# Who joins now names the home, because the address does not tell it.
place tablet e1
dom tablet join $NEW "$(code_for bob)" --home 2002:c000:20a::/48 --name tablet --allow-special >"$DIR/tablet.joined"
start tablet; registered tablet
until_true 200 "a new member is reached" reaches server "$(entity_of tablet)"
if dom sym1 join $OLD "$(code_for bob)" --name another --allow-special --timeout 5 >"$DIR/refused" 2>&1; then fail "the old machine let somebody in"; fi

# Who was off comes to the old machine, and goes on from there.
start sym2
until_true 200 "who was off follows" at_home_in sym2 $NEW
until_true 200 "it is reached at the new home" reaches sym1 "$Y6"

# Remembered: the old machine is gone, daemons start anew.
stop home
stop laptop; start laptop
until_true 100 "the laptop is at the new place after a restart" at_home_in laptop $NEW
until_true 200 "it reaches the server" reaches laptop "$S6"
direct_to laptop server "203.0.113.2:*"

# Somebody without the root key changes what the old machine tells, and a node that remembers nothing comes there.
python3 - "$DIR/home/registry.db" <<'PY'
import json, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
[[generation, document]] = db.execute("SELECT generation, document FROM redirect ORDER BY generation DESC LIMIT 1").fetchall()
kept = json.loads(document)
kept["redirect"]["number"] += 1000
kept["redirect"]["locators"] = ["192.0.2.66:4500"]
db.execute("INSERT INTO redirect VALUES (?, 0, '192.0.2.66:4500', ?)", (generation + 1000, json.dumps(kept).encode()))
db.commit()
PY
stop laptop; mv "$DIR/laptop.state.json" "$DIR/laptop.remembered"
capture internet any "$DIR/victim.pcap" "host 192.0.2.66"
start home; start laptop
until_true 200 "a forged redirect is refused" grep -q "not signed by its pinned root" "$DIR/laptop.log"
sleep 2; end_capture "$DIR/victim.pcap"
[ "$(captured "$DIR/victim.pcap")" = 0 ] || fail "the victim of a forged redirect got packets"
at_home_in laptop $OLD || fail "the laptop left for $(ike_home laptop)"
sleep 1
dom home home redirect set $NEW >/dev/null
until_true 200 "the laptop follows the real one" at_home_in laptop $NEW
until_true 200 "it reaches the server" reaches laptop "$S6"
