# The sites of the other stories are what they say: mapping, filtering and hairpin (RFC 4787), judged from outside by probes;
# a NAT that reboots, a host that moves. No domicile is in this one.
#
#   one, two ── site ── internet ── server1 192.0.2.11, server2 192.0.2.12
source "$TESTS/sites.sh"
cat >"$DIR/probe.py" <<'PY'
"""probe.py NS COMMAND …: opens sockets in several namespaces of the story and says what it sees, in one line."""
import ctypes, os, random, select, socket, sys
prefix, command, arguments = sys.argv[1], sys.argv[2], sys.argv[3:]
libc = ctypes.CDLL(None, use_errno=True)
S1, S2 = "192.0.2.11", "192.0.2.12"

def opened(host, port=0):
    """A UDP socket in the namespace of a host; it stays there."""
    with open("/run/netns/" + prefix + host) as there:
        if libc.setns(there.fileno(), 0x40000000): raise OSError(ctypes.get_errno(), "setns " + host)
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("0.0.0.0", port))
    return made

def heard(receiver, wait=0.3):
    """(octets, from) or None. An ICMP error is silence."""
    if not select.select([receiver], [], [], wait)[0]: return None
    try: return receiver.recvfrom(2000)
    except OSError: return None

def seen(sender, server, address):
    """The outside endpoint of sender, as the server at address sees it."""
    token = os.urandom(8)
    sender.sendto(token, address)
    while (packet := heard(server, 1)) is not None:
        if packet[0] == token: return packet[1]
    sys.exit(f"nothing of {sender.getsockname()} arrived at {address}")

def arrives(sender, to, receiver):
    token = os.urandom(8)
    sender.sendto(token, to)
    while (packet := heard(receiver)) is not None:
        if packet[0] == token: return packet[1]
    return None

servers = {(host, port): opened({S1: "server1", S2: "server2"}[host], port) for host in (S1, S2) for port in (7001, 7002)}
at = lambda sender, address: seen(sender, servers[address], address)

def mapping(host):
    inner = opened(host)
    ends = [at(inner, address) for address in ((S1, 7001), (S1, 7002), (S2, 7001), (S2, 7002))]
    assert ends == [at(inner, address) for address in ((S1, 7001), (S1, 7002), (S2, 7001), (S2, 7002))], "a mapping did not last"
    if len(set(ends)) == 1: return "none" if ends[0][1] == inner.getsockname()[1] else "endpoint-independent"
    if ends[0] == ends[1] != ends[2] == ends[3]: return "address-dependent"
    return "symmetric" if len(set(ends)) == 4 else f"odd: {ends}"

def filtering(host):
    inner = opened(host)
    end = at(inner, (S1, 7001))
    assert arrives(servers[S1, 7001], end, inner) == (S1, 7001), "not even an answer gets in"
    stranger, sibling = arrives(servers[S2, 7001], end, inner), arrives(servers[S1, 7002], end, inner)
    for answer, address in (stranger, (S2, 7001)), (sibling, (S1, 7002)):
        assert answer in (None, address), f"{answer} is not {address}"
    # Whoever was refused gets in once he was spoken to (unless he is spoken to from another port), although he came first.
    again = at(inner, (S2, 7001))
    assert arrives(servers[S2, 7001], again, inner) == (S2, 7001), "a hole cannot be punched"
    if again == end: punched = "punched"
    else: punched = "another port"
    kind = "endpoint-independent" if stranger and sibling else "address-dependent" if sibling else "symmetric" if not stranger else "odd"
    return f"{kind} {punched}"

def hairpin(first, second):
    one, two = opened(first), opened(second)
    ends = at(one, (S1, 7001)), at(two, (S1, 7001))
    there = arrives(one, ends[1], two)
    if there is None: return "off"
    back = arrives(two, there, one)
    return f"on {'same' if there == ends[0] else 'another'} source, {'answered' if back == ends[1] else 'not answered'}"

if command == "kind":
    print(mapping("one"), filtering("one"))
elif command == "hairpin":
    print(hairpin("one", "two"))
elif command == "same-port":
    # Two hosts of a site with the same port have different outside endpoints, and each gets its own.
    one, two = opened("one", 6000), opened("two", 6000)
    ends = at(one, (S1, 7001)), at(two, (S1, 7001))
    print("different" if ends[0] != ends[1] else "the same",
          arrives(servers[S1, 7001], ends[0], one) is not None, arrives(servers[S1, 7001], ends[1], two) is not None)
