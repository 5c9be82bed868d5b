"""What docs/wireshark/domicile.lua reads, against what the programs logged, and against garbage. Used by 82-dissector.sh.

    dissector.py session DIRECTORY DISSECTOR    home.pcap and right.pcap, *.log, *.toml, keys.* of the story
    dissector.py crafted DIRECTORY DISSECTOR    messages that a session does not have, and all that can be wrong with them
    dissector.py mutated DIRECTORY DISSECTOR    the session's packets, with random octets changed, cut, and more
"""
import collections, glob, hashlib, ipaddress, json, os, random, re, socket, struct, subprocess, sys

command, directory, dissector = sys.argv[1:4]
HOME, RIGHT = "192.0.2.10", "203.0.113.2"

def check(condition, what):
    if not condition: sys.exit(f"FAIL: {what}")

def tshark(pcap, *arguments, keys=(), script=dissector):
    options = ["-o", "esp.enable_encryption_decode:TRUE", "-X", "lua_script:" + script]
    for key in keys: options += ["-o", key]
    run = subprocess.run(["tshark", "-r", pcap, *options, *arguments], capture_output=True, timeout=200)
    check(run.returncode in (0, 2), f"tshark ended with {run.returncode}: {run.stderr.decode(errors='replace')[-500:]}")
    return run.stdout.decode(errors="replace") + run.stderr.decode(errors="replace")

def session_keys():
    return sorted({line.strip() for name in glob.glob(directory + "/keys.*") for line in open(name)})

# --- pcap files ---------------------------------------------------------------------------------------------------

def read_pcap(name):
    """Ethernet frames with a fixed IPv4 header and UDP, of a little-endian file."""
    data = open(name, "rb").read()
    check(data[:4] == b"\xd4\xc3\xb2\xa1", name + " is no pcap of this machine")
    at, frames = 24, []
    while at + 16 <= len(data):
        size = struct.unpack_from("<I", data, at + 8)[0]
        frames.append(data[at + 16:at + 16 + size])
        at += 16 + size
    return frames

