# Leaving a home: it is told, the machine's files are moved aside, the old key is good for nothing, the address is not given
# again. With a daemon, without one, offline, and one entity of several.
source "$TESTS/home.sh"
internet
site left endpoint-independent; site right endpoint-independent
home_at home 192.0.2.10 home.example
at_home user add alice >/dev/null; at_home user add bob >/dev/null; at_home node add web1 >/dev/null
place laptop left; place phone left; place tablet left; place both left; place server right
member laptop alice; member server web1
L6=$(entity_of laptop) S6=$(entity_of server)
reaches laptop "$S6" 5 || reaches laptop "$S6" 5 || fail "the laptop does not reach the server"
known() { at_home list --json | jq -r '.[].address' | grep -qx "$1"; }
unknown() { ! known "$1"; }
has_sa() { [ "$(status "$1" "[.peers[] | select(.address == \"$2\") | .ike[], .children[]] | length")" != 0 ]; }
no_sa() { ! has_sa "$@"; }

# With a daemon, which ends.
dom laptop leave >"$DIR/left" || fail "the laptop cannot leave: $(cat "$DIR/left")"
wait "$(cat "$DIR/laptop.pid")" || fail "the daemon ended badly"
for file in toml key pem state.json; do
    [ -f "$DIR/laptop.$file.left" ] && [ ! -e "$DIR/laptop.$file" ] || fail "laptop.$file was not moved aside"
    grep -q "laptop.$file.left" "$DIR/left" || fail "it does not tell where laptop.$file is: $(cat "$DIR/left")"
done
unknown "$L6" || fail "the home still knows the laptop"
until_true 50 "the home has no SA with it" no_sa home "$L6"
until_true 50 "the server has no SA with it" no_sa server "$L6"
# The old files are of no use.
for file in toml key pem; do cp "$DIR/laptop.$file.left" "$DIR/laptop.$file"; done
: >"$DIR/laptop.log"
start laptop; sleep 5
if grep -q "is registered" "$DIR/laptop.log"; then fail "whoever has left is registered again"; fi
cannot_reach laptop "$S6"; no_sa home "$L6" || fail "the home speaks with whoever has left"
stop laptop; rm "$DIR"/laptop.{toml,key,pem}
# Who comes again is somebody new.
member laptop alice
[ "$(entity_of laptop)" != "$L6" ] || fail "the address was given again"

# Without a daemon.
join phone alice; P6=$(entity_of phone)
dom phone leave >"$DIR/left" || fail "the phone cannot leave without a daemon: $(cat "$DIR/left")"
unknown "$P6" || fail "the home still knows the phone"
[ -f "$DIR/phone.key.left" ] && [ ! -e "$DIR/phone.toml" ] || fail "the files of the phone are where they were"

# Offline: here alone, and it says so. Nothing is changed by an attempt that did not reach the home.
join tablet bob; T6=$(entity_of tablet)
unplug tablet
if dom tablet leave --timeout 3 >/dev/null 2>"$DIR/refused"; then fail "left without being heard"; fi
grep -q -- --offline "$DIR/refused" && [ -f "$DIR/tablet.toml" ] || fail "an attempt in vain: $(cat "$DIR/refused")"
dom tablet leave --offline >"$DIR/left"
grep -q "still knows $T6" "$DIR/left" || fail "it does not tell that the home still knows it: $(cat "$DIR/left")"
known "$T6" || fail "the home was told"
[ -f "$DIR/tablet.key.left" ] || fail "the key of the tablet is lost"

# A node with services is refused, with the reason, and stays.
at_home service add web --node web1 >/dev/null
if dom server leave >/dev/null 2>"$DIR/refused"; then fail "a node left its services behind"; fi
grep -q "web" "$DIR/refused" && [ -f "$DIR/server.toml" ] || fail "no reason: $(cat "$DIR/refused")"
until_true 100 "the server is reached after its attempt" reaches laptop "$S6"

# One entity of two leaves; the daemon goes on with the other.
join both alice
dom both join $HOME_V4 "$(code_for bob)" --name second --allow-special >/dev/null
start both; registered both
first=$(status both '.entities[] | select(.name == "both").address') second=$(status both '.entities[] | select(.name == "second").address')
if dom both leave >/dev/null 2>"$DIR/refused"; then fail "it left with either of two"; fi
grep -q -- --entity "$DIR/refused" || fail "it does not ask which: $(cat "$DIR/refused")"
dom both leave --entity second >"$DIR/left" || fail "one of two cannot leave: $(cat "$DIR/left")"
known "$first" && unknown "$second" || fail "the wrong one left"
[ -f "$DIR/second.key.left" ] && [ -f "$DIR/both.key" ] || fail "the wrong files were moved"
status_is both '[.entities[] | select(.name == "second")] | length' 0 || fail "the daemon goes on with whoever has left"
until_true 100 "the other entity goes on working" reaches both "$S6"
