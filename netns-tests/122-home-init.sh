# Where a home may be: not at an address that nobody on the Internet reaches, not at one on lease, unless told so; each refusal
# is one sentence that names the way out, and leaves nothing behind.
source "$TESTS/home.sh"
internet
public_host one 192.0.2.10
init() { local name=$1; shift; on one "$DOMICILE" --config "$DIR/$name/domicile.toml" home init "$@" >"$DIR/said" 2>&1; }
# refused NAME WORDS ARGS…: exit code 1, one line with these words, no file.
refused() {
    local name=$1 words=$2 code=0; shift 2
    mkdir "$DIR/$name"
    init "$name" "$@" || code=$?
    [ $code = 1 ] || fail "home init $*: exit code $code, and not 1: $(cat "$DIR/said")"
    [ "$(wc -l <"$DIR/said")" = 1 ] || fail "home init $*: more than one line: $(cat "$DIR/said")"
    grep -q -- "$words" "$DIR/said" || fail "home init $*: it does not say '$words': $(cat "$DIR/said")"
    [ -z "$(ls -A "$DIR/$name")" ] || fail "home init $*: it left $(ls -A "$DIR/$name")"
}
refused private "10.0.0.0/8\|private" --address 10.1.2.3
refused carrier "allow-special" --address 100.64.1.1
refused special "allow-special"
# On lease, as a DHCP client configures it; the address is one that the Internet reaches.
on one ip addr add 8.8.8.10/32 dev net valid_lft 3600 preferred_lft 3600
refused lease "allow-dynamic" --address 8.8.8.10
on one ip route replace default via "$GATEWAY" dev net src 8.8.8.10
refused detected "8.8.8.10 is on lease" --address detect
mkdir "$DIR/leased" "$DIR/fixed" "$DIR/elsewhere"
init leased --address detect --allow-dynamic || fail "home init refuses in spite of --allow-dynamic: $(cat "$DIR/said")"
on one ip addr replace 8.8.8.10/32 dev net valid_lft forever preferred_lft forever
init fixed || fail "home init refuses a fixed address: $(cat "$DIR/said")"
grep -q "home of 2002:808:80a::/48" "$DIR/said" || fail "it detected another address: $(cat "$DIR/said")"
init elsewhere --address 8.8.4.4 || fail "home init refuses an address of a port forward: $(cat "$DIR/said")"
grep -q "8.8.4.4 is on no interface" "$DIR/said" || fail "it does not tell of the port forward: $(cat "$DIR/said")"
