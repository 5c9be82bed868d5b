"""What 91-home-figures.sh measures with. Times are seconds of the machine's clock; all namespaces share it.

figures.py delay SECONDS                        holds each packet that is routed into the device "delay" so long, then routes it on
figures.py receive ADDRESS PORT FILE            writes "number sent received" of each datagram of udp_stream.py, on SIGTERM
figures.py first FILE                           when the first one came
figures.py first-direct FILE FROM               when the first of the most frequent length came from FROM: of a text by tcpdump -tt
figures.py gaps FILE EVENTS RTT LABEL           a line of the table; EVENTS has "began ended" of each move
figures.py blast FROM PORT TO PORT OCTETS SECONDS [SOURCE DESTINATION]
                                                datagrams of so many octets as fast as it goes, in batches that the kernel cuts;
                                                with permanent addresses: in relayed form. Ends with the number sent
"""
import collections, fcntl, os, select, signal, socket, statistics, struct, sys, time

sys.dont_write_bytecode = True
from udp_stream import arrivals


def delay(seconds):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", b"delay", 0x0001 | 0x1000))  # TUNSETIFF: TUN without header
    print("ready", flush=True)
    held = collections.deque()
    while True:
        wait = max(0.0, held[0][0] - time.monotonic()) if held else None
        if select.select([device], [], [], wait)[0]:
            try:
                for _ in range(64):
                    packet = os.read(device, 65536)
                    held.append((time.monotonic() + seconds, packet))
            except BlockingIOError:
                pass
        while held and held[0][0] <= time.monotonic():
            try:
                os.write(device, held.popleft()[1])
            except OSError:
                pass


def receive(address, port, name):
    seen = []

    def end(*_):
        with open(name, "w") as out:
            out.writelines(f"{number} {sent:.6f} {received:.6f}\n" for number, sent, received in seen)
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    for number, sent in arrivals(address, port):
        seen.append((number, sent, time.time()))
    signal.pause()


def read(name):
    return [(int(number), float(sent), float(received)) for number, sent, received in (line.split() for line in open(name))]


def first_direct(name, source):
    seen = []
    for line in open(name):
        words = line.split()
        if len(words) > 4 and words[2].rsplit(".", 1)[0] == source and "length" in words:
            seen.append((float(words[0]), words[words.index("length") + 1]))
    usual = collections.Counter(length for _, length in seen).most_common(1)[0][0]
    print(min(at for at, length in seen if length == usual))


def gaps(name, events, rtt, label):
    """Interruption: the longest time without an arrival from when an event began until the next one. Beside it how long the event
    itself took (the network was away), and how long after its end the next datagram came."""
    arrivals = sorted(received for _, _, received in read(name))
    numbers = {number for number, _, _ in read(name)}
    spans = [tuple(map(float, line.split())) for line in open(events)]
    silences, after, away = [], [], []
    for n, (began, ended) in enumerate(spans):
        until = spans[n + 1][0] if n + 1 < len(spans) else arrivals[-1]
        inside = [b - a for a, b in zip(arrivals, arrivals[1:]) if b > began and a < until]
        back = next((at for at in arrivals if at >= ended), None)
        if not inside or back is None:
            sys.exit(f"{label}: nothing arrived after event {n + 1} of {len(spans)}")
        silences.append(max(inside))
        after.append(back - ended)
        away.append(ended - began)
    lost = max(numbers) - len(numbers)
    ms, times = lambda value: f"{value * 1000:.0f}", lambda value: f"{value / rtt:.1f}"
    middle = statistics.median
    print(f"{label:38} {len(spans):3}  {ms(middle(silences)):>6} {ms(max(silences)):>6}  {times(middle(silences)):>6} {times(max(silences)):>6}"
          f"  {ms(middle(away)):>5}  {ms(middle(after)):>6} {ms(max(after)):>6}  {times(middle(after)):>6} {times(max(after)):>6}  {lost / len(spans):>6.0f}")


def blast(source, port, destination, to_port, octets, seconds, pair=None):
    payload = bytes(octets)
    if pair:
        inside = octets - 40
        payload = struct.pack("!IHBB", 0x60000000, inside, 50, 64) + b"".join(socket.inet_pton(socket.AF_INET6, a) for a in pair)
        payload += struct.pack("!II", 0x11111111, 1) + bytes(inside - 8)
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.bind((source, port))
    out.setsockopt(17, 103, octets)  # SOL_UDP, UDP_SEGMENT
    batch = payload * min(60000 // octets, 60)
    each, sent, end = len(batch) // octets, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            out.sendto(batch, (destination, to_port))
            sent += each
        except OSError:
            pass
    print(sent)


command, arguments = sys.argv[1], sys.argv[2:]
if command == "delay":
    delay(float(arguments[0]))
elif command == "receive":
    receive(arguments[0], int(arguments[1]), arguments[2])
elif command == "first":
    print(min(received for _, _, received in read(arguments[0])))
elif command == "first-direct":
    first_direct(arguments[0], arguments[1])
elif command == "gaps":
    gaps(arguments[0], arguments[1], float(arguments[2]), arguments[3])
elif command == "blast":
    blast(arguments[0], int(arguments[1]), arguments[2], int(arguments[3]), int(arguments[4]), float(arguments[5]), arguments[6:] or None)
