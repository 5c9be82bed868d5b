"""What is measured. A product starts its two ends in a `Pair` and says under which inner addresses they are reached.

`missing` says why it cannot be measured here, `start` brings both ends up so far that the first packet can be sent, `connect` does
what a product needs that does not connect by itself when there is traffic. The inner MTU is 1,400 for every tunnel.
"""
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import time
from pathlib import Path

from machine import SIDES, Failed, Pair, other, run

ROOT = Path(__file__).resolve().parents[2]
INNER_MTU = 1400
GSO_MAX_SIZE = 59000  # as the daemon sets it for its device: src/io/netlink.rs
OFFLOADS = ("tun-offload", "coalesce", "udp-gso", "udp-gro", "idle-polling")
HOMES = {"left": "2002:c633:6401:1", "right": "2002:c633:6402:1"}


def program(*candidates):
    """The first of them that can be run."""
    for name in candidates:
        found = shutil.which(str(name), path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if found:
            return Path(found).resolve()
    return None


def source_of(binary):
    """The commit that a program was built of, behind a comma; nothing of one that was not built here."""
    if ROOT not in Path(binary).parents:
        return ""
    return f", {run(['git', '-C', ROOT, 'describe', '--always', '--dirty'], check=False).strip()}"


class Product:
    """the wire alone: what this machine can do without any tunnel"""

    def __init__(self, name, options):
        self.name = name
        self.options = options

    inside = {"left": "fd00:be::1", "right": "fd00:be::2"}
    is_tunnel = False
    by_default = True

    def about(self):
        return (type(self).__doc__ or "").split("\n")[0]

    def missing(self):
        return None

    def version(self):
        return f"veth of Linux {os.uname().release}"

    def start(self, pair):
        for side in SIDES:
            run(["ip", "-n", pair.netns(side), "addr", "add", f"{self.inside[side]}/64", "dev", "wire", "nodad"])

    # `handshakes(pair, number)`, of those with which it can be measured: how many seconds so many take.
    handshakes = None

    def connect(self, pair):
        """Called after the first packets were sent; returns whether it did anything."""
        return False


class Domicile(Product):
    """ESP in UDP keyed by IKEv2; `suites` are those of the data plane."""

    inside = {side: HOMES[side] + "::1" for side in SIDES}
    is_tunnel = True

    def __init__(self, name, options, suites, binary, feature=None, without=""):
        super().__init__(name, options)
        self.suites, self.binary, self.feature, self.without = suites, binary, feature, without
        self.by_default = not without

    def about(self):
        if self.without:
            return f"AES-256-GCM without {self.without} (measured if --only names it)"
        return "ours, a build that encrypts nothing: for comparison alone" if self.feature else f"ours, {self.suites[-1]}"

    def missing(self):
        if os.access(self.binary, os.X_OK):
            return None
        if self.feature and f"\n{self.feature} =" not in (ROOT / "Cargo.toml").read_text():
            return f"this source has no feature '{self.feature}', which makes the build that encrypts nothing"
        how = "cargo build --release" + (f" --features {self.feature} --target-dir target/bench-null" if self.feature else "")
        return f"{self.binary} is not there: {how}"

    def version(self):
        return run([self.binary, "--version"]).strip() + source_of(self.binary)

    def configure(self, pair, side, entities, peers, esp=()):
        """Writes the configuration of one side: its (name, address) and those of its peers, whose keys are there."""
        lines = ["[node]", f'control_socket = "{pair.dir}/{side}.sock"', "allow_special_homes = true", f"mtu = {INNER_MTU}",
                 "[ike]", "cookie_threshold = 100000", "[esp]", f"suites = {list(self.suites)}".replace("'", '"'), *esp]
        for name, address in entities:
            lines += ["[[entity]]", f'name = "{name}"', f'address = "{address}"', f'key_file = "{name}.key"']
        for name, address in peers:
            public = (pair.dir / f"{name}.pub").read_text().strip()
            lines += ["[[peer]]", f'name = "{name}"', f'address = "{address}"', f'public_key = "{public}"',
                      f'endpoint = "{Pair.ADDRESSES[other(side)]}:4500"']
        (pair.dir / f"{side}.toml").write_text("\n".join(lines) + "\n")

    def home(self, pair):
        """A home between the two, and they its members: what they send to each other goes through it. Their addresses."""
        def at(host, *words):
            return pair.on(host, [self.binary, "--config", pair.dir / host / "domicile.toml", *words])

        for host in pair.HOSTS:
            (pair.dir / host).mkdir()
        at("home", "home", "init", "--address", pair.HOME, "--domain", "home.example", "--allow-special")
        # What a relay can do, not what it lets a member have by default (2 Gbit/s).
        file = pair.dir / "home/domicile.toml"
        limits = "[home_agent]\nrelay_member_bytes = 100000000000\nrelay_source_bytes = 100000000000"
        file.write_text(file.read_text().replace("[home_agent]", limits, 1))
        self.up(pair, "home", pair.dir / "home/domicile.toml")
        for side in SIDES:
            at("home", "home", "node", "add", side)
            code = re.search(r"(?:[0-9A-Z]{5}-){5}[0-9A-Z]{5}", at("home", "home", "invite", side)).group()
            at(side, "join", pair.HOME, code, "--name", side, "--allow-special")
            self.up(pair, side, pair.dir / side / "domicile.toml")
        entities = {side: json.loads(at(side, "status", "--json"))["entities"] for side in SIDES}
        return {side: entities[side][0]["address"] for side in SIDES}

    def key(self, pair, name):
        (pair.dir / f"{name}.pub").write_text(run([self.binary, "key", "generate", pair.dir / f"{name}.key"]))

    def up(self, pair, side, file=None):
        argv = [self.binary, "--config", file or pair.dir / f"{side}.toml"]
        pair.daemon(side, [*argv, "--log-level", "warn", "up"],
                    env={**os.environ, **({"DOMICILE_WITHOUT": self.without} if self.without else {})})

        def answers():
            asked = pair.command(side, [*argv, "status", "--json"])
            return subprocess.run(asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=10).returncode == 0

        pair.until(f"domicile answers on the {side}", answers)

    def start(self, pair, esp=()):
        for side in SIDES:
            self.key(pair, side)
        for side in SIDES:
            self.configure(pair, side, [(side, self.inside[side])], [(other(side), self.inside[other(side)])], esp)
            self.up(pair, side)

    def handshakes(self, pair, number):
        """One caller; as many entities at the other end, each with a key of its own; seconds from the first echo to each of them, all
        at once, until every one has answered through its own SA."""
        places = [(f"e{n:05}", f"{HOMES['right']}::{n:x}") for n in range(16, 16 + number)]
        for name, _ in [("left", ""), *places]:
            self.key(pair, name)
        self.configure(pair, "right", places, [("left", self.inside["left"])])
        self.configure(pair, "left", [("left", self.inside["left"])], places)
        for side in ("right", "left"):
            self.up(pair, side)
        (pair.dir / "addresses").write_text("\n".join(address for _, address in places))
        said = pair.finish(pair.probe("left", "echo-all", pair.dir / "addresses", 30), 40)
        if said["answered"] != number:
            raise Failed(f"only {said['answered']} of {number} ends answered within 30 s")
        return said["seconds"]


class WireGuard(Product):
    """a userspace WireGuard

    They all take their configuration through the same socket, which `wg` speaks."""

    is_tunnel = True

    def __init__(self, name, options, binaries, arguments, how):
        super().__init__(name, options)
        self.binaries, self.arguments, self.how = binaries, arguments, how

    def missing(self):
        if not program("wg"):
            return "there is no wg: apt-get install wireguard-tools"
        if not program(*self.binaries):
            return f"there is no {self.name}: {self.how}"
        return None

    def version(self):
        binary = program(*self.binaries)
        said = run([binary, "--version"], check=False).strip().splitlines()
        package = run(["dpkg-query", "-W", "-f", "Debian ${Version}", self.name], check=False) if str(binary).startswith("/usr") else ""
        return " ".join(filter(None, [said[0] if said else "", package]))

    def start(self, pair):
        binary = program(*self.binaries)
        public = {}
        for side in SIDES:
            private = run(["wg", "genkey"])
            (pair.dir / f"{side}.private").write_text(private)
            (pair.dir / f"{side}.private").chmod(0o600)
            public[side] = subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True).stdout.strip()
        for side in SIDES:
            # Each with a /run of its own: the socket of both has the same name.
            script = 'mount -t tmpfs none /run && mkdir -p /run/wireguard && exec "$0" "$@"'
            daemon = pair.daemon(side, ["sh", "-c", script, binary, *self.arguments, "wg0"],
                                 env={**os.environ, "WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error", "WG_LOG_LEVEL": "error"})
            inside = ["nsenter", "-t", str(daemon.pid), "--mount", "--net"]
            def wg(*words): return subprocess.run([*inside, "wg", *words], capture_output=True, text=True)
            pair.until(f"{self.name} takes its configuration on the {side}", lambda: wg("show", "wg0").returncode == 0)
            done = wg("set", "wg0", "listen-port", "51820", "private-key", str(pair.dir / f"{side}.private"), "peer", public[other(side)],
                      "allowed-ips", f"{self.inside[other(side)]}/128", "endpoint", f"{Pair.ADDRESSES[other(side)]}:51820")
            if done.returncode:
                raise Failed(f"wg set: {done.stderr.strip()}")
            for change in (["link", "set", "wg0", "mtu", str(INNER_MTU), "up"],
                           ["addr", "add", f"{self.inside[side]}/64", "dev", "wg0", "nodad"]):
                run(["ip", "-n", pair.netns(side), *change])


