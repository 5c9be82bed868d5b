"""What runs inside the namespaces to measure with. Each form prints one JSON document; times are of the
machine's monotonic clock, which all namespaces share.

probe.py first ADDRESS SECONDS                when it first asked and when the first echo reply came; asks every 5 ms
probe.py receive ADDRESS PORT OCTETS SECONDS  counts datagrams: within SECONDS of the first one, and until 0.5 s of silence
probe.py send ADDRESS PORT OCTETS SECONDS [PER-SECOND]   datagrams, as fast as it goes or at a rate
probe.py echo-all FILE SECONDS                one echo to each address in FILE, until each has answered: their number, and seconds

iperf3 sends and counts one datagram for each system call and takes a core to itself; here it is 64 for each.
"""
import ctypes
import json
import os
import socket
import struct
import sys
import time

BATCH = 64
libc = ctypes.CDLL(None, use_errno=True)


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Msghdr(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint32), ("iov", ctypes.POINTER(Iovec)), ("iovlen", ctypes.c_size_t),
                ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t), ("flags", ctypes.c_int)]


class Mmsghdr(ctypes.Structure):
    _fields_ = [("header", Msghdr), ("length", ctypes.c_uint)]


def messages(octets, shared):
    """BATCH messages; they share one buffer or have one each."""
    keep = [ctypes.create_string_buffer(octets) for _ in range(1 if shared else BATCH)]
    vectors = (Iovec * BATCH)()
    array = (Mmsghdr * BATCH)()
    for number in range(BATCH):
        buffer = keep[0 if shared else number]
        vectors[number] = Iovec(ctypes.addressof(buffer), octets)
        array[number].header.iov = ctypes.pointer(vectors[number])
        array[number].header.iovlen = 1
    return array, (keep, vectors)


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def receive(address, port, octets, seconds):
    inn = socket.socket(family(address), socket.SOCK_DGRAM)
    inn.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
    inn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 500_000))
    inn.bind((address, port))
    array, keep = messages(octets, shared=False)
    print("ready", file=sys.stderr, flush=True)
    total = inside = 0
    first = last = None
    give_up = time.monotonic() + 10
    fd, wait_for_one = inn.fileno(), 0x10000
    while True:
        count = libc.recvmmsg(fd, array, BATCH, wait_for_one, None)
        now = time.monotonic()
        if count <= 0:
            if first is not None or now > give_up:
                break
            continue
        if first is None:
            first = now
        total += count
        if now - first < seconds:
            inside, last = total, now
    elapsed = max(last - first, 1e-9) if first is not None else 0.0
    # A tunnel that stops in the middle has not been fast until then: the window is the time that was asked for.
    print(json.dumps({"received": total, "inside": inside, "seconds": max(elapsed, seconds)}))
    del keep


def send(address, port, octets, seconds, rate=None):
    out = socket.socket(family(address), socket.SOCK_DGRAM)
    out.connect((address, port))
    array, keep = messages(octets, shared=True)
    fd, sent, began = out.fileno(), 0, time.monotonic()
    while (elapsed := time.monotonic() - began) < seconds:
        count = BATCH
        if rate is not None:
            count = min(BATCH, int(elapsed * rate) - sent)
            if count < min(16, rate / 1000):
                time.sleep(0.0003)
                continue
        done = libc.sendmmsg(fd, array, count, 0)
        sent += max(done, 0)
    print(json.dumps({"sent": sent, "seconds": time.monotonic() - began}))
    del keep


def echo_request(number, sequence):
    return struct.pack("!BBHHH", 128, 0, 0, number & 0xFFFF, sequence & 0xFFFF) + bytes(32)  # the kernel fills in the checksum


def first(address, seconds):
    if family(address) != socket.AF_INET6:
        sys.exit("probe.py first: IPv6 only")
    raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    raw.settimeout(0.005)
    me, began, sequence = os.getpid() & 0xFFFF, time.monotonic(), 0
    while (now := time.monotonic()) - began < seconds:
        sequence += 1
        try:
            raw.sendto(echo_request(me, sequence), (address, 0))
        except OSError:
            pass  # no route yet, or refused for now
        while time.monotonic() - now < 0.005:
            try:
                packet, source = raw.recvfrom(2048)
            except TimeoutError:
                break
            if packet[0] == 129 and source[0] == address and struct.unpack_from("!H", packet, 4)[0] == me:
                print(json.dumps({"asked": began, "answered": time.monotonic()}))
                return
    sys.exit(f"no echo reply from {address} within {seconds:.0f} s")


def echo_all(name, seconds):
    """Those that have not answered are asked again every 0.25 s."""
    missing = set(open(name).read().split())
    number = len(missing)
    raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    raw.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)
    raw.settimeout(0.25)
    me, began, asked = os.getpid() & 0xFFFF, time.monotonic(), 0.0
    while missing and time.monotonic() - began < seconds:
        if time.monotonic() - asked >= 0.25:
            for address in missing:
                try:
                    raw.sendto(echo_request(me, 1), (address, 0))
                except OSError:
                    pass
            asked = time.monotonic()
        try:
            packet, source = raw.recvfrom(2048)
        except TimeoutError:
            continue
        if packet[0] == 129:
            missing.discard(source[0])
    print(json.dumps({"answered": number - len(missing), "of": number, "seconds": time.monotonic() - began}))


def main(words):
    form, *rest = words
    if form == "first":
        first(rest[0], float(rest[1]))
    elif form == "receive":
        receive(rest[0], int(rest[1]), int(rest[2]), float(rest[3]))
    elif form == "send":
        send(rest[0], int(rest[1]), int(rest[2]), float(rest[3]), float(rest[4]) if len(rest) > 4 else None)
    elif form == "echo-all":
        echo_all(rest[0], float(rest[1]))
    else:
        sys.exit(f"probe.py: '{form}' is unknown")


main(sys.argv[1:])
