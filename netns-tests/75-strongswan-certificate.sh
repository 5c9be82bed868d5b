# strongSwan with a certificate of its home, in both roles, against a domicile with a certificate of another home: nobody
# lists a key. What is not certified, or not by the pinned root, is refused; a certificate that ends takes its SAs along.
#
#   a domicile 198.51.100.1 ---------- 198.51.100.2 strongSwan s (userspace ESP)
#     home 2002:c633:6401::/48           home 2002:c633:6402::/48
source "$TESTS/strongswan.sh"
source "$TESTS/authority.sh"
host a s; wire a $A4/24 s $B4/24
authority home-a 2002:c633:6401::/48
authority home-s 2002:c633:6402::/48
# Says that it is the home of s, and is not.
authority false-s 2002:c633:6402::/48

entity a $A6
certify home-a "$DIR/a.key" $A6 3600 "$DIR/a.pem"
cat >>"$DIR/a.toml" <<TOML
certificate = "a.pem"
[[trust]]
root = "home-a.pem"
[[trust]]
root = "home-s.pem"
TOML
peer a s $B6 'connect = "on-traffic"' '# public_key: none, its home vouches for it'

swan_dir=$DIR/s/swanctl; mkdir -p "$swan_dir/"{private,pubkey,x509,x509ca}
openssl genpkey -algorithm ed25519 -out "$swan_dir/private/me.pem" 2>/dev/null
cp "$DIR/home-a-plain.pem" "$swan_dir/x509ca/home-a.pem"
cp "$DIR/home-s-plain.pem" "$swan_dir/x509ca/home-s.pem"
# A certificate for s: by whom, and for how long.
certify_s() { CA_KEY=$1 certify "$1" "$swan_dir/private/me.pem" "${3:-$B6}" "$2" "$swan_dir/x509/me.pem"; }
certify_s home-s 3600
strongswan s $B6 $B4 $A6 $A4 certificate chacha20poly1305-prfsha256-curve25519 chacha20poly1305

start a
until_down() { until_true 50 "s was told goodbye" bash -c "! SWANCTL_DIR=$swan_dir swanctl --list-sas --uri unix://$DIR/s/charon.vici | grep -q ESTABLISHED"; }
status a '.entities[0].certificate.kind' | grep -qx device || fail "status shows no certificate"

# We start. strongSwan shows its certificate, because we ask for it (CERTREQ).
reaches a $B6 3 || fail "we start: no tunnel: $(status a '.peers[0].last_error')"
reaches s $A6 2 || fail "we start: s -> a"
expect a '.peers[0].ike[0].initiator' true
status a '.peers[0].ike[0].trusted_until' | grep -qE '^[0-9]+$' || fail "nothing says when trust ends"
grep -q "is known from now on by its key" "$DIR/a.log" || fail "the key of s is not remembered"
dom a disconnect s >/dev/null; until_down
say "domicile starts"

# strongSwan starts, on port 500, and does not send its certificate unasked.
swan s --initiate --child child >"$DIR/initiate" 2>&1 || fail "it starts: $(tail -3 "$DIR/initiate")"
reaches s $A6 3 || fail "it starts: s -> a"
reaches a $B6 2 || fail "it starts: a -> s"
expect a '.peers[0].ike[0].initiator' false
dom a disconnect s >/dev/null; until_down
say "strongSwan starts"

# The home of s is false: same name, same prefix, another key.
renew_s() { certify_s "$@"; swan s --load-creds --clear >/dev/null; swan s --load-conns >/dev/null; }
renew_s false-s 3600
dom a connect s --timeout 5 >"$DIR/connect" 2>&1 && fail "a false root is believed"
grep -qE "signature of the certificate is false|not issued by the pinned root" "$DIR/connect" || fail "why not: $(cat "$DIR/connect")"
swan s --initiate --child child --timeout 5 >"$DIR/initiate" 2>&1 && fail "a false root is believed when it starts"
grep -q "AUTHENTICATION_FAILED" "$DIR/initiate" || fail "s hears no reason: $(tail -3 "$DIR/initiate")"
say "a false root is refused in both roles"

# A right root, but the certificate is for another address.
renew_s home-s 3600 2002:c633:6402:1::21
swan s --initiate --child child --timeout 5 >"$DIR/initiate" 2>&1 && fail "a certificate for another address is believed"
say "a certificate for another address is refused"

# Short lives: the SA ends with the certificate.
renew_s home-s 15
dom a connect s --timeout 5 >/dev/null || fail "no tunnel with a short certificate"
reaches a $B6 2 || fail "no traffic with a short certificate"
until_true 250 "the SA ends with the certificate" status_is a '[.peers[0].ike[], .peers[0].children[]] | length' 0
sleep 1.5   # notAfter is the last second that is still good (RFC 5280 §4.1.2.5)
dom a connect s --timeout 5 >"$DIR/connect" 2>&1 && fail "a certificate that ended is believed"
grep -q "the certificate ended at" "$DIR/connect" || fail "why not: $(cat "$DIR/connect")"
say "an SA ends with its certificate"
renew_s home-s 3600
until_true 100 "with a new certificate it works again" dom a connect s --timeout 5
reaches a $B6 2 || fail "no traffic after renewal"
stop a; swan_stop s
