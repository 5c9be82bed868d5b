"""Forged datagrams with real framing, for the story "hostile". Ends with "packets octets" (IPv4 and all) that were sent.

attacker.py relayed src=IPV4:PORT dst=IPV4:PORT from=IPV6 to=IPV6 [kind=esp|ike|icmp|mobility|fragment|tcp] [hops=64]
            [size=200] [count=1] [rate=100]        a packet in relayed form (docs/protocol.md, "The relayed path")
attacker.py update src=… dst=… from=IPV6 to=IPV6 spi=0x… key=HEX seq=N number=N [prefixes=A/64,B/128] [lifetime=450]
            [inner=IPV6] [count=1] [rate=100]      a Binding Update in ESP, with the keys of a true SA (AES-256-GCM, no ESN)
attacker.py replay src=… dst=… pcap=FILE heard=IPV4 [times=1] [rate=200]   what that address sent, from elsewhere
attacker.py weigh pcap=FILE [filter=WORDS]         counts, sends nothing
"""
import os, socket, struct, subprocess, sys, time

options = dict(argument.split("=", 1) for argument in sys.argv[2:])
number = lambda name, default: int(options.get(name, str(default)), 0)
v6 = lambda text: socket.inet_pton(socket.AF_INET6, text)


def endpoint(text):
    address, port = text.rsplit(":", 1)
    return socket.inet_aton(address), int(port)


def ipv4(payload):
    """A datagram with whatever source."""
    (source, source_port), (to, to_port) = endpoint(options["src"]), endpoint(options["dst"])
    udp = struct.pack("!HHHH", source_port, to_port, 8 + len(payload), 0) + payload
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, source, to) + udp


def checksum(source, destination, protocol, data):
    data = source + destination + struct.pack("!II", len(data), protocol) + data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF) or 0xFFFF


def ipv6(source, destination, protocol, payload, hops=64):
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, hops) + source + destination + payload


def summed(source, destination, protocol, payload, at):
    value = struct.pack("!H", checksum(source, destination, protocol, payload))
    return payload[:at] + value + payload[at + 2:]


def mobility(source, destination, sequence):
    """Binding Update: A, H, F; R with prefixes (RFC 6275 §6.1.7, RFC 3963 §4)."""
    prefixes = [prefix.split("/") for prefix in options.get("prefixes", "").split(",") if prefix]
    flags = 0xC100 | (0x0400 if prefixes else 0)
    body = struct.pack("!HHH", sequence, flags, number("lifetime", 450))
    for address, length in prefixes:
        while len(body) % 8 != 6:  # 8n + 4 from the header's first octet, which has 6 before this
            body += b"\0"
        body += struct.pack("!BBBB", 6, 18, 0, int(length)) + v6(address)
    while (6 + len(body)) % 8:
        body += b"\0"
    header = struct.pack("!BBBBH", 59, (6 + len(body)) // 8 - 1, 5, 0, 0)
    return ipv6(source, destination, 135, summed(source, destination, 135, header + body, 4))


def relayed():
    source, destination, size = v6(options["from"]), v6(options["to"]), number("size", 200)
    kind, hops = options.get("kind", "esp"), number("hops", 64)
    if kind == "ike":
        message = os.urandom(16) + struct.pack("!BBBBII", 33, 0x20, 34, 8, 0, size) + os.urandom(size - 28)
        udp = struct.pack("!HHHH", 500, 500, 8 + size, 0) + message
        return ipv6(source, destination, 17, summed(source, destination, 17, udp, 6), hops)
    if kind == "icmp":
        error = struct.pack("!BBHI", 1, 3, 0, 0) + ipv6(destination, source, 50, os.urandom(size))
        return ipv6(source, destination, 58, summed(source, destination, 58, error, 2), hops)
    if kind == "mobility":
        return mobility(source, destination, 60000)
    protocol = {"esp": 50, "fragment": 44, "tcp": 6}[kind]
    return ipv6(source, destination, protocol, struct.pack("!I", 0x70000001) + os.urandom(size - 4), hops)


def update(at):
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    source, destination, key = v6(options["from"]), v6(options["to"]), bytes.fromhex(options["key"].removeprefix("0x"))
    inner = mobility(v6(options.get("inner", options["from"])), destination, (number("number", 1) + at) % 65536)
    pad = -(len(inner) + 2) % 4
    inner += bytes(range(1, pad + 1)) + bytes([pad, 41])
    header, iv = struct.pack("!II", number("spi", 0), number("seq", 1) + at), os.urandom(8)
    return header + iv + AESGCM(key[:32]).encrypt(key[32:] + iv, inner, header)


def frames(name, words=""):
    """Of a capture: the length on the wire, and the octets from IPv4 on."""
    data = subprocess.run(["tcpdump", "-nr", name, "-w", "-", words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    at = 24
    while at + 16 <= len(data):
        kept, length = struct.unpack_from("<II", data, at + 8)
        yield length - 14, data[at + 30:at + 16 + kept]
        at += 16 + kept


def payloads():
    if sys.argv[1] == "relayed":
        yield from (relayed() for _ in range(number("count", 1)))
    elif sys.argv[1] == "update":
        yield from (update(at) for at in range(number("count", 1)))
    else:
        heard = [packet[28:] for _, packet in frames(options["pcap"], f"udp port 4500 and src host {options['heard']}")]
        for _ in range(number("times", 1)):
            yield from heard


if sys.argv[1] == "weigh":
    lengths = [length for length, _ in frames(options["pcap"], options.get("filter", ""))]
    print(len(lengths), sum(lengths))
else:
    out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    rate, began, sent, octets = float(options.get("rate", 100)), time.monotonic(), 0, 0
    for payload in payloads():
        if (due := began + sent / rate - time.monotonic()) > 0:
            time.sleep(due)
        packet = ipv4(payload)
        out.sendto(packet, (options["dst"].rsplit(":", 1)[0], 0))
        sent, octets = sent + 1, octets + len(packet)
    print(sent, octets)
