"""What is printed at the end: one table, the ratios, what was left out, and the verdicts about issue 4."""
import os
import platform

OURS = "domicile-"
AES, CHACHA, NULL = "domicile-aes256gcm", "domicile-chacha20poly1305", "domicile-noencryption"
BARE = "bare-tunnel"
COLUMNS = 4


def figure(value):
    """Three significant digits, no exponent.

    >>> [figure(v) for v in (0, 0.01234, 0.5678, 8.414, 92.36, 498.4, 12345.6)]
    ['0', '0.0123', '0.568', '8.41', '92.4', '498', '12346']
    """
    if value == 0:
        return "0"
    places = 2
    size = abs(value)
    while size >= 10 and places > 0:
        size, places = size / 10, places - 1
    while size < 1 and places < 5:
        size, places = size * 10, places + 1
    return f"{value:.{places}f}"


def surroundings(tell):
    """What the figures depend on, beside the programs."""
    model = "unknown CPU"
    try:
        with open("/proc/cpuinfo") as file:
            model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass
    load = os.getloadavg()[0]
    tell(f"{os.cpu_count()} CPUs ({model}), Linux {platform.release()}, load {load:.2f}")
    if load > 0.5:
        tell("something else is running here: figures of a busy machine compare nothing")


def aligned(rows):
    """A Markdown table whose columns stand below each other."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def best_peer(values, measure, products):
    """The name and median of the best product that is neither ours nor the plain wire nor the bare tunnel, which nobody can use.

    >>> from collections import namedtuple
    >>> M = namedtuple("M", "name better")
    >>> v = {("plain", "x"): 9, ("domicile-a", "x"): 5, ("p", "x"): 1, ("q", "x"): 2}
    >>> best_peer(v, M("x", "higher"), ["plain", "domicile-a", "p", "q"])
    ('q', 2)
    >>> best_peer(v, M("x", "lower"), ["plain", "domicile-a", "p", "q"])
    ('p', 1)
    >>> best_peer(v | {("bare-tunnel", "x"): 7}, M("x", "higher"), ["p", "q", "bare-tunnel"])
    ('q', 2)
    """
    peers = [(values[name, measure.name], name) for name in products
             if name != "plain" and not name.startswith((OURS, BARE)) and (name, measure.name) in values]
    if not peers:
        return None
    value, name = (max if measure.better == "higher" else min)(peers)
    return name, value


def tables(rows, order, measures):
    cells = {(row["product"], row["measure"]): row for row in rows}
    products = [name for name in order if any(row["product"] == name for row in rows)]
    shown = [measure for measure in measures if any(row["measure"] == measure.name for row in rows)]
    for start in range(0, len(shown), COLUMNS):
        block = shown[start:start + COLUMNS]
        table = [["", *(f"{m.name}, {m.unit}" for m in block)]]
        for name in products:
            line = [name]
            for measure in block:
                row = cells.get((name, measure.name))
                if row is None:
                    line.append("–")
                elif row["runs"] == 1:
                    line.append(figure(row["median"]))
                else:
                    line.append(f"{figure(row['median'])} ({figure(row['min'])} – {figure(row['max'])})")
            table.append(line)
        yield aligned(table)


def ratios(values, order, measures):
    """Ours against the plain wire, against the best of the peers, and its variants against AES-256-GCM."""
    table = [["", "measure", "median", "of plain", "of the best peer", "which", "of " + AES]]
    for name in order:
        for measure in measures:
            mine = values.get((name, measure.name))
            if not name.startswith(OURS) or mine is None:
                continue
            plain = values.get(("plain", measure.name))
            peer = best_peer(values, measure, order)
            line = [name, measure.name, f"{figure(mine)} {measure.unit}", f"x {figure(mine / plain)}" if plain else "–"]
            line += [f"x {figure(mine / peer[1])}" if peer[1] else "–", peer[0]] if peer else ["–", "–"]
            usual = values.get((AES, measure.name)) if name != AES else None
            line.append(f"x {figure(mine / usual)}" if usual else "–")
            table.append(line)
    return aligned(table) if len(table) > 1 else ""


# Issue 4, "Done when": what, the measure, of whom, against whom (None: a figure alone; or a measure of whom), and the bound of the
# ratio. What it wants besides that is for the stories in netns-tests/.
WANTED = [
    (1, "TCP, of plain veth", "tcp1", AES, "plain", ">=", 0.50),
    (1, "TCP, against gotatun", "tcp1", AES, "gotatun", ">=", 6.0),
    (1, "TCP, against strongSwan's userspace ESP", "tcp1", AES, "strongswan", ">=", 10.0),
    (1, "TCP, of ours with encryption off", "tcp1", AES, NULL, ">=", 0.90),
    (1, "TCP with ChaCha20-Poly1305, against gotatun", "tcp1", CHACHA, "gotatun", ">=", 4.0),
    (1, "TCP on veth that segments, of plain veth there", "tcp1_nic", AES, "plain", ">=", 0.50),
    (2, "datagrams of 64 octets, against gotatun", "udp64_received", AES, "gotatun", ">=", 2.0),
    (2, "idle ping, of boringtun's", "ping_idle", AES, "boringtun", "<=", 1.0),
    (2, "CPU per GiB, of gotatun's", "cpu_s_per_gib", AES, "gotatun", "<=", 0.125),
    (2, "resident memory of an end, MB", "rss", AES, None, "<=", 20.0),
    (4, "TCP while rekeying every 2 s, of without", "tcp1_rekeying", AES, (AES, "tcp1"), ">=", 0.98),
    (5, "CPU per GiB of both ends together, of the relay's between them (3 for each end)", "relay_ends_cpu_s_per_gib", AES, (AES, "relay_cpu_s_per_gib"), ">=", 6.0),
]


def verdicts(values):
    """The lines of the verdicts.

    >>> lines = verdicts({("domicile-aes256gcm", "tcp1"): 6.0, ("plain", "tcp1"): 10.0, ("gotatun", "tcp1"): 2.0})
    >>> print(lines[0]); print(lines[1]); print(lines[2])
    1. TCP, of plain veth: wanted at least 0.5, measured 0.600 (6.00 / 10.0): holds
    1. TCP, against gotatun: wanted at least 6, measured 3.00 (6.00 / 2.00): DOES NOT HOLD
    1. TCP, against strongSwan's userspace ESP: wanted at least 10: not measured
    >>> [line for line in lines if "bare" in line]
    []
    >>> verdicts({("domicile-aes256gcm", "tcp1"): 6.0, ("bare-tunnel", "tcp1"): 8.0})[-1]
    'not wanted by it: TCP, of the bare tunnel: measured 0.750 (6.00 / 8.00)'
    """
    lines = []
    for number, what, measure, mine, against, relation, bound in WANTED:
        words = f"{number}. {what}: wanted at {'least' if relation == '>=' else 'most'} {bound:g}"
        ours = values.get((mine, measure))
        theirs = values.get(against if isinstance(against, tuple) else (against, measure)) if against else 1
        if ours is None or not theirs:
            lines.append(words + ": not measured")
            continue
        ratio = ours / theirs
        holds = ratio >= bound if relation == ">=" else ratio <= bound
        how = f" ({figure(ours)} / {figure(theirs)})" if against else ""
        lines.append(f"{words}, measured {figure(ratio)}{how}: {'holds' if holds else 'DOES NOT HOLD'}")
    ours, most = values.get((AES, "tcp1")), values.get((BARE, "tcp1"))
    if ours and most:
        lines.append(f"not wanted by it: TCP, of the bare tunnel: measured {figure(ours / most)} ({figure(ours)} / {figure(most)})")
    return lines


def text(rows, order, measures, results, veth):
    values = {(row["product"], row["measure"]): row["median"] for row in rows}
    runs = max((row["runs"] for row in rows), default=0)
    parts = [f"Medians of {runs} run{'s' if runs != 1 else ''}" + (" (least – most)" if runs > 1 else "")
             + (", on veth that segments like a network card" if veth == "nic" else "") + ":"]
    parts += tables(rows, order, measures)
    found = ratios(values, order, measures)
    if found:
        parts += ["Ours as multiples of the plain wire and of the best peer (less is better for " +
                  ", ".join(m.name for m in measures if m.better == "lower") + "):", found]
    if results.versions:
        parts.append("\n".join(f"{name}: {version}" for name, version in results.versions.items()))
    left = [f"left out: {name}: {reason}" for name, reason in results.left_out.items()]
    left += [f"left out: {name}, {measure}: {reason}" for (name, measure), reason in results.failures.items()
             if (name, measure) not in values]
    if any(row["measure"] == "handshakes_per_s" for row in rows):
        left.append("left out: handshakes_per_s of WireGuard: a device has one key, and two keys have one handshake, one in 5 s at most; "
                    "of OpenVPN: not measured")
    if left:
        parts.append("\n".join(left))
    parts.append("\n".join(["Wanted by issue 4:", *verdicts(values)]))
    return "\n\n".join(parts)
