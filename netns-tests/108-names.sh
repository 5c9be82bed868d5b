# Names of a home: answered inside the tunnel, asked through the forwarder by getaddrinfo; AAAA only, so that no connection can
# take the way past the tunnel; the machine's other names go to its other resolver.
source "$TESTS/home.sh"
internet
site left endpoint-independent; site right endpoint-independent
home_at home 192.0.2.10 home.example
place laptop left; place server right
at_home user add alice >/dev/null; at_home node add web >/dev/null
member laptop alice; member server web
S6=$(entity_of server)
reaches laptop "$S6" 3 || fail "the server is not reached by address"
advice=$(grep -oE 'nameserver [0-9a-f.:]+' "$DIR/laptop.log" | head -1)
[ -n "$advice" ] || fail "no line for resolv.conf was shown: $(cat "$DIR/laptop.log")"
mkdir -p "/etc/netns/${NS}laptop"; trap 'rm -rf "/etc/netns/${NS}laptop"' EXIT
echo "$advice" >"/etc/netns/${NS}laptop/resolv.conf"
ask() { on laptop python3 -c 'import socket, sys
try: print(" ".join(sorted({a[4][0] for a in socket.getaddrinfo(sys.argv[1], 80)})))
except socket.gaierror as error: print("none", error.errno)' "$1"; }
[ "$(ask web.home.example)" = "$S6" ] || fail "web.home.example is '$(ask web.home.example)', not $S6"
[[ "$(ask nobody.home.example)" == none* ]] || fail "nobody.home.example is $(ask nobody.home.example)"
[ "$(on laptop python3 -c 'import socket; print(socket.gethostbyaddr("'"$S6"'")[0])')" = web.home.example ] || fail "the address has no name"
on laptop ping -6 -c 2 -i 0.2 -W 2 web.home.example >/dev/null || fail "ping by name does not work"
