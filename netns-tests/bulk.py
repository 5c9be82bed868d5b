"""Much data over TCP and UDP, every octet compared. For 34-offloads.sh.

bulk.py serve ADDRESS PORT                 takes one TCP connection after the other, echoes every UDP datagram
bulk.py tcp FROM ADDRESS PORT OCTETS       so many octets each way at once; ends with "ok" or says what is wrong
bulk.py udp FROM ADDRESS PORT BURSTS       bursts of equally long datagrams and their echoes; ends with "ok LOST"
"""
import hashlib, random, socket, struct, sys, threading

SOL_UDP, UDP_SEGMENT = 17, 103


def octets(seed, count):
    return random.Random(seed).randbytes(count)


def receive(connection, count):
    digest = hashlib.sha256()
    while count:
        part = connection.recv(min(count, 1 << 20))
        if not part:
            raise EOFError("the connection ended too early")
        digest.update(part)
        count -= len(part)
    return digest.hexdigest()


def exchange(connection, mine, theirs, count):
    """Sends the octets of one seed while those of another arrive."""
    data = octets(mine, count)
    sender = threading.Thread(target=connection.sendall, args=(data,))
    sender.start()
    got = receive(connection, count)
    sender.join()
    return got == hashlib.sha256(octets(theirs, count)).hexdigest()


def serve(address, port):
    echo = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    echo.setsockopt(socket.SOL_SOCKET, 33, 1 << 23)  # SO_RCVBUFFORCE
    echo.bind((address, port))

    def echoes():
        while True:
            data, sender = echo.recvfrom(65535)
            echo.sendto(data, sender)

    threading.Thread(target=echoes, daemon=True).start()
    listener = socket.create_server((address, port), family=socket.AF_INET6)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        (count,) = struct.unpack("!Q", connection.recv(8, socket.MSG_WAITALL))
        verdict = exchange(connection, 2, 1, count)
        connection.sendall(b"y" if verdict else b"n")
        connection.close()


def tcp(source, address, port, count):
    connection = socket.create_connection((address, port), timeout=60, source_address=(source, 0))
    connection.sendall(struct.pack("!Q", count))
    back = exchange(connection, 1, 2, count)
    there = connection.recv(1) == b"y"
    print("ok" if there and back else f"there {there}, back {back}")


def udp(source, address, port, bursts):
    """Lengths of all kinds, the kernel's segmentation and none, and a last datagram that is shorter."""
    lost = 0
    for burst in range(bursts):
        size = [1200, 64, 1, 1332, 700, 0, 4000, 9][burst % 8]
        count = min(40, 60000 // max(size, 1))
        last = size // 2 if burst % 3 else size
        data = octets(burst, size * (count - 1) + last)
        parts = [data[at * size:(at + 1) * size] for at in range(count)]
        for attempt in range(5):
            out = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            out.setsockopt(socket.SOL_SOCKET, 33, 1 << 23)
            out.bind((source, 0))
            out.settimeout(2)
            if size in (1200, 64, 700) and burst % 2 == 0:
                control = [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))]
                out.sendmsg([data], control, 0, (address, port))
            else:
                for part in parts:
                    out.sendto(part, (address, port))
            got = []
            try:
                while len(got) < count:
                    got.append(out.recvfrom(65535)[0])
            except TimeoutError:
                pass
            wrong = [part for part in got if part not in parts]
            if wrong:
                print(f"burst {burst} of {size} octets: {len(wrong)} datagrams came back as nobody sent them")
                return
            if len(got) == count:
                # One path, one queue: what is not lost comes in order.
                if got != parts:
                    print(f"burst {burst} of {size} octets came back in another order")
                    return
                break
            lost += count - len(got)
        else:
            print(f"burst {burst} of {size} octets never came back whole, the last time {len(got)} of {count}")
            return
    print("ok", lost)


if __name__ == "__main__":
    {"serve": lambda a, p: serve(a, int(p)),
     "tcp": lambda f, a, p, n: tcp(f, a, int(p), int(n)),
     "udp": lambda f, a, p, n: udp(f, a, int(p), int(n))}[sys.argv[1]](*sys.argv[2:])
