# Certificates of a minute: nodes renew them over the SA that is there, and not one ping is lost. Without a home they end, and
# the status says so.
source "$TESTS/home.sh"
internet
site left endpoint-independent; site right endpoint-independent
public_host home 192.0.2.10; HOME_HOST=home HOME_V4=192.0.2.10
dom home home init --address $HOME_V4 --domain home.example --allow-special >/dev/null
sed -i 's/^\[home_agent\]$/&\ncertificate_lifetime = "10s"/' "$DIR/home.toml"
if dom home check >"$DIR/checked" 2>&1; then fail "ten seconds are accepted as a lifetime"; fi
sed -i 's/^certificate_lifetime = .*/certificate_lifetime = "30s"/' "$DIR/home.toml"
start home
place laptop left; place server right
at_home user add alice >/dev/null; at_home node add web1 >/dev/null
member laptop alice; member server web1
S6=$(entity_of server)
reaches laptop "$S6" 3 || fail "the first packets do not arrive"
serial() { status "$1" '.entities[0].certificate.serial'; }
first=$(serial laptop); before=$(sha256sum <"$DIR/laptop.pem")
on laptop ping -6 -q -i 0.1 -c 700 -W 2 "$S6" >"$DIR/pinged" &
ping=$!
for round in 1 2 3; do
    old=$(serial laptop)
    until_true 300 "certificate $round is renewed" bash -c "[ \"\$($DOMICILE --config $DIR/laptop.toml status --json | jq -r '.entities[0].certificate.serial')\" != $old ]"
done
wait $ping || fail "ping ended badly: $(cat "$DIR/pinged")"
received=$(grep -oE '[0-9]+ received' "$DIR/pinged" | cut -d' ' -f1)
[ "$received" = 700 ] || fail "pings were lost while certificates were renewed: $(cat "$DIR/pinged")"
[ "$(serial laptop)" != "$first" ] || fail "the certificate is still the first one"
[ "$(sha256sum <"$DIR/laptop.pem")" != "$before" ] || fail "the certificate on disk is the old one"
kept=$(openssl x509 -in "$DIR/laptop.pem" -noout -serial | cut -d= -f2 | tr A-F a-f | sed 's/^0*//')
[ "$kept" = "$(serial laptop | sed 's/^0*//')" ] || fail "the certificate on disk ($kept) is another one than in use ($(serial laptop))"
say "700 pings, none lost, through three renewals of 30-second certificates"
kill9 home
until_true 300 "status warns early" bash -c "$DOMICILE --config $DIR/laptop.toml status | grep -q 'was not renewed'"
until_true 300 "status says that it ended" bash -c "$DOMICILE --config $DIR/laptop.toml status | grep -q 'certificate has ended'"
grep -q "has not renewed it" "$DIR/laptop.log" || fail "the log did not warn before the end"
