"""What is measured of a product whose two ends are up: each measure is a function from a `Session` to one number."""
import json
import re
import statistics
import subprocess
import time
from collections import namedtuple

from machine import Failed, Pair, machine_busy_seconds, run
from products import Domicile

UDP_PORT = 9000
GIB = 1 << 30
PACED = 50_000  # datagrams of 1,200 octets a second, 0.48 Gbit/s: what a usable tunnel carries
CROWD = 200

Measure = namedtuple("Measure", "name unit better what function")


class Session:
    """One product, up, for one run; transfers that several measures are about are made once."""

    def __init__(self, product, pair, options, first_packet):
        self.product, self.pair, self.seconds, self.default_veth = product, pair, options.seconds, options.veth
        self.first_packet, self.profile = first_packet, options.profile
        self.right = product.inside["right"]
        self.single = None
        self.relayed = None
        self.loaded = False

    def server(self, pair, to=None):
        child = pair.spawn("right", ["iperf3", "-s", "-1", "-B", to or self.right], log="iperf3.log")
        pair.until("iperf3 listens", lambda: pair.on("right", ["ss", "-Hltn", "sport = 5201"]).strip())
        return child

    def client(self, pair, *words, seconds=None, to=None):
        seconds = self.seconds if seconds is None else seconds
        return pair.spawn("left", ["iperf3", "-J", "-c", to or self.right, "-t", seconds, *words])

    def transfer(self, *words, pair=None, to=None):
        """TCP from the left to the right for the time that was asked for; iperf3's own summary."""
        pair = pair or self.pair
        server, timeout = self.server(pair, to), self.seconds + 30
        try:
            client = self.client(pair, *words, to=to)
            try:
                out, err = client.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                raise Failed(f"iperf3 {' '.join(words)} did not end within {timeout:.0f} s") from None
            finally:
                pair.stop(client)
        finally:
            pair.stop(server)
        self.loaded = True
        try:
            document = json.loads(out)
        except ValueError:
            raise Failed(f"iperf3 printed no JSON: {err.decode(errors='replace')[:200]}") from None
        if "error" in document:
            raise Failed(f"iperf3: {document['error']}")
        return document["end"]

    def start_perf(self):
        """All CPUs, the kernel included: the processes of the tunnel are a part of what a byte costs."""
        file = f"{self.profile}/{self.product.name}.perf"
        return self.pair.spawn("left", ["perf", "record", "-a", "-g", "-F", 499, "-o", file], log="perf.log")

    def one_stream(self):
        """Bits a second, and CPU seconds per GiB: of the tunnel's processes, and of the whole machine."""
        if self.single is None:
            perf = self.start_perf() if self.profile else None
            tunnel, machine = self.pair.tunnel_seconds(), machine_busy_seconds()
            end = self.transfer()
            tunnel, machine = self.pair.tunnel_seconds() - tunnel, machine_busy_seconds() - machine
            if perf:
                self.pair.interrupt(perf)
            received = end["sum_received"]["bytes"]
            if not received:
                raise Failed("TCP got nothing through")
            self.single = end["sum_received"]["bits_per_second"] / 1e9, tunnel * GIB / received, machine * GIB / received
        return self.single

    def datagrams(self, octets, rate=None):
        """Sent from the left; counted on the right, by the receiver."""
        pair, seconds = self.pair, self.seconds
        receiver = pair.probe("right", "receive", self.right, UDP_PORT, octets, seconds - 0.2)
        try:
            if receiver.stderr.readline().strip() != b"ready":
                raise Failed("the receiver of datagrams did not start")
            sent = pair.finish(pair.probe("left", "send", self.right, UDP_PORT, octets, seconds, *([rate] if rate else [])), seconds + 20)
            received = pair.finish(receiver, seconds + 30)
        finally:
            if receiver in pair.children:
                pair.stop(receiver)
        if not received["received"]:
            raise Failed("no datagram arrived")
        return sent, received

    def ping(self, count, interval):
        """Microseconds of each echo that was answered."""
        deadline = int(count * interval * 3 + 5)
        out = self.pair.on("left", ["ping", "-n", "-6", "-c", count, "-i", interval, "-W", 1, "-w", deadline, self.right],
                           timeout=deadline + 10, check=False)
        times = [float(found) * 1000 for found in re.findall(r"time=([\d.]+) ms", out)]
        if len(times) < count / 10:
            raise Failed(f"only {len(times)} of {count} echoes were answered")
        return times