class StrongSwan(Product):
    """charon with the plugin kernel-libipsec: ESP in userspace, AES-256-GCM"""

    inside = {side: HOMES[side] + "::1" for side in SIDES}
    is_tunnel = True
    CHARON = "/usr/lib/ipsec/charon"
    PLUGINS = ("random nonce openssl curve25519 kdf hmac sha2 aes gcm pem pkcs1 pkcs8 pubkey x509 constraints "
               "kernel-libipsec kernel-netlink socket-default vici updown")

    def missing(self):
        plugin = "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so"
        for file, package in ((self.CHARON, "strongswan-charon"), (plugin, "libcharon-extra-plugins"),
                              (program("swanctl") or "swanctl", "strongswan-swanctl")):
            if not os.path.exists(file):
                return f"there is no {file}: apt-get install {package}"
        return None

    def version(self):
        said = run(["swanctl", "--help"], check=False).strip().splitlines()
        return f"{said[0] if said else 'strongSwan'}, kernel-libipsec"

    def swan(self, pair, side, *words):
        uri = f"unix://{pair.dir}/{side}.vici"
        return run(["env", f"SWANCTL_DIR={pair.dir}/{side}", "swanctl", *words, "--uri", uri], timeout=15)

    def connection(self, side, name, inside):
        """One connection with one child, both of that name, between these two inner addresses."""
        far = other(side)
        return f"""{name} {{
  version = 2
  local_addrs = {Pair.ADDRESSES[side]}
  remote_addrs = {Pair.ADDRESSES[far]}
  encap = yes
  proposals = aes256gcm16-prfsha256-curve25519
  local {{ auth = pubkey
          id = {inside[side]}
          pubkeys = me.pem }}
  remote {{ auth = pubkey
           id = {inside[far]}
           pubkeys = peer.pem }}
  children {{ {name} {{ local_ts = {inside[side]}/128
                     remote_ts = {inside[far]}/128
                     mode = tunnel
                     esp_proposals = aes256gcm16
                     start_action = none }} }}
}}
"""

    def run_charons(self, pair, insides):
        """Both, with a connection for each of these pairs of inner addresses."""
        for side in SIDES:
            home = pair.dir / side
            for name in ("private", "pubkey"):
                (home / name).mkdir(parents=True)
            run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", home / "private/me.pem"])
            run(["openssl", "pkey", "-in", home / "private/me.pem", "-pubout", "-out", home / "pubkey/me.pem"])
        for side in SIDES:
            home = pair.dir / side
            shutil.copy(pair.dir / other(side) / "pubkey/me.pem", home / "pubkey/peer.pem")
            connections = "".join(self.connection(side, f"c{number}", inside) for number, inside in enumerate(insides))
            (home / "swanctl.conf").write_text(f"connections {{\n{connections}}}\n")
            (home / "strongswan.conf").write_text(f"""charon {{
  load = {self.PLUGINS}
  install_routes = yes
  cookie_threshold = 100000
  block_threshold = 100000
  plugins {{
    kernel-libipsec {{ load = yes
      allow_peer_ts = yes }}
    vici {{ socket = unix://{pair.dir}/{side}.vici }}
  }}
  filelog {{ log {{ path = {pair.dir}/{side}.log
    default = 0 }} }}
}}
""")
            for address in sorted({inside[side] for inside in insides}):
                run(["ip", "-n", pair.netns(side), "addr", "add", f"{address}/128", "dev", "lo", "nodad"])
            script = 'mount -t tmpfs none /run && exec "$0"'
            pair.spawn(side, ["sh", "-c", script, self.CHARON], log=f"{side}.out",
                       env={**os.environ, "STRONGSWAN_CONF": str(home / "strongswan.conf")})
            pair.until(f"charon is up on the {side}", (pair.dir / f"{side}.vici").exists)
            self.swan(pair, side, "--load-all")

    def start(self, pair):
        self.run_charons(pair, [self.inside])

    def connect(self, pair):
        self.swan(pair, "left", "--initiate", "--child", "c0")
        return True

    def handshakes(self, pair, number):
        """As many connections at once, with identities of their own (charon has one key); seconds until all are established."""
        self.run_charons(pair, [{"left": self.inside["left"], "right": f"{HOMES['right']}::{16 + n:x}"} for n in range(number)])
        with socket.socket(socket.AF_UNIX) as vici:
            vici.settimeout(10)
            vici.connect(f"{pair.dir}/left.vici")
            began = time.monotonic()
            for name in (f"c{n}" for n in range(number)):
                self.ask(vici, "initiate", {"ike": name, "child": name, "timeout": "-1"})
            wanted = f"IKE_SAs: {number} total, 0 half-open"
            pair.until(f"{number} connections are up", lambda: wanted in self.swan(pair, "left", "--stats"), 30)
            return time.monotonic() - began

    @staticmethod
    def ask(vici, command, values):
        """One request of strongSwan's control protocol, and its answer."""
        message = bytes([0, len(command)]) + command.encode()
        for key, value in values.items():
            message += bytes([3, len(key)]) + key.encode() + struct.pack("!H", len(value)) + value.encode()
        vici.sendall(struct.pack("!I", len(message)) + message)
        length, = struct.unpack("!I", vici.recv(4, socket.MSG_WAITALL))
        return vici.recv(length, socket.MSG_WAITALL)


