# A thousand services on one node: each has an address, a name and a certificate, the node one binding. They are reached by
# address and by name; one that moves keeps its address; one that is removed is gone, and its address is never given again.
source "$TESTS/home.sh"
internet
for name in left one two; do site $name endpoint-independent; done
home_at home 192.0.2.10 home.example
node_at left laptop; node_at one server1; node_at two server2
rss() { awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$(cat "$DIR/$1.pid")/status"; }
seconds() { awk -v ms=$(($(ms) - began)) 'BEGIN {printf "%.1f", ms / 1000}'; }
for name in home server1; do declare "before_$name=$(rss $name)"; done

# --- added ----------------------------------------------------------------------------------------------------------

seq -f "s%04g" 1000 >"$DIR/names"
began=$(ms)
at_home service add --from - --node server1 <"$DIR/names" >"$DIR/added"
[ "$(grep -c '^s[0-9]*\.home\.example is 2002:' "$DIR/added")" = 1000 ] || fail "not all were added: $(tail -2 "$DIR/added")"
say "1000 services added in $(seconds) s"
at_home list --json | jq -r '.[] | select(.kind == "service") | "\(.name) \(.address)"' | sort >"$DIR/services"
[ "$(wc -l <"$DIR/services")" = 1000 ] || fail "the home lists $(wc -l <"$DIR/services") services"
[ "$(cut -d' ' -f2 "$DIR/services" | sort -u | wc -l)" = 1000 ] || fail "two services have one address"
NODE=$(entity_of server1 | cut -d: -f1-4)
[ "$(grep -c " $NODE:" "$DIR/services")" = 1000 ] || fail "not all are in the node's /64 $NODE"
address() { grep "^$1 " "$DIR/services" | cut -d' ' -f2; }
hosted() { on "$1" ip -6 -o addr show dev domicile0 | grep -oP 'inet6 \K2002:[^/]*' | sort; }
all_hosted() { [ "$(comm -12 <(hosted server1) <(cut -d' ' -f2 "$DIR/services" | sort) | wc -l)" = 1000 ]; }
until_true 1500 "server1 hosts all of them" all_hosted
say "hosted by the node after $(seconds) s, each with a certificate of its own; its memory grew by $(( $(rss server1) - before_server1 )) MiB, the home's by $(( $(rss home) - before_home )) MiB"
# One binding covers them: the node's prefix.
sleep 3
bound=$(at_home bindings --json | jq -r '.[].prefix' | grep -c "^$NODE:" || true)
[ "$bound" -le 2 ] || fail "there are $bound bindings for the services of one node"
[ $(( $(rss server1) - before_server1 )) -lt 100 ] || fail "memory grew too much"

# --- reached --------------------------------------------------------------------------------------------------------

cat >"$DIR/echo.py" <<'PY'
"""echo.py WHO: tells every TCP client who answers, and at which address."""
import socket, sys
server = socket.create_server(("::", 8080), family=socket.AF_INET6, backlog=100)
while True:
    client, _ = server.accept()
    client.sendall(f"{sys.argv[1]} {client.getsockname()[0]}".encode())
    client.close()
PY
cat >"$DIR/ask.py" <<'PY'
"""ask.py SERVER FILE: asks for every name in the file ("name address"); fails when an answer is another one."""
import socket, struct, sys
server, wrong = sys.argv[1], []
ask = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
ask.settimeout(2)
pairs = [line.split() for line in open(sys.argv[2])]
for number, (name, address) in enumerate(pairs):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in f"{name}.home.example".split("."))
    question = struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 28, 1)
    for attempt in range(3):
        ask.sendto(question, (server, 53))
        try:
            answer = ask.recv(2048)
        except TimeoutError:
            continue
        if answer[:2] == question[:2]:
            break
    else:
        wrong.append(f"{name}: no answer"); continue
    answers = struct.unpack("!H", answer[6:8])[0]
    if answers != 1 or answer[-16:] != socket.inet_pton(socket.AF_INET6, address):
        wrong.append(f"{name}: {answers} answers, code {answer[3] & 15}")
print(f"{len(pairs) - len(wrong)} of {len(pairs)} names", *wrong[:5])
sys.exit(bool(wrong))
PY
H6=$(entity_of server1 | cut -d: -f1-3)::1
began=$(ms)
said=$(on laptop python3 "$DIR/ask.py" "$H6" "$DIR/services") || fail "names: $said"
say "$said answered by the home in $(seconds) s"
for who in server1 server2; do
    (exec ip netns exec "$NS$who" python3 "$DIR/echo.py" $who >"$DIR/$who.echo" 2>&1) &
done
began=$(ms)
for name in $(seq -f "s%04g" 11 20 1000 | head -50); do
    reaches laptop "$(address "$name")" 1 || reaches laptop "$(address "$name")" 3 || fail "$name is not reached"
done
say "50 of them pinged, each over an SA of its own, in $(seconds) s"
# who_answers NAME: over TCP.
who_answers() { on laptop timeout 10 python3 -c 'import socket, sys; print(socket.create_connection((sys.argv[1], 8080), 9).recv(100).decode())' "$(address "$1")" 2>/dev/null; }
began=$(ms)
for name in $(seq -f "s%04g" 2 50 1000); do
    got=$(who_answers "$name") || true
    [ "$got" = "server1 $(address "$name")" ] || fail "TCP to $name, which is $(address "$name"), is answered by '$got'"
done
say "TCP to 20 of them in $(seconds) s"
# A service is proven by itself, not by its node.
S7=$(address s0011)
[ "$(status laptop ".peers[] | select(.address == \"$S7\") | .state")" = established ] || fail "there is no SA with s0011 itself"
[ "$(status server1 ".entities[] | select(.address == \"$S7\") | .certificate.name")" = s0011.home.example ] || fail "s0011 has no certificate"

# --- moved and removed ----------------------------------------------------------------------------------------------

[ "$(who_answers s0502)" = "server1 $(address s0502)" ] || fail "s0502 is not on server1 at first"
at_home service move s0502 --node server2 >/dev/null
began=$(ms)
moved() { [ "$(who_answers s0502)" = "server2 $(address s0502)" ]; }
until_true 200 "s0502 is reached on server2" moved
say "a service is reached on another node, at the same address, $(seconds) s after its move"
[ "$(who_answers s0503)" = "server1 $(address s0503)" ] || fail "its neighbour has gone as well"

GONE=$(address s1000)
reaches laptop "$GONE" 1 || reaches laptop "$GONE" 3 || fail "s1000 is not reached before its end"
at_home service remove s1000 >/dev/null
# Read to the end: who writes a long list to a grep -q that has gone has failed, which would look like "not there".
not_hosted() { ! hosted server1 | grep -x "$GONE" >/dev/null; }
until_true 200 "server1 drops the removed service" not_hosted
if reaches laptop "$GONE" 2; then fail "a removed service answers"; fi
if on laptop python3 "$DIR/ask.py" "$H6" <(echo "s1000 $GONE") >/dev/null; then fail "its name is still answered"; fi
at_home service add s1000 --node server1 >"$DIR/again"
if grep -q "$GONE" "$DIR/again"; then fail "the address of a removed service is given again: $(cat "$DIR/again")"; fi
if cut -d' ' -f2 "$DIR/services" | grep -x "$(grep -oP ' is \K[0-9a-f:]*[0-9a-f]' "$DIR/again")" >/dev/null; then fail "a new service has the address of another one"; fi
say "a removed one is gone; its name has another address now"
