# An independent ESP (scapy) opens our packets, and we open its packets: both AEADs, with and without extended sequence
# numbers. Of the extended ones the high half counts: we follow scapy past 2^32, where a packet that was sealed with the
# wrong high half is refused, as is everything past 2^32 without them. (Ours are opened with a high half of 0: an SA of
# ours that has sent 2^32 packets takes too long here.)
two_hosts
cat >"$DIR/judge.py" <<'PY'
"""judge.py DIR SUITE ESN SPI-A SPI-B: opens what a sent; forges a's next packets to b with sequence numbers ahead."""
import re, socket, struct, sys, time
from scapy.all import IP, UDP, IPv6, ICMPv6EchoRequest, rdpcap, raw
from scapy.layers.ipsec import ESP, SecurityAssociation
directory, suite, esn, spi = sys.argv[1], sys.argv[2], sys.argv[3] == "true", int(sys.argv[4], 16)
A6, B6 = "2002:c633:6401:1::10", "2002:c633:6402:1::20"
key = None
for line in open(directory + "/keys"):
    fields = re.findall(r'"([^"]*)"', line)
    if line.startswith("uat:esp_sa") and int(fields[3], 16) == spi:
        key = bytes.fromhex(fields[5][2:])
algorithm = {"aes-256-gcm": "AES-GCM", "chacha20-poly1305": "CHACHA20-POLY1305"}[suite]
association = lambda: SecurityAssociation(ESP, spi=spi, crypt_algo=algorithm, crypt_key=key, esn_en=esn, esn=0,
    tunnel_header=IP(src="198.51.100.1", dst="198.51.100.2"), nat_t_header=UDP(sport=4500, dport=4500))
opened = highest = 0
for packet in rdpcap(directory + "/wire.pcap"):
    payload = bytes(packet[UDP].payload)
    if len(payload) > 60 and struct.unpack("!I", payload[:4])[0] == spi:
        outer = IP(src="198.51.100.1", dst="198.51.100.2") / UDP(sport=4500, dport=4500) / ESP(payload)
        inner = association().decrypt(IP(raw(outer)))
        # A dummy packet: a asks how wide the path is.
        if IPv6 not in inner and b"domi\x01" in raw(inner): continue
        assert inner[IPv6].src == A6 and inner[IPv6].dst == B6, inner.summary()
        assert inner[ICMPv6EchoRequest].data[-8:] == b"domicile", inner.show(dump=True)
        opened += 1
        highest = max(highest, struct.unpack("!I", payload[4:8])[0])
assert opened >= 3, opened
out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
def send(sequence, sealed_with_high, identifier):
    sender = association()
    inner = IPv6(src=A6, dst=B6) / ICMPv6EchoRequest(id=identifier, seq=1, data=b"from scapy")
    outer = sender.encrypt(inner, seq_num=sequence, esn=sealed_with_high)
    body = bytes(outer[ESP])
    udp = struct.pack("!HHHH", 4500, 4500, 8 + len(body), 0) + body
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0,
                         socket.inet_aton("198.51.100.1"), socket.inet_aton("198.51.100.2"))
    out.sendto(header + udp, ("198.51.100.2", 0))
    time.sleep(0.02)
for number in range(1, 6):
    send(highest + 100 + number, 0, 4242)
# In two leaps: so close to 0 a number near 2^32 would be one from before (RFC 4303 A2.2).
send(0x7fffffff, 0, 4243)
send(0xfffffff0, 0, 4243)
# The low half is 5 now. Sealed as number 5, and as number 2^32 + 5.
send(5, 0, 4244)
send(5, 1, 4245)
send(6, 1, 4245)
print(f"scapy opened {opened} of ours and sent its own")
PY
for suite in aes-256-gcm chacha20-poly1305; do
    for esn in true false; do
        rm -f "$DIR/keys" "$DIR/inner.pcap"
        pair <<<"[esp]
suites = [\"$suite\"]
extended_sequence_numbers = $esn"
        capture a to-b "$DIR/wire.pcap" "udp port 4500"
        start a --keylog "$DIR/keys"; start b
        on a ping -6 -q -c 4 -i 0.1 -W 1 -s 64 -p 646f6d6963696c65 $B6 >/dev/null || fail "no tunnel"
        end_capture "$DIR/wire.pcap"
        expect a '.peers[0].children[0].suite' $suite
        expect a '.peers[0].children[0].esn' $esn
        capture b domicile0 "$DIR/inner.pcap" "icmp6 and ip6[40] == 128"
        spi=$(status a '.peers[0].children[0].outbound.spi')
        # What a itself sends meanwhile (answers to probes of the path) would be forged as well, to b: its numbers are behind.
        kill -STOP "$(cat "$DIR/a.pid")"
        told=$(on a "$TESTS/../target/venv/bin/python3" "$DIR/judge.py" "$DIR" $suite $esn "$spi" 2>"$DIR/judge.log") || fail "scapy, $suite, ESN $esn: $(tail -5 "$DIR/judge.log")"
        sleep 0.3
        end_capture "$DIR/inner.pcap"
        heard() { captured "$DIR/inner.pcap" "ip6[44:2] == $1"; }
        [ "$(heard 4242)" = 5 ] || fail "$suite, ESN $esn: $(heard 4242) of scapy's 5 packets came out of the tunnel: $(status b .drops)"
        [ "$(heard 4243)" = 2 ] || fail "$suite, ESN $esn: the packets short of 2^32 did not come out: $(status b .drops)"
        [ "$(heard 4244)" = 0 ] || fail "$suite, ESN $esn: a packet sealed with the wrong high half came out"
        if [ $esn = true ]; then
            [ "$(heard 4245)" = 2 ] || fail "$suite: $(heard 4245) of 2 packets past 2^32 came out: $(status b .drops)"
            [ "$(status b '.drops | [.integrity, .too_old] | map(. // 0 | tostring) | join(" ")')" = "1 0" ] || fail "$suite: the wrong high half is not an integrity failure: $(status b .drops)"
        else
            [ "$(heard 4245)" = 0 ] || fail "$suite: without ESN the numbers went round"
            [ "$(status b '.drops | [.integrity, .too_old] | map(. // 0 | tostring) | join(" ")')" = "0 3" ] || fail "$suite: what is past 2^32 is not too old: $(status b .drops)"
        fi
        kill -CONT "$(cat "$DIR/a.pid")"
        say "$suite, ESN $esn: $told; it came out of our tunnel$([ $esn = true ] && echo ", past 2^32 as well")"
        stop a; stop b
    done
done
