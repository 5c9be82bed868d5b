# A home, a user's laptop behind one NAT and a server behind another join by code; they reach each other, first relayed, then
# straight. A spent code and a wrong one let nobody in.
source "$TESTS/home.sh"
internet
site left endpoint-independent; site right endpoint-independent
home_at home 192.0.2.10 home.example
place laptop left; place server right; place other left
at_home user add alice >/dev/null; at_home node add web1 >/dev/null
code=$(code_for alice)
dom laptop join $HOME_V4 "$code" --name laptop --allow-special >"$DIR/joined"
grep -q "laptop.alice.home.example" "$DIR/joined" || fail "the answer does not tell the name"
if dom other join $HOME_V4 "$code" --name other --allow-special --timeout 5 2>"$DIR/refused"; then fail "a spent code was good again"; fi
grep -qi "spent\|used" "$DIR/refused" || fail "it does not say that the code was spent: $(cat "$DIR/refused")"
wrong=$(code_for alice | tr '0123456789' '1234567890')
if dom other join $HOME_V4 "$wrong" --name other --allow-special --timeout 5 2>"$DIR/refused"; then fail "a wrong code let somebody in"; fi
[ "$(wc -l <"$DIR/refused")" = 1 ] || fail "more than one line: $(cat "$DIR/refused")"
start laptop; registered laptop
member server web1
L6=$(entity_of laptop) S6=$(entity_of server)
reaches laptop "$S6" 3 || fail "the first packets do not arrive"
until_true 100 "the path is direct" path_is laptop "$S6" "direct 203.0.113.2:*"
until_true 100 "the path is direct" path_is server "$L6" "direct 203.0.113.1:*"
reaches server "$L6" 10 || fail "pings are lost on the direct path"