class OpenVpn(Product):
    """two ends over UDP in userspace, TLS, AES-256-GCM; certificates are known by their fingerprints"""

    is_tunnel = True

    def missing(self):
        for name in ("openvpn", "openssl"):
            if not program(name):
                return f"there is no {name}: apt-get install {name}"
        return None

    def version(self):
        words = run([program("openvpn"), "--version"], check=False).split()
        return " ".join(words[:2]) + ", in userspace (DCO off)"

    def start(self, pair):
        for side in SIDES:
            run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                 "-subj", f"/CN={side}", "-keyout", pair.dir / f"{side}.key", "-out", pair.dir / f"{side}.crt"])
        self.end(pair, "right")
        log = pair.dir / "right.log"
        pair.until("openvpn listens on the right", lambda: "UDPv4 link local" in log.read_text(errors="replace"))

    def end(self, pair, side):
        far = other(side)
        said = run(["openssl", "x509", "-in", pair.dir / f"{far}.crt", "-noout", "-fingerprint", "-sha256"])
        pair.daemon(side, [
            program("openvpn"), "--dev", "tun0", "--dev-type", "tun", "--disable-dco", "--proto", "udp4", "--port", "1194",
            "--remote", Pair.ADDRESSES[far], *(["--tls-client"] if side == "left" else ["--tls-server", "--dh", "none"]),
            "--cert", f"{side}.crt", "--key", f"{side}.key", "--peer-fingerprint", said.strip().split("=", 1)[1],
            "--data-ciphers", "AES-256-GCM", "--tun-mtu", INNER_MTU, "--verb", "3",
            "--ifconfig-ipv6", f"{self.inside[side]}/64", self.inside[far]])

    def connect(self, pair):
        self.end(pair, "left")
        return True


