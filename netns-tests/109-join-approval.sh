# Without a code a machine asks, and somebody at the home decides after comparing fingerprints. A refusal is a sentence. Whoever
# answers instead of the home has another root, and a code is of no use to them. Guessing codes at speed is slow, and hurts nobody.
source "$TESTS/home.sh"
internet
site left endpoint-independent; site right endpoint-independent; site slums endpoint-independent
home_at home 192.0.2.10 home.example
place laptop left; place tablet left; place server right; place guesser slums
at_home user add alice >/dev/null; at_home node add web1 >/dev/null
# Nobody sits at the server: its code is in a file.
code_for web1 >"$DIR/server.code"
dom server join $HOME_V4 --code-file "$DIR/server.code" --name server --allow-special >/dev/null || fail "a code in a file is not taken"
start server; registered server
S6=$(entity_of server)
groups='([0-9a-f]{4}-){7}[0-9a-f]{4}'
root_of() { "$@" home info | awk '/^root/ {print $2}'; }
pending() { at_home pending list --json | jq -r "$1"; }
ask() { local host=$1; shift; dom "$host" join $HOME_V4 --as alice --name "$host" --allow-special "$@"; }
ROOT=$(root_of dom home)
[[ $ROOT =~ ^$groups$ ]] || fail "the home does not tell the fingerprint of its root: '$ROOT'"

# Asked and let in: both screens show the same two fingerprints; the laptop waits until somebody decides.
(exec ip netns exec "${NS}laptop" "$DOMICILE" --config "$DIR/laptop.toml" join $HOME_V4 --as alice --name laptop --allow-special >"$DIR/laptop.asked" 2>&1) &
waiter=$!
until_true 150 "the request is listed" bash -c "[ \"\$(ip netns exec ${NS}home '$DOMICILE' --config '$DIR/home.toml' home pending list --json | jq length)\" = 1 ]"
until_true 50 "the laptop tells what to compare" grep -q Waiting "$DIR/laptop.asked"
mapfile -t shown < <(grep -oE "$groups" "$DIR/laptop.asked")
[ "${shown[0]}" = "$(pending '.[0].fingerprint')" ] || fail "the laptop shows ${shown[0]}, the home $(pending '.[0].fingerprint')"
[ "${shown[1]}" = "$ROOT" ] || fail "the laptop shows the root ${shown[1]}, the home $ROOT"
[ "$(pending '.[0].whom')" = alice ] || fail "it does not tell as whom: $(pending '.[0]')"
[ ! -f "$DIR/laptop.toml" ] || fail "there is a configuration before anybody decided"
at_home pending accept "${shown[0]}" >/dev/null
wait $waiter || fail "the laptop was accepted and did not join: $(cat "$DIR/laptop.asked")"
grep -q laptop.alice.home.example "$DIR/laptop.asked" || fail "it does not tell its name: $(cat "$DIR/laptop.asked")"
start laptop; registered laptop
reaches laptop "$S6" 5 || reaches laptop "$S6" 5 || fail "the laptop does not reach the server"

# Asked, and not waited for; refused: one sentence, and no configuration.
ask tablet --no-wait >"$DIR/tablet.asked"
ask tablet --no-wait >"$DIR/tablet.asked"
[ "$(pending length)" = 1 ] || fail "one machine left $(pending length) requests"
at_home pending refuse "$(pending '.[0].id')" >/dev/null
if ask tablet --no-wait >"$DIR/tablet.asked" 2>"$DIR/refused"; then fail "the tablet was refused and joined"; fi
[ "$(wc -l <"$DIR/refused")" = 1 ] && grep -q "the home refused.*refused this request" "$DIR/refused" || fail "no clear sentence: $(cat "$DIR/refused")"
[ ! -f "$DIR/tablet.toml" ] || fail "the refused tablet has a configuration"

# Many machines behind one address: four may wait, the registry takes no more of them, and says so.
place crowd slums; refused=0
for n in $(seq 8); do
    on crowd "$DOMICILE" --config "$DIR/crowd$n.toml" join $HOME_V4 --as alice --name "crowd$n" --allow-special --no-wait >/dev/null 2>"$DIR/refused" || refused=$((refused + 1))
done
[ "$(pending length)" = 4 ] && [ $refused = 4 ] || fail "$(pending length) of 8 requests of one address wait, $refused were refused"
for id in $(pending '.[].id'); do at_home pending refuse "$id" >/dev/null; done

