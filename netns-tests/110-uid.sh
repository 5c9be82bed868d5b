# Users of one machine, each with an address of their own, and one of them is hostile and has a shell: nothing that he tries
# makes him speak from, bind to, receive on or answer for another's address, neither through the tunnel nor over loopback.
two_hosts
ALICE=2002:c633:6401:1::a11 BOB=2002:c633:6401:1::b0b
alice=20001 bob=20002 carol=20003
chmod 711 "$DIR"
on a sysctl -qw net.ipv4.ping_group_range="0 2147483647"
as() { local uid=$1; shift; on a setpriv --reuid "$uid" --regid "$uid" --clear-groups --no-new-privs "$@"; }

# owned NAME ADDRESS UID: another entity of a, and a peer of b.
owned() {
    "$DOMICILE" key generate "$DIR/$1.key" >"$DIR/$1.pub"
    printf '[[entity]]\nname = "%s"\naddress = "%s"\nkey_file = "%s.key"\nuid = %s\n' "$1" "$2" "$1" "$3" | more a
    peer b "$1" "$2"
}
pair </dev/null
owned alice $ALICE $alice; owned bob $BOB $bob

cat >"$DIR/play.py" <<'PY'
"""serve ADDRESS PORT LOG [OPTION...]: a TCP and a UDP service that tell the caller who he is, and write it down.
ask ADDRESS PORT tcp|udp [SOURCE]: asks one. attack VICTIM PEER PORT: what a hostile user tries."""
import errno, os, selectors, socket, struct, sys, time
FREEBIND, TRANSPARENT, PKTINFO, MPTCP, FASTOPEN = 78, 75, socket.IPV6_PKTINFO, 262, 23
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
def new(kind, protocol=0):
    s = socket.socket(socket.AF_INET6, kind, protocol); s.settimeout(1.5); return s
def source(address): return [(socket.IPPROTO_IPV6, PKTINFO, socket.inet_pton(socket.AF_INET6, address) + struct.pack("=I", 0))]

def serve(address, port, log, *options):
    port, log, select = int(port), open(log, "a", buffering=1), selectors.DefaultSelector()
    kinds = [(TCP, MPTCP if "mptcp" in options else 0), (UDP, 0)]
    for kind, protocol in kinds["udp" in options:]:
        s = new(kind, protocol)
        if "freebind" in options: s.setsockopt(socket.IPPROTO_IPV6, FREEBIND, 1)
        if "reuse" in options or kind == TCP: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if "fastopen" in options and kind == TCP: s.setsockopt(socket.IPPROTO_TCP, FASTOPEN, 16)
        s.bind((address, port))
        if kind == TCP: s.listen(16)
        select.register(s, selectors.EVENT_READ)
    if "drop" in options: os.setgroups([]); os.setgid(20001); os.setuid(20001)
    print("ready", file=log)
    while True:
        for key, _ in select.select():
            s = key.fileobj
            try:
                if s.type == UDP:
                    data, peer = s.recvfrom(100)
                    print("udp", peer[0], data.decode(), file=log); s.sendto(peer[0].encode(), peer)
                else:
                    c, peer = s.accept()
                    print("tcp", peer[0], file=log)
                    # A big answer and an immediate close: most of it leaves when the socket is nobody's any more.
                    c.sendall(peer[0].encode() + b" " * 200_000); c.close()
            except OSError as e: print("error", e, file=log)

def ask(address, port, kind, given=None):
    s = new(TCP if kind == "tcp" else UDP)
    if given: s.bind((given, 0))
    s.settimeout(3)
    s.connect((address, int(port)))
    if kind == "udp": s.send(b"asked"); print(s.recv(100).decode()); return
    said = b""
    while data := s.recv(65536): said += data
    assert len(said) > 200_000, f"only {len(said)} octets came"
    print(said.decode().strip())