# --- the measures -----------------------------------------------------------------------------------------------------

def tcp1(session):
    return session.one_stream()[0]


def tcp1_rekeying(session):
    """One stream while the SA that carries it is replaced every two seconds; between two daemons of its own."""
    product = session.product
    if not isinstance(product, Domicile):
        return None
    pair = Pair(product.name, session.default_veth)
    try:
        product.start(pair, esp=['rekey = "2s"', "jitter = 0"])
        pair.finish(pair.probe("left", "first", session.right, 20), 30)
        return session.transfer(pair=pair)["sum_received"]["bits_per_second"] / 1e9
    finally:
        pair.close()


def tcp1_nic(session):
    session.pair.veth("nic")
    try:
        return session.transfer()["sum_received"]["bits_per_second"] / 1e9
    finally:
        session.pair.veth(session.default_veth)


def tcp4(session):
    return session.transfer("-P", "4")["sum_received"]["bits_per_second"] / 1e9


def tcp1_reverse(session):
    return session.transfer("-R")["sum_received"]["bits_per_second"] / 1e9


def tcp_both(session):
    end = session.transfer("--bidir")
    return (end["sum_received"]["bits_per_second"] + end["sum_received_bidir_reverse"]["bits_per_second"]) / 1e9


def udp64_received(session):
    _, received = session.datagrams(64)
    return received["inside"] / received["seconds"] / 1000


def udp1200_received(session):
    _, received = session.datagrams(1200)
    return received["inside"] * 1200 * 8 / received["seconds"] / 1e9


def udp1200_loss(session):
    sent, received = session.datagrams(1200, PACED)
    if sent["sent"] < 0.9 * PACED * session.seconds:
        raise Failed(f"the sender managed only {sent['sent'] / session.seconds / 1000:.0f} of {PACED // 1000} thousand datagrams a second")
    return max(0.0, 100 * (1 - received["received"] / sent["sent"]))


def ping_idle(session):
    return statistics.median(session.ping(200, 0.01))


def ping_loaded(session):
    server = session.server(session.pair)
    client = session.client(session.pair, seconds=session.seconds + 2)
    try:
        time.sleep(0.5)
        times = session.ping(max(int(session.seconds / 0.02), 20), 0.02)
        if client.poll() is not None:
            raise Failed("the load ended before the echoes did")
        return statistics.median(times)
    finally:
        session.pair.stop(client)
        session.pair.stop(server)


def cpu_s_per_gib(session):
    if not session.product.is_tunnel:
        return None
    return session.one_stream()[1]


def machine_cpu_s_per_gib(session):
    return session.one_stream()[2]


def rss(session):
    if not session.product.is_tunnel:
        return None
    if not session.loaded:
        session.one_stream()
    return session.pair.resident_megabytes()


def first_packet(session):
    return session.first_packet * 1000 if session.product.is_tunnel else None


def handshakes_per_s(session):
    """IKE SAs with a child SA each, a second, between two daemons of their own."""
    product = session.product
    if product.handshakes is None:
        return None
    pair = Pair(product.name, session.default_veth)
    try:
        return CROWD / product.handshakes(pair, CROWD)
    finally:
        pair.close()


class Detour(Pair):
    """A home between the two machines, which do not reach each other otherwise."""

    HOME = "192.0.2.10"
    HOSTS = ("left", "home", "right")
    WIRES = [[("left", "wire", "198.18.1.2/24"), ("home", "to-left", "198.18.1.1/24")],
             [("right", "wire", "198.18.2.2/24"), ("home", "to-right", "198.18.2.1/24")]]

    def __init__(self, label, veth):
        super().__init__(label, veth)
        run(["ip", "-n", self.netns("home"), "addr", "add", f"{self.HOME}/32", "dev", "lo"])
        for (side, _, _), (_, _, gateway) in self.WIRES:
            run(["ip", "-n", self.netns(side), "route", "add", "default", "via", gateway.split("/")[0]])


