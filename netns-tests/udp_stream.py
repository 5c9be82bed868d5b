"""A one-way stream of numbered UDP datagrams, for streams.sh.

udp_stream.py send FROM TO PORT PER-SECOND SECONDS    ends with the number sent
udp_stream.py receive ADDRESS PORT SECONDS            ends with "received reordered longest-silence-in-ms", after so many
                                                      seconds, or when the sender's last one came
"""
import socket, struct, sys, time

FORM = struct.Struct("!QQ")  # number from 1 on, and 1 in the last one
SIZE = 160


def send(source, destination, port, per_second, seconds):
    out = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    out.bind((source, 0))
    began, sent, total = time.monotonic(), 0, int(per_second * seconds)
    while sent < total:
        due = began + sent / per_second - time.monotonic()
        if due > 0:
            time.sleep(due)
        sent += 1
        try:
            out.sendto(FORM.pack(sent, 0).ljust(SIZE, b"u"), (destination, port))
        except OSError:
            pass  # No route for a moment: that one is lost.
    for _ in range(5):
        out.sendto(FORM.pack(sent, 1), (destination, port))
        time.sleep(0.05)
    print(sent)


def receive(address, port, seconds):
    inn = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    inn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    inn.bind((address, port))
    end = time.monotonic() + seconds
    seen, highest, reordered, last, silence = set(), 0, 0, None, 0.0
    while (left := end - time.monotonic()) > 0:
        inn.settimeout(left)
        try:
            datagram, _ = inn.recvfrom(2048)
        except TimeoutError:
            break
        number, is_last = FORM.unpack_from(datagram)
        if is_last:
            break
        now = time.monotonic()
        if last is not None:
            silence = max(silence, now - last)
        last = now
        reordered += number < highest
        highest = max(highest, number)
        seen.add(number)
    print(len(seen), reordered, int(silence * 1000))


if sys.argv[1] == "send":
    send(sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5]), float(sys.argv[6]))
else:
    receive(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