def attack(victim, peer, port):
    """Every line says what was tried and what came of it; the story looks at what arrived, too."""
    port, count = int(port), 0
    def attempt(what, refusals, f):
        nonlocal count
        count += 1
        try: result = f()
        except (OSError, subprocess.SubprocessError) as e: 
            name = errno.errorcode.get(e.errno, str(e)) if isinstance(e, OSError) and e.errno else "timeout"
            print(("ok   " if name in refusals else "FAIL ") + what + ": " + name)
        else: print("FAIL " + what + f": it works ({result})")
    import subprocess
    def bound(kind, where, *options):
        s = new(kind)
        for option in options: s.setsockopt(*option)
        s.bind((where, 0)); return s
    free = (socket.IPPROTO_IPV6, FREEBIND, 1)
    for kind, name in [(TCP, "TCP"), (UDP, "UDP")]:
        attempt(f"bind {name} to the victim", ["EPERM"], lambda: bound(kind, victim))
        attempt(f"bind {name} to the victim, free", ["EPERM"], lambda: bound(kind, victim, free))
        attempt(f"bind {name}, transparent", ["EPERM"], lambda: bound(kind, victim, (socket.IPPROTO_IPV6, TRANSPARENT, 1)))
        attempt(f"bind {name} reusing the victim's port", ["EPERM"], lambda: (lambda s: (s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1), s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1), s.bind((victim, port))))(new(kind)))
    attempt("share the victim's port on ::", ["EADDRINUSE"], lambda: (lambda s: (s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1), s.bind(("::", port))))(new(UDP)))
    for to, name in [(peer, "through the tunnel"), (victim, "to the victim over loopback"), ("2002:c633:6401:1::10", "to everybody's address"), ("::1", "to ::1")]:
        attempt(f"UDP from the victim {name}", ["EPERM"], lambda: new(UDP).sendmsg([b"forged"], source(victim), 0, (to, port)))
        def ping():
            s = new(UDP, socket.IPPROTO_ICMPV6)
            s.sendmsg([bytes([128, 0, 0, 0, 0, 1, 0, 1]) + b"forged"], source(victim), 0, (to, 0))
            # Linux takes the socket's own source here and not the one that is asked for; the capture decides.
            s.settimeout(0.2); s.recv(100); raise TimeoutError
        attempt(f"ping from the victim {name}", ["EPERM", "timeout"], ping)
        def bound_ping():
            s = new(UDP, socket.IPPROTO_ICMPV6); s.bind((victim, 0))
            s.sendto(bytes([128, 0, 0, 0, 0, 1, 0, 1]) + b"forged", (to, 0))
            # Nobody is told that such a packet was dropped.
            s.settimeout(0.2); return s.recv(100)
        attempt(f"ping, bound to the victim, {name}", ["EPERM", "timeout"], bound_ping)
    # Over loopback a source that is not even of this machine would do as well.
    for to in (victim, "2002:c633:6401:1::10"):
        attempt("UDP under a peer's name", ["EPERM"], lambda: bound(UDP, peer, free).sendto(b"forged", (to, port)))
        attempt("TCP under a peer's name", ["EPERM", "timeout"], lambda: bound(TCP, peer, free).connect((to, port)))
        def fast_open():
            s = bound(TCP, peer, free); s.settimeout(0.5)
            # That the kernel took the octets does not mean that they went anywhere.
            s.sendto(b"forged", socket.MSG_FASTOPEN, (to, port)); return s.recv(100)
        attempt("TCP fast open under a peer's name", ["EPERM", "timeout", "EINPROGRESS"], fast_open)
    attempt("a raw socket", ["EPERM"], lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58))
    attempt("a packet socket", ["EPERM"], lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
    attempt("a mark", ["EPERM"], lambda: new(UDP).setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1))
    print(f"tried {count}")
globals()[sys.argv[1]](*sys.argv[2:])
PY
# Not one that is in a home directory, which other users cannot run.
play="/usr/bin/python3 $DIR/play.py"
# service HOST UID ADDRESS PORT LOG [OPTION…]: runs until it is stopped.
service() {
    local host=$1 uid=$2; shift 2
    : >"$DIR/$3"; chmod 666 "$DIR/$3"
    (exec ip netns exec "$NS$host" setpriv --reuid "$uid" --regid "$uid" --clear-groups $play serve "$1" "$2" "$DIR/$3" "${@:4}" >>"$DIR/services.out" 2>&1) &
    until_true 50 "the service $3 is ready" grep -qx ready "$DIR/$3"
}
heard() { grep -cvx ready "$DIR/$1" || true; }
# asks UID ADDRESS PORT: who the service says that the user is.
asks() { local uid=$1; shift; for kind in tcp udp; do as "$uid" $play ask "$@" $kind; done 2>&1 | sort -u | tail -3; }
unheard() { if "$@" >/dev/null 2>&1; then fail "answered: $*"; fi; }
counted() { on a nft -j list counter ip6 domicile "$1" | jq '.nftables[] | .counter // empty | .packets'; }

# Sockets from before the daemon: bob has bound to alice's address, which did not exist yet, and listens on everything.
service a $bob $ALICE 7300 squatter.log freebind
service a $bob :: 7301 before.log
start a; start b
expect a '[.entities[].uid] | map(. // "all") | join(" ")' "all $alice $bob"
dom a status | grep -qE "alice +$ALICE +uid $alice " || fail "status does not show whose address it is"
service b 0 $B6 7000 peer.log

# Everybody speaks from the right address, through the tunnel and over loopback, without asking for it.
for who in "$alice $ALICE" "$bob $BOB" "$carol $A6" "0 $A6"; do
    read -r uid address <<<"$who"
    [ "$(asks "$uid" $B6 7000)" = "$address" ] || fail "uid $uid speaks to b as '$(asks "$uid" $B6 7000)'"
