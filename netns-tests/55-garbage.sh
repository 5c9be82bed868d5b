# Garbage, truncated and replayed datagrams at 1,000 and at 100,000 a second, from the peer's own address, while traffic
# flows: nothing breaks, what was taken in is counted by reason, state stays bounded. What the machine could not take in is
# lost in the socket's queue, as on any overrun machine, and is told.
# A super-datagram in the capture would be too long to be sent again.
export DOMICILE_WITHOUT=udp-gso
two_hosts
pair </dev/null
start a; start b
reaches a $B6 3 || fail "no tunnel"
capture a to-b "$DIR/wire.pcap" "udp port 4500"
# Few enough packets that their copies are still within the replay window: with extended sequence numbers an older one
# counts as a forged future one.
iperf b $B6 a -u -b 10M -t 1 >/dev/null
reaches a $B6 3
end_capture "$DIR/wire.pcap"
b_sa() { status b '.peers[0].ike[0].spi_i + .peers[0].children[0].inbound.spi'; }
before=$(b_sa)

cat >"$DIR/attack.py" <<'PY'
"""attack.py PCAP RATE SECONDS: what was captured, replayed, truncated and changed, and noise; raw, from a's address."""
import ctypes, os, random, socket, struct, sys, time
pcap, rate, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
data = open(pcap, "rb").read()
at, seen = 24, []
while at + 16 <= len(data) and len(seen) < 4000:
    length = struct.unpack_from("<I", data, at + 8)[0]
    frame = data[at + 16:at + 16 + length]; at += 16 + length
    if frame[26:30] == socket.inet_aton("198.51.100.1"):
        seen.append(frame[42:])
random.seed(1)
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
def datagram(payload):
    udp = struct.pack("!HHHH", 4500, 4500, 8 + len(payload), 0) + payload
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0,
                       socket.inet_aton("198.51.100.1"), socket.inet_aton("198.51.100.2")) + udp
def forge():
    kind = random.randrange(5)
    base = random.choice(seen)
    if kind == 0: return base
    if kind == 1: return base[:random.randrange(len(base))] or b"\0"
    if kind == 2:
        changed = bytearray(base); changed[random.randrange(len(changed))] ^= 1 << random.randrange(8); return bytes(changed)
    if kind == 3: return os.urandom(random.randrange(1, 1200))
    # A fresh IKE_SA_INIT header with noise behind it.
    body = os.urandom(200)
    return bytes(4) + os.urandom(8) + bytes(8) + struct.pack("!BBBBII", 33, 0x20, 34, 8, 0, 28 + len(body)) + body
# Prepared once and sent many at a time: the sender has to be faster than what it tests.
class Vector(ctypes.Structure): _fields_ = [("base", ctypes.c_char_p), ("length", ctypes.c_size_t)]
class Message(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("name_length", ctypes.c_uint32), ("vectors", ctypes.POINTER(Vector)), ("count", ctypes.c_size_t),
                ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t), ("flags", ctypes.c_size_t), ("sent", ctypes.c_size_t)]
ready = [datagram(forge()) for _ in range(5000)]
to = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", 0, socket.inet_aton("198.51.100.2"))
vectors = (Vector * len(ready))(*[Vector(data, len(data)) for data in ready])
batch = (Message * len(ready))(*[Message(to, len(to), ctypes.pointer(vector), 1, None, 0, 0, 0) for vector in vectors])
sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg
began, sent = time.monotonic(), 0
while (now := time.monotonic() - began) < seconds:
    due = min(int(now * rate) - sent, 1000)
    while due > 0:
        at = sent % len(ready)
        done = sendmmsg(raw.fileno(), ctypes.byref(batch, at * ctypes.sizeof(Message)), min(due, len(ready) - at), 0)
        if done < 0: sys.exit(os.strerror(ctypes.get_errno()))
        sent += done; due -= done
    time.sleep(0.001)
print(sent)
PY
counted() { status b '[.drops[]] | add // 0'; }
# attack RATE: 4 s of it; fails when something is wrong, gives 1 when only nine tenths of the rate were not reached.
# taken: datagrams that the daemon of b read from its socket; overrun: those for which the socket had no room.
attack() {
    local rate=$1 taken overrun counted sent pinger answered
    taken=$(udp_counter b InDatagrams) overrun=$(udp_counter b RcvbufErrors) counted=$(counted)
    on a ping -6 -q -i 0.05 -c 80 -W 2 $B6 >"$DIR/ping" 2>&1 & pinger=$!
    sent=$(on a nice -n -5 timeout 20 python3 "$DIR/attack.py" "$DIR/wire.pcap" $rate 4) || fail "the attack did not run"
    wait $pinger || fail "no ping came through at $rate a second: $(cat "$DIR/ping")"
    sleep 0.5
    taken=$(( $(udp_counter b InDatagrams) - taken )) overrun=$(( $(udp_counter b RcvbufErrors) - overrun )) counted=$(( $(counted) - counted ))
    say "$((sent / 4)) a second sent, $((taken / 4)) taken in, $((overrun / 4)) lost before that; $((counted / 4)) dropped by reason; $(grep -o '[0-9.]*% packet loss' "$DIR/ping")"
    # All of it arrived; at the lower rate all of it was read.
    [ $((taken + overrun)) -ge $((sent * 99 / 100)) ] || fail "of $sent datagrams only $((taken + overrun)) arrived"
    [ "$rate" -gt 1000 ] || [ "$overrun" = 0 ] || fail "$overrun datagrams were lost at $rate a second"
    [ "$taken" -ge $((rate * 4 / 20)) ] || fail "next to nothing was taken in"
    # A fifth is noise in the shape of IKE_SA_INIT, which is no dropped packet; the pings are none, either.
    [ "$counted" -ge $((taken * 3 / 4)) ] && [ "$counted" -le "$taken" ] || fail "of $taken datagrams $counted were counted"
    # Both ends and the attacker share two processors, so at the high rate a few pings may drown.
    answered=$(grep -oE '[0-9]+ received' "$DIR/ping" | cut -d' ' -f1)
    [ "$answered" -ge $(( rate > 1000 ? 60 : 80 )) ] || fail "only $answered of 80 pings were answered"
    [ "$sent" -ge $((rate * 4 * 9 / 10)) ]
}
attack 1000 || fail "the attack did not reach 1,000 a second"
# A machine that does something else besides may need more than one attempt for the full rate.
attempt=1
until attack 100000; do
    [ $attempt -lt 6 ] || fail "the attack did not reach 100,000 a second"
    attempt=$((attempt + 1))
done
[ "$(b_sa)" = "$before" ] || fail "the attack changed an SA"
for reason in replayed integrity unknown_spi; do
    [ "$(drops b $reason)" -gt 100 ] || fail "$reason is not counted: $(status b .drops)"
done
reaches a $B6 5 || fail "a -> b afterwards"; reaches b $A6 5 || fail "b -> a afterwards"
expect b '.peers | length' 1
rss=$(awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$(cat "$DIR/b.pid")/status")
say "resident memory afterwards: $rss MiB"
[ "$rss" -lt 60 ] || fail "memory grew to $rss MiB"
log=$(wc -l <"$DIR/b.log"); [ "$log" -lt 500 ] || fail "the log is not rate-limited: $log lines"
