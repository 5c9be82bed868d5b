# 'domicile home export' makes a strongSwan a node of the home: it keeps its key, gets a certificate, and speaks with a member in both
# roles while nobody lists a key. A fresh certificate replaces the old one, and what its owner changed stays.
source "$TESTS/strongswan.sh"
source "$TESTS/home.sh"
internet
home_at home 192.0.2.10 home.example
public_host web 192.0.2.20; public_host s 192.0.2.30
at_home node add web >/dev/null
member web web
at_home node add gateway >/dev/null
dir=$DIR/s/swanctl; mkdir -p "$dir/private"
openssl genpkey -algorithm ed25519 -out "$dir/private/gateway.pem" 2>/dev/null
openssl req -new -key "$dir/private/gateway.pem" -subj /CN=gateway -out "$DIR/gateway.csr"
if at_home export gateway --peer web "$dir" 2>"$DIR/refused"; then fail "a certificate without a key"; fi
grep -q "has no key yet" "$DIR/refused" || fail "why not: $(cat "$DIR/refused")"
at_home export gateway --request "$DIR/gateway.csr" --peer web --endpoint 192.0.2.20 "$dir" >"$DIR/exported" || fail "no export"
echo 'include conf.d/*.conf' >"$dir/swanctl.conf"
G6=$(sed -n 's/^.* is \(2002:[0-9a-f:]*\)\. Bring.*$/\1/p' "$DIR/exported") W6=$(entity_of web)
charon s "$G6"

swan s --initiate --child gateway >"$DIR/initiate" 2>&1 || fail "it starts: $(tail -3 "$DIR/initiate")"
reaches s "$W6" 3 || fail "it starts: s -> web"
reaches web "$G6" 3 || fail "it starts: web -> s"
dom web disconnect "$G6" >/dev/null
say "strongSwan starts"

dom web peer add gateway "$G6" --endpoint 192.0.2.30:4500 >/dev/null || fail "peer add without a key"
dom web connect gateway --timeout 10 >/dev/null || fail "we start: $(status web '.peers[] | select(.name == "gateway") | .last_error')"
reaches web "$G6" 3 || fail "we start: web -> s"
say "domicile starts"

before=$(openssl x509 -in "$dir/x509/gateway.pem" -noout -serial)
echo "# mine" >>"$dir/conf.d/gateway.conf"
at_home export gateway --peer web "$dir" >/dev/null || fail "no second export"
[ "$(openssl x509 -in "$dir/x509/gateway.pem" -noout -serial)" != "$before" ] || fail "the certificate is the old one"
grep -q "# mine" "$dir/conf.d/gateway.conf" || fail "what its owner wrote is lost"
swan s --load-creds >/dev/null
swan_stop s