done
service a $alice $ALICE 7001 alice.log reuse
service a $carol :: 7002 carol.log
for who in "$alice $ALICE" "$bob $BOB" "$carol $A6" "0 $A6"; do
    read -r uid address <<<"$who"
    [ "$(asks "$uid" $ALICE 7001)" = "$address" ] || fail "uid $uid speaks to alice as '$(asks "$uid" $ALICE 7001)'"
done
[ "$(asks $alice $A6 7002)" = $ALICE ] || fail "alice speaks to everybody's address as '$(asks $alice $A6 7002)'"
# What is everybody's may be used by everybody, also by those who have something better.
[ "$(as $alice $play ask $B6 7000 tcp $A6)" = $A6 ] || fail "alice may not use the shared address"
as $alice ping -6 -q -c 2 -i 0.2 -W 1 $B6 >/dev/null || fail "alice cannot ping b"
as $bob ping -6 -q -c 2 -i 0.2 -W 1 $ALICE >/dev/null || fail "bob cannot ping alice"
for to in $A6 $ALICE $BOB; do reaches b $to 2 || fail "b does not reach $to"; done
for kind in tcp udp; do [ "$(on b $play ask $ALICE 7001 $kind)" = $B6 ] || fail "b does not reach alice's $kind service"; done
# SYN cookies have no socket, and a port that nobody listens on is still refused at once.
on a sysctl -qw net.ipv4.tcp_syncookies=2
[ "$(on b $play ask $ALICE 7001 tcp)" = $B6 ] || fail "no connection with SYN cookies"
on a sysctl -qw net.ipv4.tcp_syncookies=1
said=$(on b $play ask $ALICE 7999 tcp 2>&1 || true)
[[ $said == *"Connection refused"* ]] || fail "a closed port does not say so: $said"
# What root opens for alice is hers: a privileged port, the way servers take it.
service a 0 $ALICE 80 web.log drop
[ "$(on b $play ask $ALICE 80 tcp)" = $B6 ] || fail "root could not open a port for alice"

# The attack, as a user, as the root of a user namespace, and as a user without any address.
before=$(heard alice.log)
# Without the kernel's answers to pings that bob sends from his own address.
capture a any "$DIR/attack.pcap" "ip6 and (src host $ALICE or src host $B6) and not (icmp6 and ip6[40] == 129)"
on a ping -6 -q -c 1 -W 1 -I $ALICE $A6 >/dev/null || fail "root cannot ping from alice's address"
sleep 0.2; control=$(captured "$DIR/attack.pcap")
[ "$control" -ge 1 ] || fail "the capture sees nothing"
for how in "as $bob" "as $carol" "on a setpriv --reuid $bob --regid $bob --clear-groups unshare -Ur"; do
    $how $play attack $ALICE $B6 7001 >"$DIR/attack" 2>&1 || fail "the attack itself failed: $(tail -3 "$DIR/attack")"
    if grep -q "^FAIL" "$DIR/attack"; then fail "$how: $(grep "^FAIL" "$DIR/attack")"; fi
    grep -qE "^tried [3-9][0-9]$" "$DIR/attack" || fail "only few things were tried: $(tail -1 "$DIR/attack")"
done
end_capture "$DIR/attack.pcap"
[ "$(captured "$DIR/attack.pcap")" = "$control" ] || fail "it left: $(tcpdump -nr "$DIR/attack.pcap" 2>/dev/null | tail -3)"
if grep forged "$DIR"/{alice,peer,carol}.log; then fail "something forged was heard"; fi
[ "$(heard alice.log)" = "$before" ] || fail "alice heard the attack: $(tail -3 "$DIR/alice.log")"
[ "$(counted other_uid)" -ge 12 ] || fail "other_uid counts only $(counted other_uid)"
[ "$(counted forged)" -ge 6 ] || fail "forged counts only $(counted forged)"
say "$(tail -1 "$DIR/attack" | tr -d '\n') ways three times: $(counted other_uid) packets under another's address, $(counted forged) under a peer's: none arrived"

# Whoever listens on everything before alice does is not alice. He gets what is for him and for everybody.
service a $bob :: 7200 bob.log reuse
service a $bob :: 7201 bob-mptcp.log mptcp
on a sysctl -qw net.ipv4.tcp_fastopen=7
service a $bob :: 7202 bob-fastopen.log fastopen
for port in 7200 7201 7202; do
    # UDP without IPV6_PKTINFO answers from the user's own address, wherever it was asked: so not at the shared one.
    for what in "$BOB tcp" "$BOB udp" "$A6 tcp"; do
        read -r to kind <<<"$what"
        [ "$(on b $play ask "$to" $port "$kind")" = $B6 ] || fail "bob does not answer at $to ($kind)"
    done