def write_pcap(name, frames):
    """frames: octets, or (octets, octets that were on the wire)."""
    with open(name, "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 262144, 1))
        for number, frame in enumerate(frames):
            octets, wire = frame if isinstance(frame, tuple) else (frame, len(frame))
            out.write(struct.pack("<IIII", number // 1000, number % 1000 * 1000, len(octets), wire) + octets)

def frame(payload, source=("203.0.113.1", 4500), destination=(HOME, 4500)):
    udp = struct.pack("!HHHH", source[1], destination[1], 8 + len(payload), 0) + payload
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0,
                     socket.inet_aton(source[0]), socket.inet_aton(destination[0]))
    return b"\x02" * 6 + b"\x04" * 6 + b"\x08\x00" + ip + udp

# --- what the dissector reads, packet by packet ---------------------------------------------------------------------

FIELDS = """ip.src udp.srcport ip.dst udp.dstport
    domicile.relayed.source domicile.relayed.destination domicile.relayed.source_home domicile.relayed.destination_home
    domicile.relayed.hops domicile.relayed.content
    domicile.path.version domicile.path.type domicile.path.in_use domicile.path.answer domicile.path.moves
    domicile.path.generation domicile.path.acknowledged domicile.path.count domicile.path.candidate.kind
    domicile.path.candidate.address domicile.path.candidate.port domicile.path.token domicile.path.size
    domicile.path.observed.address domicile.path.observed.port
    domicile.binding.kind domicile.binding.cookie domicile.binding.observed.address domicile.binding.observed.port
    mip6.mhtype mip6.bu.seqnr mip6.bu.lifetime mip6.bu.a_flag mip6.bu.h_flag mip6.bu.k_flag mip6.nemo.bu.r_flag mip6.bu.f_flag
    mip6.ipv4coa.addr mip6.nemo.mnp.mnp mip6.nemo.mnp.pfl mip6.ba.seqnr mip6.ba.lifetime mip6.ba.status
    domicile.ike.version domicile.ike.address_hash domicile.ike.document domicile.ike.endorsement.old
    domicile.ike.endorsement.new domicile.ike.endorsement.signature
    isakmp.ispi isakmp.rspi isakmp.exchangetype isakmp.flag_r esp.spi""".split()

class Packet(dict):
    """Field to list of values."""
    __missing__ = lambda self, key: []
    def one(self, field):
        return self[field][0] if self[field] else None
    def all_integers(self, field):
        return [int(value, 0) for value in self[field]]
    def integer(self, field):
        return None if self.one(field) is None else int(self.one(field), 0)
    def truth(self, field):
        return self.one(field) in ("1", "True")
    def ends(self):
        return f"{self.one('ip.src')}:{self.one('udp.srcport')}", f"{self.one('ip.dst')}:{self.one('udp.dstport')}"

def packets(pcap, keys, only):
    arguments = ["-T", "fields", "-E", "occurrence=a", "-E", "aggregator=|", "-Y", only]
    for field in FIELDS: arguments += ["-e", field]
    for line in tshark(pcap, *arguments, keys=keys).splitlines():
        columns = line.split("\t")
        if len(columns) == len(FIELDS):
            yield Packet({field: column.split("|") for field, column in zip(FIELDS, columns) if column})

# --- what the programs logged ---------------------------------------------------------------------------------------

def logged(name, what):
    """(by, to, from, text) of each message that arrived."""
    pattern = re.compile(what + r" says by=(\S+) to=(\S+) from=(\S+) (?:message=)?Ok\((.*)\)$")
    return [match.groups() for line in open(f"{directory}/{name}.log") if (match := pattern.search(line.strip()))]

def number(text, name): return int(re.search(rf"\b{name}: (\d+)", text).group(1))
def boolean(text, name): return re.search(rf"\b{name}: (\w+)", text).group(1) == "true"
def octets(text, name):
    found = re.search(rf"\b{name}: (?:Some\()?\[([\d, ]+)\]", text)
    return bytes(map(int, found.group(1).split(", "))).hex() if found else None
def some(text, name):
    found = re.search(rf"\b{name}: Some\(([^\[\]()]+)\)", text)
    return found.group(1) if found else None

def path_of_log(text):
    base = number(text, "moves"), boolean(text, "in_use")
    if "body: Candidates" in text:
        entries = re.findall(r"Candidate \{ kind: (\w+), address: ([\d.:]+) \}", text)
        kinds = {"Interface": 1, "Observed": 2}
        return base + ("candidates", number(text, "generation"), number(text, "acknowledged"), boolean(text, "answer"),
                       tuple((kinds[kind], address) for kind, address in entries))
    if "body: Challenge" in text: return base + ("challenge", octets(text, "token"), number(text, "size"))
    return base + ("response", octets(text, "token"), some(text, "observed"))

def path_of_packet(packet):
    check(packet.integer("domicile.path.version") == 1, "version of path control")
    base = packet.integer("domicile.path.moves"), packet.truth("domicile.path.in_use")
    token, kind = packet.one("domicile.path.token"), packet.integer("domicile.path.type")
    if kind == 1:
        addresses = [f"{a}:{p}" for a, p in zip(packet["domicile.path.candidate.address"], packet["domicile.path.candidate.port"])]
        entries = tuple(zip(packet.all_integers("domicile.path.candidate.kind"), addresses))
        check(packet.integer("domicile.path.count") == len(entries), "number of candidates")
        return base + ("candidates", packet.integer("domicile.path.generation"), packet.integer("domicile.path.acknowledged"),
                       packet.truth("domicile.path.answer"), entries)
    if kind == 2: return base + ("challenge", token, packet.integer("domicile.path.size"))
    observed = packet.one("domicile.path.observed.address")
    return base + ("response", token, observed and f"{observed}:{packet.one('domicile.path.observed.port')}")

def binding_of_log(text):
    if text.startswith("Update"):
        flags = tuple(boolean(text, name) for name in ("acknowledge", "home_registration", "key_management", "mobile_router", "force_udp"))
        prefixes = tuple(re.search(r"prefixes: \[(.*?)\]", text).group(1).split(", "))
        return "update", number(text, "sequence"), int(re.search(r"Lifetime\((\d+)\)", text).group(1)), flags, some(text, "care_of"), prefixes
    if text.startswith("Acknowledgement"):
        status = int(re.search(r"Status\((\d+)\)", text).group(1))
        return ("acknowledgement", number(text, "sequence"), int(re.search(r"Lifetime\((\d+)\)", text).group(1)), status,
                some(text, "observed"), octets(text, "challenge"))
    if text.startswith("Challenge"): return "challenge", bytes(map(int, re.search(r"\[([\d, ]+)\]", text).group(1).split(", "))).hex(), None
    return "response", octets(text, "cookie"), some(text, "observed")

def binding_of_packet(packet):
    kind, observed = packet.integer("mip6.mhtype"), packet.one("domicile.binding.observed.address")
    observed = observed and f"{observed}:{packet.one('domicile.binding.observed.port')}"
    if kind == 5:
        flags = tuple(packet.truth(name) for name in
                      ("mip6.bu.a_flag", "mip6.bu.h_flag", "mip6.bu.k_flag", "mip6.nemo.bu.r_flag", "mip6.bu.f_flag"))
        prefixes = tuple(f"{net}/{length}" for net, length in zip(packet["mip6.nemo.mnp.mnp"], packet["mip6.nemo.mnp.pfl"])) or ("",)
        return "update", packet.integer("mip6.bu.seqnr"), packet.integer("mip6.bu.lifetime"), flags, packet.one("mip6.ipv4coa.addr"), prefixes
    if kind == 6:
        return ("acknowledgement", packet.integer("mip6.ba.seqnr"), packet.integer("mip6.ba.lifetime"), packet.integer("mip6.ba.status"),
                observed, packet.one("domicile.binding.cookie"))
    return {2: "challenge", 3: "response"}[packet.all_integers("domicile.binding.kind")[0]], packet.one("domicile.binding.cookie"), observed

def all_are_in(what, said, seen):
    missing = collections.Counter(said) - collections.Counter(seen)
    check(not missing, f"{what}: logged, and not read by the dissector: {list(missing)[:3]}; it has, among others, {list(seen)[:3]}")

def session():
    keys = session_keys()
    entity = {name: re.search(r'(?m)^address = "(.*)"', open(f"{directory}/{name}.toml").read()).group(1) for name in ("laptop", "phone", "server")}
    right, home = directory + "/right.pcap", directory + "/home.pcap"
    for pcap in right, home:
        found = tshark(pcap, "-Y", "_ws.malformed || _ws.expert.severity == error || _ws.lua.error", keys=keys)
        check(" → " not in found, f"fault is found with {pcap}: {found[:500]}")
        check("Lua Error" not in found, found[:500])

    # Path control, as the server got it; of the relayed messages also between whom.
    # The home agent itself is reached straight at the home.
    agent = str(ipaddress.IPv6Address((0x2002 << 112) | (int(ipaddress.IPv4Address(HOME)) << 80) | 1))
    said = [(origin, by if origin.startswith(HOME) and by != agent else None, path_of_log(text))
            for by, to, origin, text in logged("server", "path control")]
    seen = [(packet.ends()[0], packet.one("domicile.relayed.source"), path_of_packet(packet))
            for packet in packets(right, keys, f"domicile.path && ip.dst == {RIGHT}")]
    all_are_in("path control", said, seen)
    kinds = collections.Counter(message[2] for _, _, message in said)
    check({message[5] for *_, message in said if message[2] == "candidates"} == {True, False}, "candidates and answers are both there")
    check(any(message[0] > 0 for *_, message in said), "a message after a move is there")
    check(len(kinds) == 3 and min(kinds.values()) >= 2, f"all three types are there: {kinds}")
    check(any(message[4] > 1000 for *_, message in said if message[2] == "challenge"), "a large challenge is there")
    moved = re.findall(r"moved to another path: .* to=([\d.:]+) kind=\"direct\"", open(directory + "/server.log").read())
    direct = {packet.ends()[0] for packet in packets(right, keys, f"icmpv6.type == 128 && !domicile.relayed.source && ip.dst == {RIGHT}")}
    check(direct and direct <= set(moved), f"direct traffic from {direct}, and the server moved to {moved}")
    print(f"  path control: {sum(kinds.values())} messages, each field as logged")

    # Bindings, as the home got them, and as the nodes got the answers.
    said = [(origin, binding_of_log(text)) for _, _, origin, text in logged("home", "mobility")]
    seen = [(packet.ends()[0], binding_of_packet(packet)) for packet in packets(home, keys, f"mip6.mhtype && ip.dst == {HOME}")]
    all_are_in("bindings", said, seen)
    answers = [binding_of_log(text) for name in entity for *_, text in logged(name, "mobility")]
    all_are_in("acknowledgements", answers, [binding_of_packet(packet) for packet in packets(home, keys, f"mip6.mhtype && ip.src == {HOME}")])
    check(any(kind == "response" for _, (kind, *_) in said), "a cookie came back")
    check(any(answer[0] == "acknowledgement" and answer[5] for answer in answers), "an acknowledgement with a challenge is there")
    print(f"  bindings: {len(said)} messages to the home and {len(answers)} from it, each field as logged")

    # The relayed path, at the home: each packet comes and goes, one home agent passed.
    flows = collections.Counter()
    spis = {key.split('"')[7] for key in keys if key.startswith("uat:esp_sa")}
    for packet in packets(home, keys, "domicile.relayed.source"):
        ends = packet.one("domicile.relayed.source"), packet.one("domicile.relayed.destination")
        check(set(ends) <= set(entity.values()), f"relayed between {ends}")
        check(packet.one("domicile.relayed.source_home") == packet.one("domicile.relayed.destination_home") == HOME, "homes in the addresses")
        arrived, content = packet.one("ip.dst") == HOME, packet.one("domicile.relayed.content")
        check(packet.integer("domicile.relayed.hops") == (0 if arrived else 1), "home agents passed")
        check((packet.one("isakmp.ispi") is None) == (content == "ESP") and content in ("ESP", "IKE"), f"content: {content}")
        check(content == "IKE" or packet.one("esp.spi") in spis, "the SPI is that of an SA")
        flows[ends, content, arrived] += 1
    check(len(flows) >= 8, f"relayed in both directions between two pairs: {flows}")
    for ends, content, _ in list(flows):
        # Not from a care-of address that is not proven yet.
        check(0 < flows[ends, content, False] <= flows[ends, content, True], f"relayed packets came and went: {flows}")
    print(f"  relayed path: {sum(flows.values())} packets at the home, between whom and what as is known")

    # The private notifies of IKE: the hash is that of the sender's own address (RFC 7296 §2.23).
    hashes = 0
    for packet in packets(home, keys, "domicile.ike.address_hash && isakmp.exchangetype == 34 && !domicile.relayed.source"):
        check(packet.integer("domicile.ike.version") == 1, "version of DOMICILE")
        response = packet.truth("isakmp.flag_r")
        spis = bytes.fromhex(packet.one("isakmp.ispi") + packet.one("isakmp.rspi"))
        # Site N hands out 10.N.0.10 and upwards; a join has some port of its own.
        site, wanted = packet.one("ip.src").split(".")[3], packet.one("domicile.ike.address_hash")
        own = [HOME] if response else [f"10.{site}.0.{n}" for n in range(10, 13)]
        ports = [4500] if response else (4500, *range(1, 65536))
        check(any(address_hash(spis, ip, port) == wanted for port in ports for ip in own), f"hash of {packet.ends()[0]}")
        hashes += 1
    check(hashes >= 6, f"{hashes} notifies DOMICILE")
    documents = [json.loads(packet.one("domicile.ike.document")) for packet in packets(home, keys, "domicile.ike.document")]
    joins = [document["join"]["label"] for document in documents if "join" in document]
    joined = {document["joined"]["address"] for document in documents if "joined" in document}
    revoked = {entry["address"] for document in documents if "revoked" in document for entry in document["revoked"]["list"]}
    check(joins == ["laptop", "phone", "server"], f"documents: join of {joins}")
    check(joined == set(entity.values()), f"documents: joined as {joined}")
    check(revoked == {entity["phone"]}, f"documents: revoked {revoked}")
    print(f"  IKE: {hashes} address hashes computed anew, {len(documents)} documents")

def address_hash(spis, ip, port):
    return hashlib.sha1(spis + socket.inet_aton(ip) + struct.pack("!H", port)).hexdigest()

# --- messages made by hand -----------------------------------------------------------------------------------------------

SPI = 0x1111aaaa
NULL_KEY = [f'uat:esp_sa:"{ip}","*","*","0x{SPI:08x}","NULL","","NULL",""' for ip in ("IPv4", "IPv6")]

def esp(plaintext, next_header):
    """ENCR_NULL and no integrity: for the dissector only."""
    pad = -(len(plaintext) + 2) % 4
    return struct.pack("!II", SPI, 1) + plaintext + bytes(range(1, pad + 1)) + bytes([pad, next_header])

def ipv6(payload, next_header, source="2002:c000:20a:1:0:1:0:1", destination="2002:c000:20a:101::1", hops=64):
    return struct.pack("!IHBB", 0x60000000, len(payload), next_header, hops) + socket.inet_pton(10, source) + socket.inet_pton(10, destination) + payload

def mobility(kind, data): return bytes([59, (6 + len(data)) // 8 - 1 if (6 + len(data)) >= 8 else 0, kind, 0, 0, 0]) + data
def option(kind, data): return bytes([kind, len(data)]) + data

def notify(kind, data):
    payload = struct.pack("!BBHBBH", 0, 0, 8 + len(data), 0, 0, kind) + data
    return bytes(4) + struct.pack("!QQBBBBII", 1, 2, 41, 0x20, 37, 8, 1, 28 + len(payload)) + payload

def candidates(count, kind=2): return struct.pack("!III", 7, 6, count << 24) + struct.pack("!BBH4s", kind, 0, 4500, socket.inet_aton("203.0.113.9")) * count
def path(kind, body, flags=3, version=1): return b"domi" + struct.pack("!BBBBI", version, kind, flags, 0, 5) + body

TOKEN = bytes(range(8))
PATH = {"candidates": path(1, candidates(3)), "challenge": path(2, TOKEN + bytes(40)),
        "response": path(3, TOKEN + socket.inet_aton("203.0.113.9") + struct.pack("!HH", 1024, 0))}
OBSERVED = option(18, b"\xd0\xc1\x01\0" + socket.inet_aton("203.0.113.9") + b"\x04\0")
COOKIE = option(18, b"\xd0\xc1\x02\0" + TOKEN)
NEMO = b"\1\2\0\0" + option(6, b"\0\x40" + socket.inet_pton(10, "2002:c000:20a:101::"))
BINDING = {"update": mobility(5, struct.pack("!HHH", 1, 0xd500, 450) + NEMO + option(32, bytes(2) + socket.inet_aton("10.1.0.9")) + b"\1\2\0\0"),
           "acknowledgement": mobility(6, struct.pack("!BBHH", 0, 0xc0, 1, 450) + option(31, b"\x80\0\0\0\0\x14") + OBSERVED + COOKIE + b"\1\2\0\0"),
           "response": mobility(11, b"\xd0\xc1\x03\0" + TOKEN + OBSERVED + b"\1\0")}
NOTIFY = {"hello": notify(40960, b"\1" + bytes(range(20))), "document": notify(40961, b'{"leave":{}}'),
          "endorsement": notify(40963, bytes([1]) * 32 + bytes([2]) * 32 + bytes([3]) * 64)}

def crafted():
    # Each of them alone is read as it was made.
    samples = [esp(data, 59) for data in PATH.values()] + [esp(ipv6(data, 135), 41) for data in BINDING.values()] + list(NOTIFY.values())
    samples += [ipv6(esp(PATH["challenge"], 59), 50), ipv6(b"\1\xf4\1\xf4\0\x0c\0\0abcd", 17), ipv6(b"\1\3\0\0\0\0\0\0", 58), ipv6(b"x" * 20, 6)]
    name = directory + "/crafted.pcap"
    write_pcap(name, [frame(sample) for sample in samples])
    got = list(packets(name, NULL_KEY, "frame"))
    check(len(got) == len(samples), "each sample is one packet")
    check(path_of_packet(got[0]) == (5, True, "candidates", 7, 6, True, ((2, "203.0.113.9:4500"),) * 3), f"candidates: {got[0]}")
    check(path_of_packet(got[1]) == (5, True, "challenge", TOKEN.hex(), 60), f"challenge: {got[1]}")
    check(path_of_packet(got[2]) == (5, True, "response", TOKEN.hex(), "203.0.113.9:1024"), f"response: {got[2]}")
    check(binding_of_packet(got[3])[3:] == ((True,) * 5, "10.1.0.9", ("2002:c000:20a:101::/64",)), f"update: {got[3]}")
    check(binding_of_packet(got[4])[3:] == (0, "203.0.113.9:1024", TOKEN.hex()), f"acknowledgement: {got[4]}")
    check(binding_of_packet(got[5]) == ("response", TOKEN.hex(), "203.0.113.9:1024"), f"response: {got[5]}")
    check(got[6].one("domicile.ike.address_hash") == bytes(range(20)).hex(), f"DOMICILE: {got[6]}")
    check(got[7].one("domicile.ike.document") == '{"leave":{}}', f"document: {got[7]}")
    check([got[8].one("domicile.ike.endorsement." + part) for part in ("old", "new", "signature")]
          == ["01" * 32, "02" * 32, "03" * 64], f"endorsement: {got[8]}")
    contents = [packet.one("domicile.relayed.content") for packet in got[9:]]
    # IKE without a checksum and whatever is no IKE, ESP or error is refused.
    check(contents == ["ESP", "refused", "ICMPv6 error", "refused"], f"relayed: {contents}")

    # Every way to be cut off, and every octet in turn something else.
    wrong = []
    for wrap, group in ((lambda data: esp(data, 59), PATH), (lambda data: esp(ipv6(data, 135), 41), BINDING), (lambda data: data, NOTIFY)):
        for sample in group.values():
            wrong += [wrap(sample[:length]) for length in range(len(sample))]
            wrong += [wrap(sample[:at] + bytes([value]) + sample[at + 1:]) for at in range(len(sample)) for value in (0, 1, 9, 127, 255)]
    relayed = ipv6(esp(PATH["challenge"], 59), 50)
    wrong += [relayed[:length] for length in range(len(relayed))]
    wrong += [relayed[:at] + bytes([value]) + relayed[at + 1:] for at in range(48) for value in (0, 1, 17, 58, 255)]
    # An option whose length leads past the end, and a list of no candidates, too many, or of another kind.
    wrong += [esp(path(1, candidates(count, kind)), 59) for count in (0, 8, 9, 255) for kind in (0, 3)]
    frames = [frame(data) for data in wrong] + [(whole[:length], len(whole)) for whole in map(frame, samples) for length in range(42, len(whole))]
    survives(directory + "/wrong.pcap", frames, NULL_KEY)
    said = tshark(directory + "/wrong.pcap", "-T", "fields", "-e", "domicile.path.length", "-e", "domicile.path.unknown_version",
                  "-e", "domicile.path.unknown_type", "-e", "domicile.path.unknown_kind", "-e", "domicile.binding.length",
                  "-e", "domicile.ike.length", "-e", "domicile.relayed.refused", "-E", "separator=,", keys=NULL_KEY)
    columns = list(zip(*[line.split(",") for line in said.splitlines() if line.count(",") == 6]))
    check(len(columns) == 7 and all(any(column) for column in columns), "each expert item is seen: " + str([any(column) for column in columns]))
    print(f"  {len(samples)} messages made by hand are read; {len(frames)} wrong ones are survived, and told")

def survives(name, frames, keys):
    write_pcap(name, frames)
    text = tshark(name, "-V", keys=keys)
    error = re.search(r".*Lua Error.*|.*\[string .*", text)
    check(not error, f"{name}: {error and error.group(0)}")
    check(text.count("\nFrame ") + text.startswith("Frame ") == len(frames), f"{name}: tshark did not read all of it")

def mutated():
    # That an error is seen when there is one.
    with open(directory + "/broken.lua", "w") as out:
        out.write('local p = Proto("broken", "broken")\nfunction p.dissector(tvb) tvb(9999, 4):uint() end\nregister_postdissector(p)\n')
    check("Lua Error" in tshark(directory + "/right.pcap", "-V", "-c", "1", script=directory + "/broken.lua"), "Lua errors are not seen")
    seed = int(os.environ.get("SEED", "1"))
    chance, frames = random.Random(seed), []
    for whole in read_pcap(directory + "/right.pcap") + read_pcap(directory + "/home.pcap"):
        for _ in range(int(os.environ.get("ROUNDS", "8"))):
            head, body = whole[:42], bytearray(whole[42:])
            way = chance.randrange(4)
            if way == 0:
                for _ in range(chance.randrange(1, 9)): body[chance.randrange(len(body))] = chance.randrange(256)
                frames.append(head + bytes(body))
            elif way == 1: frames.append((whole[:chance.randrange(34, len(whole) + 1)], len(whole)))
            elif way == 2: frames.append(frame(bytes(body[:chance.randrange(len(body) + 1)])))
            else: frames.append(frame(bytes(body) + chance.randbytes(chance.randrange(1, 60))))
    survives(directory + "/mutated.pcap", frames, session_keys())
    print(f"  {len(frames)} packets of the session, changed, cut and lengthened, are survived (seed {seed})")

{"session": session, "crafted": crafted, "mutated": mutated}[command]()
