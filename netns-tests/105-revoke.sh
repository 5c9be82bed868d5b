# A stolen laptop is revoked at home: its live SAs end within five seconds, at the home and at peers, and it does not come back.
source "$TESTS/home.sh"
internet
site left endpoint-independent; site right endpoint-independent
home_at home 192.0.2.10 home.example
place laptop left; place phone left; place server right
at_home user add alice >/dev/null; at_home node add web1 >/dev/null
member laptop alice; member phone alice; member server web1
L6=$(entity_of laptop) S6=$(entity_of server) H6=2002:c000:20a::1
reaches laptop "$S6" 3 || fail "the laptop does not reach the server before it is revoked"
reaches phone "$S6" 3 || fail "the phone does not reach the server"
# has_sa HOST ADDRESS: this host has an SA with that one.
has_sa() { [ "$(status "$1" "[.peers[] | select(.address == \"$2\") | .ike[], .children[]] | length")" != 0 ]; }
no_sa() { ! has_sa "$@"; }
has_sa home "$L6" || fail "the home has no SA with the laptop"
has_sa server "$L6" || fail "the server has no SA with the laptop"
began=$(ms)
at_home device revoke laptop.alice >/dev/null
until_true 50 "the home has cut the laptop off" no_sa home "$L6"
until_true 50 "the server has cut the laptop off" no_sa server "$L6"
took=$(( $(ms) - began ))
[ $took -lt 5000 ] || fail "it took $took ms until the laptop was cut off"
say "cut off at the home and at a peer after $took ms"
sleep 3
cannot_reach laptop "$S6"; cannot_reach laptop $H6
no_sa home "$L6" || fail "the laptop is back at the home"
no_sa server "$L6" || fail "the laptop is back at the server"
# Also after everybody started anew: the revocation is remembered.
stop laptop; stop server; stop home; start home; start server; start laptop
until_true 200 "the server is back" reaches phone "$S6"
sleep 2
cannot_reach laptop "$S6"; no_sa home "$L6" || fail "the laptop is back at the home after a restart"
reaches phone "$S6" 5 || fail "the phone suffers from the revocation of the laptop"
# While no daemon runs at home, the phone is revoked: as soon as the home is back, it says so to whoever comes.
P6=$(entity_of phone)
kill9 home
at_home device revoke phone.alice >/dev/null
reaches phone "$S6" 3 || fail "the phone lost its direct path because the home is down"
has_sa server "$P6" || fail "the server has no SA with the phone"
began=$(ms)
start home
until_true 600 "the server has cut the phone off" no_sa server "$P6"
say "revoked while the home was down: cut off at a peer $(( $(ms) - began )) ms after its start"
cannot_reach phone "$S6"
sleep 2
no_sa home "$P6" || fail "the phone is let in at the home after its revocation"
no_sa server "$P6" || fail "the phone is back at the server"