class BareTunnel(Product):
    """the least that a tunnel in userspace does: TUN and UDP with every offload, AES-256-GCM in packets of the usual size, nothing else

    A program of our own (bare_tunnel.rs) on the daemon's own TUN and UDP: what those cost without all the rest."""

    is_tunnel = True
    by_default = False
    DEVICE = "bare0"

    def __init__(self, name, options, *arguments):
        super().__init__(name, options)
        self.binary, self.arguments = options.bare_tunnel, arguments

    def about(self):
        about = "the same without encryption: it copies" if self.arguments else super().about()
        return f"{about} (measured if --only names it)"

    def missing(self):
        if os.access(self.binary, os.X_OK):
            return None
        return f"{self.binary} is not there: cargo build --release --example bare-tunnel"

    def version(self):
        return f"bare-tunnel{source_of(self.binary)}"

    def start(self, pair):
        for side in SIDES:
            ends = [f"{Pair.ADDRESSES[end]}:4500" for end in (side, other(side))]
            pair.daemon(side, [self.binary, self.DEVICE, *ends, *self.arguments])
            pair.until(f"{self.name} has its device on the {side}",
                       lambda: self.DEVICE in run(["ip", "-n", pair.netns(side), "-o", "link"]))
            for change in (["addrgenmode", "none"], ["mtu", str(INNER_MTU), "up"], ["gso_max_size", str(GSO_MAX_SIZE)]):
                run(["ip", "-n", pair.netns(side), "link", "set", self.DEVICE, *change])
            run(["ip", "-n", pair.netns(side), "addr", "add", f"{self.inside[side]}/64", "dev", self.DEVICE, "nodad"])