def through_a_home(session):
    """One TCP stream between two members by way of their home: Gbit/s, and CPU seconds per GiB of the home and of both ends."""
    if session.relayed is None:
        product = session.product
        if not isinstance(product, Domicile):
            return None
        pair = Detour(product.name, session.default_veth)
        try:
            far = product.home(pair)["right"]
            pair.finish(pair.probe("left", "first", far, 20), 30)
            pair.note_tunnel()
            before = pair.tunnel_seconds(["home"]), pair.tunnel_seconds()
            end = session.transfer(pair=pair, to=far)
            home, ends = pair.tunnel_seconds(["home"]) - before[0], pair.tunnel_seconds() - before[1]
        finally:
            pair.close()
        received = end["sum_received"]["bytes"]
        if not received or home < received / (100 * GIB):
            raise Failed(f"the home used {home:.2f} s of CPU for {received} octets: they did not go through it")
        session.relayed = end["sum_received"]["bits_per_second"] / 1e9, home * GIB / received, ends * GIB / received
    return session.relayed


def relay_part(which):
    def measure(session):
        relayed = through_a_home(session)
        return None if relayed is None else relayed[which]
    return measure


UP, DOWN = "higher", "lower"
MEASURES = [
    Measure("tcp1", "Gbit/s", UP, "TCP, one stream", tcp1),
    Measure("tcp1_nic", "Gbit/s", UP, "the same on veth that segments like a network card", tcp1_nic),
    Measure("tcp1_rekeying", "Gbit/s", UP, "the same while the security association is replaced every 2 s", tcp1_rekeying),
    Measure("tcp4", "Gbit/s", UP, "TCP, four streams together", tcp4),
    Measure("tcp1_reverse", "Gbit/s", UP, "TCP, one stream, from the other end", tcp1_reverse),
    Measure("tcp_both", "Gbit/s", UP, "TCP, a stream in each direction at once, both together", tcp_both),
    Measure("udp64_received", "thousand/s", UP, "datagrams of 64 octets that arrive when more are sent than can", udp64_received),
    Measure("udp1200_received", "Gbit/s", UP, "payload of datagrams of 1,200 octets that arrives when more is sent than can",
            udp1200_received),
    Measure("udp1200_loss", "percent", DOWN, "datagrams of 1,200 octets lost of 50,000 sent a second (0.48 Gbit/s)", udp1200_loss),
    Measure("ping_idle", "us", DOWN, "echo, nothing else going on: median of 200", ping_idle),
    Measure("ping_loaded", "us", DOWN, "echo beside a TCP stream: median", ping_loaded),
    Measure("cpu_s_per_gib", "s", DOWN, "user and system time of both ends' processes per GiB of TCP", cpu_s_per_gib),
    Measure("machine_cpu_s_per_gib", "s", DOWN, "time that all CPUs were busy per GiB of TCP: iperf3 and the kernel included",
            machine_cpu_s_per_gib),
    Measure("relay_tcp1", "Gbit/s", UP, "TCP, one stream, between two members by way of their home", relay_part(0)),
    Measure("relay_cpu_s_per_gib", "s", DOWN, "user and system time of the home per GiB of that", relay_part(1)),
    Measure("relay_ends_cpu_s_per_gib", "s", DOWN, "the same of both members together", relay_part(2)),
    Measure("rss", "MB", DOWN, "peak resident memory of one end, the larger, after load", rss),
    Measure("first_packet", "ms", DOWN, "from the first packet (or the command to connect) to its answer, handshake included",
            first_packet),
    Measure("handshakes_per_s", "1/s", UP, f"security associations set up a second, {CROWD} ends at once", handshakes_per_s),
]
BY_NAME = {measure.name: measure for measure in MEASURES}