# Mallory answers instead of the home, for the same prefix, with a root of her own.
public_host mallory 192.0.2.66
mkdir "$DIR/hers" "$DIR/his"
mallory() { on mallory "$DOMICILE" --config "$DIR/hers/mallory.toml" "$@"; }
victim() { on victim "$DOMICILE" --config "$DIR/his/victim.toml" "$@"; }
asking="join $HOME_V4 --as alice --name victim --allow-special --no-wait"
mallory home init --address $HOME_V4 --domain home.example --allow-special >/dev/null
(exec ip netns exec "${NS}mallory" "$DOMICILE" --config "$DIR/hers/mallory.toml" up >"$DIR/mallory.log" 2>&1) &
until_true 50 "mallory is up" mallory status --json
mallory home user add alice >/dev/null
HERS=$(root_of mallory)
[ "$HERS" != "$ROOT" ] || fail "mallory has the root of the home"
code=$(code_for alice)
place victim right
on internet nft "table ip mallory { chain in { type nat hook prerouting priority -100; ip saddr $(outside_of right) ip daddr $HOME_V4 udp dport 4500 dnat to 192.0.2.66; }; }"
on internet conntrack -F >/dev/null 2>&1 || true
if victim $asking --fingerprint "$ROOT" >/dev/null 2>"$DIR/refused"; then fail "mallory was believed"; fi
grep -q "fingerprint $HERS" "$DIR/refused" || fail "it does not tell what is wrong: $(cat "$DIR/refused")"
[ "$(mallory home pending list --json | jq length)" = 0 ] || fail "mallory was asked although her root is the wrong one"
if victim join $HOME_V4 "$code" --name victim --allow-special --timeout 5 >/dev/null 2>"$DIR/refused"; then fail "mallory let somebody in with a code of the home"; fi
[ ! -f "$DIR/his/victim.toml" ] || fail "there is a configuration after all that"
# Unseen, her root is shown, for whoever compares; and once she is gone, the home is not taken for her.
victim $asking >"$DIR/victim.asked"
grep -q "$HERS" "$DIR/victim.asked" || fail "the root that answers is not shown"
on internet nft delete table ip mallory; on internet conntrack -F >/dev/null 2>&1 || true
if victim $asking >/dev/null 2>"$DIR/refused"; then fail "another root than before was believed"; fi
grep -q "answered first" "$DIR/refused" || fail "it does not tell that another root answered before: $(cat "$DIR/refused")"
rm "$DIR"/his/home-*.pem
victim join $HOME_V4 "$code" --name victim --allow-special >/dev/null || fail "the code was spent by mallory"

# Guessing codes: sixteen at a time from one address, with a code that was taken back.
wrong=$(code_for alice)
at_home invitation withdraw "$(at_home invitation list --json | jq '[.[] | select(.state == "open")][0].id')" >/dev/null
guess() {
    local n=$1 end=$(( $(ms) + 15000 ))
    while [ "$(ms)" -lt $end ]; do
        if on guesser "$DOMICILE" --config "$DIR/guess$n.toml" join $HOME_V4 "$wrong" --name "guess$n" --allow-special --timeout 2 >/dev/null 2>>"$DIR/guess$n.out"; then
            touch "$DIR/guessed"
        fi
    done
}
guessers=()
for n in $(seq 16); do guess "$n" & guessers+=($!); done
stream laptop server during 12
place honest left
code=$(code_for alice) began=$(ms)
dom honest join $HOME_V4 "$code" --name honest --allow-special >/dev/null || fail "nobody can join while somebody guesses"
took=$(( $(ms) - began ))
wait "${guessers[@]}"
end_stream during
[ ! -e "$DIR/guessed" ] || fail "a code that was taken back let somebody in"
tried=$(cat "$DIR"/guess*.out | grep -c "does not know this code" || true)
silent=$(cat "$DIR"/guess*.out | grep -c "does not answer" || true)
read -r lost gap < <(lost_and_gap during)
say "guessing from one address: $((tried / 15)) attempts a second got an answer, $silent got none; an honest join took $took ms"
say "a stream meanwhile: $lost packets of 20 a second lost, longest silence $gap ms"
# 256 half-open SAs of one address, each of which stays for ten seconds.
[ "$tried" -gt 20 ] || fail "the guesser tried only $tried times"
[ "$tried" -le $((256 * 3)) ] || fail "$tried guesses in 15 s are more than the bound allows"
[ "$gap" -le 2000 ] || fail "the tunnel suffers: silence of $gap ms"
reaches laptop "$S6" 5 || fail "the laptop does not reach the server afterwards"
