"""Two machines as network namespaces, "left" and "right", with one wire between them, and what runs on them."""
import itertools
import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

SIDES = ("left", "right")
TICKS = os.sysconf("SC_CLK_TCK")
PROBE = Path(__file__).with_name("probe.py")
PYTHON = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else "python3"


class Failed(Exception):
    """Something that was to be measured could not be; the sentence says what and why."""


def other(side):
    return SIDES[1 - SIDES.index(side)]


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def run(argv, timeout=20, check=True, **more):
    """A command to its end; its standard output. What it leaves behind in its session is killed when it takes too long."""
    argv = [str(word) for word in argv]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **more)
    try:
        out, err = child.communicate(timeout=timeout)
    except BaseException as problem:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        if isinstance(problem, subprocess.TimeoutExpired):
            raise Failed(f"'{' '.join(argv[:6])}' did not end within {timeout:.0f} s") from None
        raise
    if check and child.returncode:
        raise Failed(f"'{' '.join(argv[:8])}' ended with {child.returncode}: {last_line(err or out)}")
    return out


class Pair:
    """The two machines, for one session of one product. Everything in it is gone after `close`."""

    NUMBERS = itertools.count(1)
    ADDRESSES = {"left": "198.51.100.1", "right": "198.51.100.2"}
    HOSTS = SIDES
    # Two ends each: host, device, IPv4 address with its prefix length.
    WIRES = [[("left", "wire", "198.51.100.1/24"), ("right", "wire", "198.51.100.2/24")]]

    def __init__(self, label, veth):
        self.prefix = f"bench{os.getpid()}-{next(self.NUMBERS)}-"
        self.dir = Path(tempfile.mkdtemp(prefix=f"domicile-bench-{label}."))
        self.children = []
        self.tunnel = {host: [] for host in self.HOSTS}
        try:
            for host in self.HOSTS:
                run(["ip", "netns", "add", self.netns(host)])
                self.on(host, ["sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0"])
                run(["ip", "-n", self.netns(host), "link", "set", "lo", "up"])
            for (one, device, _), (two, far_device, _) in self.WIRES:
                run(["ip", "link", "add", device, "netns", self.netns(one), "type", "veth", "peer", "name", far_device,
                     "netns", self.netns(two)])
            for host, device, address in itertools.chain(*self.WIRES):
                for change in (["addr", "add", address, "dev", device], ["link", "set", device, "addrgenmode", "none"],
                               ["link", "set", device, "mtu", "1500", "up"]):
                    run(["ip", "-n", self.netns(host), *change])
            self.veth(veth)
        except BaseException:
            self.close()
            raise

    def netns(self, side):
        return self.prefix + side

    def veth(self, mode):
        """`offload`: super-packets cross the wire whole, as veth does by default. `nic`: they are segmented, as a network card does."""
        offload, merge = ("off", "on") if mode == "nic" else ("on", "off")
        for host, device, _ in itertools.chain(*self.WIRES):
            self.on(host, ["ethtool", "-K", device, "tso", offload, "tx-udp-segmentation", offload, "gro", merge])

    # --- commands -----------------------------------------------------------------------------------------------------

    def command(self, side, argv):
        return ["ip", "netns", "exec", self.netns(side), *map(str, argv)]

    def on(self, side, argv, timeout=20, check=True):
        return run(self.command(side, argv), timeout, check)

    def spawn(self, side, argv, log=None, **more):
        """Starts a process that stays; `log` is the name of a file in `dir`, otherwise its output is a pipe."""
        out = open(self.dir / log, "ab") if log else subprocess.PIPE
        child = subprocess.Popen(self.command(side, argv), stdout=out, stderr=subprocess.STDOUT if log else subprocess.PIPE,
                                 stdin=subprocess.DEVNULL, start_new_session=True, cwd=self.dir, **more)
        if log:
            out.close()
        self.children.append(child)
        return child

    def daemon(self, side, argv, **more):
        return self.spawn(side, argv, log=f"{side}.log", **more)

    def said(self, side):
        """The last line that this side's daemon wrote."""
        log = self.dir / f"{side}.log"
        return last_line(log.read_text(errors="replace")) if log.exists() else "it said nothing"

    def until(self, what, condition, seconds=10.0):
        end = time.monotonic() + seconds
        while not condition():
            last = self.children[-1] if self.children else None
            if last and last.poll() is not None:
                raise Failed(f"waited until {what}, and a process ended with {last.returncode}: {self.said('left')} / {self.said('right')}")
            if time.monotonic() > end:
                raise Failed(f"waited {seconds:.0f} s in vain until {what}: {self.said('left')} / {self.said('right')}")
            time.sleep(0.02)

    def probe(self, side, *words):
        """probe.py on that side, in the background."""
        return self.spawn(side, [PYTHON, PROBE, *words])

    def finish(self, child, timeout):
        """The JSON that a probe prints at its end."""
        try:
            out, err = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.stop(child)
            raise Failed(f"a probe did not end within {timeout:.0f} s") from None
        finally:
            if child in self.children:
                self.children.remove(child)
        if child.returncode:
            raise Failed(last_line(err.decode(errors="replace")))
        return json.loads(out)

    def interrupt(self, child):
        """Lets it write what it has before it ends."""
        child.send_signal(signal.SIGINT)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            pass
        self.stop(child)

    def stop(self, child):
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for pipe in (child.stdout, child.stderr):
            if pipe:
                pipe.close()
        if child in self.children:
            self.children.remove(child)

    # --- what the tunnel costs ----------------------------------------------------------------------------------------

    def pids(self, side):
        out = run(["ip", "netns", "pids", self.netns(side)], check=False)
        return [int(word) for word in out.split()]

    def note_tunnel(self):
        """Whatever runs in the namespaces now is the tunnel; what comes later is ours."""
        self.tunnel = {host: self.pids(host) for host in self.HOSTS}

    def tunnel_seconds(self, hosts=SIDES):
        """CPU seconds (user and system) that the processes of both ends have used."""
        total = 0
        for side in hosts:
            for pid in self.tunnel[side]:
                try:
                    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                except OSError:
                    raise Failed(f"a process of the tunnel has ended: {self.said(side)}") from None
                total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def resident_megabytes(self):
        """Peak resident memory (VmHWM) of the processes of each end, in megabytes; the larger of the two."""
        sums = []
        for side in SIDES:
            kib = 0
            for pid in self.tunnel[side]:
                status = Path(f"/proc/{pid}/status").read_text()
                kib += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
            sums.append(kib * 1024 / 1e6)
        return max(sums)

    def close(self):
        for child in list(self.children):
            if child.poll() is None:
                child.terminate()
        end = time.monotonic() + 3
        while time.monotonic() < end and any(child.poll() is None for child in self.children):
            time.sleep(0.02)
        for child in list(self.children):
            self.stop(child)
        for side in self.HOSTS:
            for _ in range(100):
                pids = self.pids(side)
                if not pids:
                    break
                for pid in pids:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                time.sleep(0.02)
            run(["ip", "netns", "del", self.netns(side)], check=False)
        run(["rm", "-rf", self.dir], check=False)


def machine_busy_seconds():
    """CPU seconds that this machine has been busy since it started, all processes and the kernel."""
    fields = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle, iowait, steal = fields[3], fields[4], fields[7]
    return (sum(fields) - idle - iowait - steal) / TICKS