def catalogue(options):
    """Every product, in the order of the table."""
    peers = Path(options.peers)
    aes, chacha = ("aes-256-gcm-iiv", "aes-256-gcm"), ("chacha20-poly1305-iiv", "chacha20-poly1305")
    crate = "cargo install --locked --root {} {}-cli --version {}"
    return [
        Product("plain", options),
        Domicile("domicile-aes256gcm", options, aes, options.domicile),
        Domicile("domicile-chacha20poly1305", options, chacha, options.domicile),
        Domicile("domicile-noencryption", options, aes, options.null_domicile, feature="bench-null-cipher"),
        WireGuard("gotatun", options, [peers / "bin/gotatun"], ["--foreground", "--disable-drop-privileges"],
                  crate.format(peers, "gotatun", "0.10.2")),
        WireGuard("boringtun", options, [peers / "bin/boringtun-cli"], ["--foreground", "--disable-drop-privileges"],
                  crate.format(peers, "boringtun", "0.7.1")),
        WireGuard("wireguard-go", options, [peers / "bin/wireguard-go", "wireguard-go"], ["--foreground"], "apt-get install wireguard-go"),
        StrongSwan("strongswan", options),
        OpenVpn("openvpn", options),
        BareTunnel("bare-tunnel", options),
        BareTunnel("bare-tunnel-noencryption", options, "--no-encryption"),
    ] + [
        Domicile(f"domicile-without-{name}", options, aes, options.domicile, without=without)
        for name, without in [*((offload, offload) for offload in OFFLOADS), ("all", ",".join(OFFLOADS))]
    ]