done
[ "$(asks $carol $BOB 7200)" = $A6 ] || fail "carol does not reach bob"
count() { { cat "$DIR"/{bob,bob-mptcp,bob-fastopen,squatter,before,beside}.log 2>/dev/null || true; } | wc -l; }
before=$(count)
for port in 7200 7201 7202 7300 7301; do
    for syncookies in 0 2; do
        on a sysctl -qw net.ipv4.tcp_syncookies=$syncookies
        unheard on b timeout 0.7 $play ask $ALICE $port tcp
    done
    unheard on b timeout 0.7 $play ask $ALICE $port udp
    unheard as $carol timeout 0.7 $play ask $ALICE $port tcp
    unheard as $alice timeout 0.7 $play ask $ALICE $port udp
done
on a sysctl -qw net.ipv4.tcp_syncookies=1
[ "$(count)" = "$before" ] || fail "bob heard what was for alice: $(tail -n 2 "$DIR"/bob*.log "$DIR/squatter.log")"
refused=$(drops a other_user)
[ "$refused" -ge 20 ] || fail "status counts only $refused packets for another user"
say "$refused packets for alice were not given to sockets of bob"
# Where both may have the port (UDP, both with SO_REUSEADDR), alice is heard beside him, whoever came later.
service a $bob :: 7001 beside.log reuse udp
service a $alice $ALICE 7200 late.log reuse udp
for port in 7001 7200; do [ "$(on b $play ask $ALICE $port udp)" = $B6 ] || fail "alice is not heard beside bob"; done
[ "$(heard late.log) $(heard beside.log)" = "1 0" ] || fail "not alice answered"

# kill -9: nothing of the addresses is left, and the table stays, so that also now nobody speaks as somebody else.
kill9 a
on a nft list table ip6 domicile >/dev/null || fail "the table went with the daemon"
before=$(counted other_uid) heard=$(count)
as $bob $play attack $ALICE $B6 7001 >"$DIR/attack" 2>&1 || true
if grep -q "it works" <(grep -v "bind\|share" "$DIR/attack"); then fail "after kill -9: $(grep "it works" "$DIR/attack")"; fi
unheard as $carol timeout 0.7 $play ask $ALICE 7200 udp
[ "$(count)" = "$heard" ] || fail "bob heard something for alice after kill -9"
start a
[ "$(on a nft list tables | grep -c domicile)" = 1 ] || fail "tables piled up"
[ "$(counted other_uid)" = 0 ] || fail "the table was not replaced"
[ "$(on a ip -6 rule | grep -c "uidrange")" = 2 ] || fail "rules piled up: $(on a ip -6 rule)"
[ "$(asks $alice $B6 7000)" = $ALICE ] || fail "alice has no address after the restart"
as $bob $play attack $ALICE $B6 7001 >"$DIR/attack" 2>&1
if grep -q "^FAIL" "$DIR/attack"; then fail "after the restart: $(grep "^FAIL" "$DIR/attack")"; fi

# 'down' leaves nothing.
stop a
[ -z "$(on a nft list tables)" ] || fail "left: $(on a nft list tables)"
if on a ip -6 rule | grep -E "proto 208|uidrange"; then fail "rules are left"; fi
if on a ip -6 route show table all | grep "proto 208"; then fail "routes are left"; fi

# The capabilities of the unit file are enough, where the control groups are mounted (which 'ip netns exec' hides).
if grep -q " / /.* - cgroup2 " /proc/self/mountinfo; then
    limited=$(sed -n 's/^CapabilityBoundingSet=//p' "$TESTS/../docs/domicile.service" | tr 'A-Z ' 'a-z,' | sed 's/cap_/+/g')
    (exec nsenter "--net=/var/run/netns/${NS}a" setpriv "--bounding-set=-all,$limited" --no-new-privs "$DOMICILE" --config "$DIR/a.toml" up >>"$DIR/a.log" 2>&1) &
    echo $! >"$DIR/a.pid"
    until_true 50 "the daemon with few capabilities is up" dom a status --json
    [ "$(asks $alice $B6 7000)" = $ALICE ] || fail "alice has no address with few capabilities"
    stop a
fi

# Without nft there is no such promise, and so no such daemon.
(exec unshare -m bash -c "mount --bind /dev/null \"\$(readlink -f \"\$(command -v nft)\")\" && exec ip netns exec ${NS}a $DOMICILE --config $DIR/a.toml up") >"$DIR/without" 2>&1 && fail "it starts without nft"
grep -q "an \[\[entity\]\] with uid or user needs what this machine cannot do: nft cannot be run" "$DIR/without" || fail "without nft it says: $(cat "$DIR/without")"
if on a ip link show domicile0 2>/dev/null; then fail "a device is left"; fi
