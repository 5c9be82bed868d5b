# A user's floating address is at one of her devices: it answers there, moves when another one takes it, and the one that had
# it does not answer for it any more, whether it was there at that moment or not. Nobody takes somebody else's.
source "$TESTS/home.sh"
internet
site left endpoint-independent; site right endpoint-independent; site far endpoint-independent
home_at home 192.0.2.10 home.example
place laptop left; place phone right; place tablet left; place server far
at_home user add alice >/dev/null; at_home user add bob >/dev/null; at_home node add web1 >/dev/null
member laptop alice; member phone alice; member tablet bob; member server web1
floating() { at_home user show "$1" --json | jq -r .entity.address; }
holder() { at_home user show "$1" --json | jq -r .entity.holder; }
F6=$(floating alice)
# has HOST ADDRESS: it is on the interface, and the daemon answers for it.
has() { on "$1" ip -6 addr show dev domicile0 | grep -q "inet6 $2/"; }
has_not() { ! has "$@"; }
# Every device answers connections to any address of its own with its name.
cat >"$DIR/name.py" <<'PY'
import socket, sys
door = socket.socket(socket.AF_INET6)
door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
door.bind(("::", 8080)); door.listen()
while True:
    caller, _ = door.accept()
    caller.sendall(sys.argv[1].encode()); caller.close()
PY
cat >"$DIR/call.py" <<'PY'
import socket, sys
door = socket.create_connection((sys.argv[1], 8080), timeout=2)
print(door.recv(100).decode())
PY
for host in laptop phone tablet; do
    (exec ip netns exec "$NS$host" python3 "$DIR/name.py" "$host" >/dev/null 2>&1) &
done
answers() { [ "$(on server timeout 4 python3 "$DIR/call.py" "$1" 2>/dev/null)" = "$2" ]; }

# The first device of a user has it from the beginning.
until_true 150 "the laptop has the floating address" has laptop "$F6"
until_true 200 "the laptop answers at the floating address" answers "$F6" laptop
has_not phone "$F6" || fail "both devices have the floating address"

# took HOST: it takes the address; how long until the server reaches it there.
took() {
    local began; began=$(ms)
    dom "$1" take >"$DIR/took" || fail "$1 cannot take: $(cat "$DIR/took")"
    grep -q "$F6" "$DIR/took" || fail "it does not tell what it holds: $(cat "$DIR/took")"
    until_true 200 "$1 answers at the floating address" answers "$F6" "$1"
    say "the server reaches $1 at the floating address $(( $(ms) - began )) ms after 'take' was typed"
}
took phone
[ "$(holder alice)" = phone.alice ] || fail "the home says that $(holder alice) has it"
until_true 100 "the laptop has it no more" has_not laptop "$F6"
sas_under() { [ "$(status "$1" "[.peers[] | .ike[] | select(.local == \"$2\")] | length")" = 0 ]; }
until_true 100 "the laptop has no SA under it" sas_under laptop "$F6"
reaches laptop "$F6" 3 || reaches laptop "$F6" 3 || fail "the laptop does not reach the phone at the floating address"
# Twice is the same as once.
dom phone take >/dev/null; answers "$F6" phone || fail "taking it again took it away"
reaches server "$(entity_of laptop)" 3 || fail "the laptop is not reached at its own address any more"

# The one that has it is not there when it is taken away: it learns of it when it comes back.
stop phone
took laptop
start phone
until_true 200 "the phone is registered again" bash -c "[ \$(grep -c 'is registered with its home agent' '$DIR/phone.log') -ge 2 ]"
until_true 150 "the phone has it no more" has_not phone "$F6"
answers "$F6" laptop || answers "$F6" laptop || fail "the phone got the address back by starting"

until_true 150 "the phone is reached at its own address" reaches server "$(entity_of phone)"

# Nobody takes what is somebody else's: a device takes the address of its own user, and a node none.
dom tablet take >"$DIR/took"
grep -q "$(floating bob)" "$DIR/took" || fail "bob's tablet took something else: $(cat "$DIR/took")"
[ "$(holder alice)" = laptop.alice ] && answers "$F6" laptop || fail "bob's tablet took the address of alice"
if dom server take >/dev/null 2>"$DIR/refused"; then fail "a node took a floating address"; fi
grep -q "device of a user" "$DIR/refused" || fail "it does not say why: $(cat "$DIR/refused")"
# A device that gives itself the address without the home gets nothing there.
"$DOMICILE" key generate "$DIR/stolen.key" >/dev/null
more tablet <<TOML
[[entity]]
name = "stolen"
address = "$F6"
key_file = "stolen.key"
TOML
stop tablet; start tablet
until_true 200 "the tablet is registered again" bash -c "[ \$(grep -c '$(entity_of tablet) is registered with its home agent' '$DIR/tablet.log') -ge 2 ]"
for _ in 1 2 3; do answers "$F6" laptop || fail "the tablet answers at the address of alice"; sleep 1; done
status_is home "[.peers[] | select(.address == \"$F6\") | .ike[]] | length" 0 || fail "the tablet has an SA with the home as alice"
stop tablet
if dom tablet take >/dev/null 2>"$DIR/refused"; then fail "taken without a daemon"; else [ $? = 5 ] || fail "not told that no daemon runs"; fi
