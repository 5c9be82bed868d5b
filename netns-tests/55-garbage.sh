# Garbage, truncated and replayed datagrams at 1,000 and as many as possible up to 100,000 a second, from the peer's own
# address, while traffic flows: nothing breaks, everything is counted, state stays bounded.
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
import os, random, socket, struct, sys, time
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
ready = [datagram(forge()) for _ in range(5000)]
began, sent = time.monotonic(), 0
while (now := time.monotonic() - began) < seconds:
    for _ in range(min(max(int(now * rate) - sent, 0), 500)):
        raw.sendto(ready[sent % len(ready)], ("198.51.100.2", 0)); sent += 1
    time.sleep(0.001)
print(sent)
PY
for rate in 1000 100000; do
    on a ping -6 -q -i 0.05 -c 80 -W 2 $B6 >"$DIR/ping" 2>&1 & pinger=$!
    sent=$(on a timeout 20 python3 "$DIR/attack.py" "$DIR/wire.pcap" $rate 4)
    wait $pinger || fail "no ping came through at $rate a second: $(cat "$DIR/ping")"
    say "asked for $rate a second, sent $((sent / 4)); $(grep -o '[0-9.]*% packet loss' "$DIR/ping")"
    # Both ends and the attacker share two processors, so at the high rate a few pings may drown.
    answered=$(grep -oE '[0-9]+ received' "$DIR/ping" | cut -d' ' -f1)
    [ "$answered" -ge $(( rate > 1000 ? 60 : 80 )) ] || fail "only $answered of 80 pings were answered"
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