elif command == "neighbours":
    one, two = opened("one"), opened("two", 6001)
    print("direct" if arrives(one, (arguments[0], 6001), two) == (arguments[1], one.getsockname()[1]) else "not")
elif command == "across":
    # Before and after whatever the command does: the outside endpoint, whether the old one still leads in, and the new one.
    inner = opened("one")
    before = at(inner, (S1, 7001))
    assert arrives(servers[S1, 7001], before, inner), "no answer before"
    print("before", *before, flush=True); sys.stdin.readline()
    old = arrives(servers[S1, 7001], before, inner)
    after = at(inner, (S1, 7001))
    assert arrives(servers[S1, 7001], after, inner), "no answer after"
    print("after", *after, "old open" if old else "old closed", flush=True)
PY
probe() { python3 "$DIR/probe.py" "$NS" "$@"; }
# is WHAT GOT WANTED
is() { [ "$2" = "$3" ] || fail "$1: '$2', not '$3'"; }
# across COMMAND…: the probe before and after it; sets before, after, old.
across() {
    local said line
    coproc PROBE { probe across 2>&1; }
    local out=${PROBE[0]} in=${PROBE[1]} pid=$PROBE_PID
    read -r -u "$out" said before line || fail "the probe: $said"; before=$before:$line
    is "the probe" "$said" before
    "$@"
    echo >&"$in"
    read -r -u "$out" said after line old || fail "the probe after $*: $said"; after=$after:$line
    is "the probe" "$said" after
    wait "$pid" || true
}

internet
public_host server1 192.0.2.11; public_host server2 192.0.2.12
ei=endpoint-independent ad=address-dependent sy=symmetric
site s1 $ei; site s2 $ei $ad; site s3 $ei $sy; site s4 $ad; site s5 $ad $sy; site s6 $sy; site s7 none
place one s1; place two s1
n=0
for kind in "$ei $ei" "$ei $ad" "$ei $sy" "$ad $ad" "$ad $sy" "$sy $sy"; do
    n=$((n + 1)) where=s$n
    [ $n = 1 ] || { move_host one $where; move_host two $where; }
    hole=$([ "${kind% *}" = $ei ] && echo punched || echo "another port")
    is "site $where, mapping and filtering" "$(probe kind)" "$kind $hole"
    is "site $where, same port" "$(probe same-port)" "different True True"
    is "site $where, neighbours" "$(probe neighbours "$(address_of two)" "$(address_of one)")" direct
    is "site $where, hairpin at first" "$(probe hairpin)" off
    hairpin $where on
    source=$([ "${kind% *}" = $sy ] || [ "${kind% *}" = $ad ] && echo another || echo same)
    is "site $where, hairpin" "$(probe hairpin)" "on $source source, answered"
    hairpin $where off
    is "site $where, hairpin off again" "$(probe hairpin)" off
    across reboot_nat $where
    is "reboot of $where, old mapping" "$old" "old closed"
    is "reboot of $where, address" "${before%:*} ${after%:*}" "$(outside_of $where) $(outside_of $where)"
    [ "$before" != "$after" ] || fail "the mapping survived the reboot of $where"
    say "$where is ${kind/ /, filters }; hairpin as told; a reboot moved $before to $after"
done

# A host that moves: another outside address, the old mapping leads nowhere.
across move_host one s1
is "the move, addresses" "${before%:*} ${after%:*}" "$(outside_of s6) $(outside_of s1)"
is "the move, old mapping" "$old" "old closed"
# Without NAT, everybody reaches everybody, at the address that the host has.
move_host one s7; move_host two s7
is "site without NAT" "$(probe kind)" "none endpoint-independent punched"
is "site without NAT, neighbours" "$(probe neighbours "$(address_of two)" "$(address_of one)")" direct
# Private addresses do not cross the internet.
move_host two s1
reaches4() { on "$1" ping -q -c 1 -W 1 "$2" >/dev/null; }
reaches4 two "$(address_of one)" || fail "a public address is not reached through a NAT"
if reaches4 one "$(address_of two)"; then fail "a private address is reached across the internet"; fi
say "a host that moves, a site without NAT"
