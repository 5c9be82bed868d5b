"""A one-way stream of numbered UDP datagrams, for streams.sh and figures.py.

udp_stream.py send FROM TO PORT PER-SECOND SECONDS    FROM may be "any"; ends with the number sent. What cannot be sent is lost
udp_stream.py receive ADDRESS PORT SECONDS            ends with "received reordered longest-silence-in-ms", after so many
                                                      seconds, or when the sender's last one came
"""
import socket, struct, sys, time

FORM = struct.Struct("!Qd")  # number from 1 on, 0 in the last one; when it was sent, by the machine's clock
SIZE = 160


def send(source, destination, port, per_second, seconds):
    out = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    if source != "any":
        out.bind((source, 0))
    began, sent, total = time.monotonic(), 0, int(per_second * seconds)
    while sent < total:
        due = began + sent / per_second - time.monotonic()
        if due > 0:
            time.sleep(due)
        sent += 1
        try:
            out.sendto(FORM.pack(sent, time.time()).ljust(SIZE, b"u"), (destination, port))
        except OSError:
            pass  # No route for a moment: that one is lost.
    for _ in range(5):
        out.sendto(FORM.pack(0, time.time()), (destination, port))
        time.sleep(0.05)
    print(sent)


def arrivals(address, port, seconds=None):
    """Number and time sent of each datagram as it comes, until the last one, or for so many seconds."""
    inn = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    inn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    inn.bind((address, port))
    end = None if seconds is None else time.monotonic() + seconds
    while end is None or time.monotonic() < end:
        inn.settimeout(end and max(0.001, end - time.monotonic()))
        try:
            number, sent = FORM.unpack_from(inn.recv(2048))
        except TimeoutError:
            return
        if number == 0:
            return
        yield number, sent


def receive(address, port, seconds):
    seen, highest, reordered, last, silence = set(), 0, 0, None, 0.0
    for number, _ in arrivals(address, port, seconds):
        now = time.monotonic()
        if last is not None:
            silence = max(silence, now - last)
        last = now
        reordered += number < highest
        highest = max(highest, number)
        seen.add(number)
    print(len(seen), reordered, int(silence * 1000))


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5]), float(sys.argv[6]))
    else:
        receive(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
