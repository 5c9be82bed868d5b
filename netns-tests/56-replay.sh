# Replayed ESP is dropped, also after a rekey, when the SA that it belongs to is gone.
two_hosts
pair </dev/null
start a; start b
reaches a $B6 1 || fail "no tunnel"
capture a to-b "$DIR/wire.pcap" "udp port 4500 and src host $A4"
reaches a $B6 5
end_capture "$DIR/wire.pcap"
"$TESTS/../target/venv/bin/python3" - "$DIR" "$NS" <<'PY'
import sys
from scapy.all import rdpcap, wrpcap
packets = rdpcap(sys.argv[1] + "/wire.pcap")
open(sys.argv[1] + "/payloads", "w").write("\n".join(bytes(p["UDP"].payload).hex() for p in packets if len(p["UDP"].payload) > 60))
PY
replay() {
    on a python3 - "$DIR/payloads" <<'PY'
import socket, struct, sys
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
a, b = socket.inet_aton("198.51.100.1"), socket.inet_aton("198.51.100.2")
for line in open(sys.argv[1]):
    payload = bytes.fromhex(line.strip())
    udp = struct.pack("!HHHH", 4500, 4500, 8 + len(payload), 0) + payload
    raw.sendto(struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, a, b) + udp, ("198.51.100.2", 0))
PY
}
received() { status b '[.peers[0].children[].inbound.packets] | add'; }
count=$(received)
replay
until_true 20 "the replay is counted" bash -c "[ \$('$DOMICILE' --config $DIR/b.toml status --json | jq '.drops.replayed // 0') -ge 5 ]"
[ "$(received)" = "$count" ] || fail "a replayed packet was accepted"
dom a rekey b >/dev/null
until_true 100 "the old child is gone" one_pair b
replay
until_true 20 "old ESP is unknown" bash -c "[ \$('$DOMICILE' --config $DIR/b.toml status --json | jq '.drops.unknown_spi // 0') -ge 5 ]"
reaches a $B6 3 || fail "the tunnel broke"
