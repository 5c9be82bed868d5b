"""The runs: every product, interleaved, several times; then the table, the verdicts, the JSON and the plot."""
import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import time

import report
from machine import Failed, Pair
from measures import BY_NAME, MEASURES, Session
from plot import plot
from products import ROOT, catalogue

EPILOG = """
products:
{products}

measures (unit; which is better):
{measures}

how it is measured
  Two network namespaces, a veth pair between them with MTU 1500, and inside the tunnel MTU 1400. Both ends and the load share the
  CPUs of this machine, so throughput tells what a byte costs. Absolute figures change from machine to machine and from hour to hour:
  compare products within one run, and let nothing else run meanwhile. Each run starts every product in turn, measures it and stops
  it, so that a slow minute hits all of them; the table has medians, with the least and the most of the runs.

examples
  sudo scripts/bench --json bench.json --svg bench.svg                 everything: about 50 s for each product and run
  sudo scripts/bench --only plain,domicile-aes256gcm,gotatun --measures tcp1,ping_idle --runs 1 --seconds 2
  sudo scripts/bench --veth nic --measures tcp1,tcp4                   a wire that segments like a network card
  sudo scripts/bench --from bench.json --svg bench.svg                 table, verdicts and plot again, of an earlier run

--setup-only installs and builds without measuring, --no-setup measures without installing. Ctrl-C stops it and leaves nothing behind;
what was measured until then is shown. docs/performance.md says what the figures mean, docs/profiling.md where time goes.
"""


def listing(rows):
    return "\n".join(f"  {name:29} {what}" for name, what in rows)


def names(known, what):
    def parse(text):
        chosen = [name for name in text.split(",") if name]
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"there is no {what} '{name}': there are {', '.join(known)}")
        return chosen
    return parse


def positive(text):
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0")
    return int(text)


def arguments():
    defaults = argparse.Namespace(peers=ROOT / "target/bench-peers", domicile=ROOT / "target/release/domicile",
                                  null_domicile=ROOT / "target/bench-null/release/domicile",
                                  bare_tunnel=ROOT / "target/release/examples/bare-tunnel")
    known = catalogue(defaults)
    products, usual = [product.name for product in known], [product.name for product in known if product.by_default]
    about = {product.name: product.about() for product in known}
    parser = argparse.ArgumentParser(
        prog="scripts/bench", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measures domicile beside other userspace tunnels and beside the plain wire, on this machine.",
        epilog=EPILOG.format(products=listing(about.items()),
                             measures=listing((m.name, f"{m.unit}; {m.better}: {m.what}") for m in MEASURES)))
    add = parser.add_argument
    add("--json", metavar="FILE", help="write the results: a list of {product, measure, unit, median, min, max, runs}")
    add("--svg", metavar="FILE", help="draw them")
    add("--runs", type=positive, default=3, metavar="N", help="how often everything is measured (default 3)")
    add("--seconds", type=positive, default=3, metavar="S", help="how long each transfer lasts (default 3)")
    add("--only", type=names(products, "product"), default=usual, metavar="PRODUCT,…", help="these products alone")
    add("--measures", type=names(list(BY_NAME), "measure"), default=list(BY_NAME), metavar="MEASURE,…", help="these measures alone")
    add("--veth", choices=["offload", "nic"], default="offload",
        help="offload: super-packets cross the wire whole (default); nic: tso off tx-udp-segmentation off gro on")
    add("--profile", metavar="DIR", help="write what perf sees of the whole machine during TCP, one stream, to DIR/PRODUCT.perf")
    add("--peers", default=str(defaults.peers), metavar="DIR", help="where peers of crates.io are, in bin/ (default target/bench-peers)")
    add("--domicile", default=str(defaults.domicile), metavar="FILE", help="the program under test (default target/release/domicile)")
    add("--null-domicile", default=str(defaults.null_domicile), metavar="FILE",
        help="its build that encrypts nothing (default target/bench-null/release/domicile)")
    add("--bare-tunnel", default=str(defaults.bare_tunnel), metavar="FILE",
        help="the program of bare-tunnel (default target/release/examples/bare-tunnel)")
    add("--from", dest="earlier", metavar="FILE", help="measure nothing: show what is in this JSON file")
    add("--list", action="store_true", help="name the products and measures, and end")
    options = parser.parse_args()
    if options.profile:
        options.profile = os.path.abspath(options.profile)
        os.makedirs(options.profile, exist_ok=True)
    for name in ("peers", "domicile", "null_domicile", "bare_tunnel"):
        setattr(options, name, os.path.abspath(getattr(options, name)))
    return options, products


def progress(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def first_reply(product, pair):
    """Sends packets until one is answered; seconds from the first of them, or from the command that connects."""
    prober = pair.probe("left", "first", product.inside["right"], 20)
    began = time.monotonic()
    connected = product.connect(pair)
    seen = pair.finish(prober, 30)
    return seen["answered"] - (began if connected else seen["asked"])


def in_order(chosen):
    """An idle echo before anything has filled a queue; memory after everything."""
    return [BY_NAME[name] for name in sorted(chosen, key=lambda name: {"ping_idle": 0, "rss": 2}.get(name, 1))]


def session(product, options, number, results):
    """One run of one product. Raises Failed when it cannot be started; a measure that fails alone is told and left out."""
    label = f"run {number} of {options.runs}: {product.name}"
    pair = Pair(product.name, options.veth)
    try:
        product.start(pair)
        first = first_reply(product, pair)
        pair.note_tunnel()
        now = Session(product, pair, options, first)
        for measure in in_order(options.measures):
            try:
                value = measure.function(now)
            except Exception as problem:  # what another program printed may surprise: that must not lose the other measures
                if not isinstance(problem, Failed):
                    problem = f"{type(problem).__name__}: {problem}"
                progress(f"{label}: {measure.name}: {problem}")
                results.failures.setdefault((product.name, measure.name), str(problem))
                continue
            if value is not None:
                results.values.setdefault((product.name, measure.name), []).append(value)
                progress(f"{label}: {measure.name} {report.figure(value)} {measure.unit}")
    finally:
        pair.close()


class Results:
    def __init__(self):
        self.values, self.failures, self.left_out, self.versions = {}, {}, {}, {}

    def rows(self, order):
        """The document of --json."""
        rows = []
        for product in order:
            for measure in MEASURES:
                values = self.values.get((product, measure.name))
                if values:
                    rows.append({"product": product, "measure": measure.name, "unit": measure.unit,
                                 "median": round(statistics.median(values), 4), "min": round(min(values), 4),
                                 "max": round(max(values), 4), "runs": len(values)})
        return rows


def measure_all(options, products, results, save):
    """Every product in turn, again and again; `save` is called after each, so that little is lost whatever happens."""
    chosen = [product for product in products if product.name in options.only]
    for product in list(chosen):
        reason = product.missing()
        if reason:
            results.left_out[product.name] = reason
            progress(f"{product.name} is left out: {reason}")
            chosen.remove(product)
        else:
            results.versions[product.name] = product.version()
            progress(f"{product.name}: {results.versions[product.name]}")
    for number in range(1, options.runs + 1):
        for product in list(chosen):
            try:
                session(product, options, number, results)
            except Exception as problem:
                progress(f"{product.name} is left out from now on: {problem}")
                results.left_out[product.name] = f"in run {number}: {problem}"
                chosen.remove(product)
            save()


def need_tools():
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    os.environ["PATH"] = path
    wanted = {"ip": "iproute2", "ss": "iproute2", "ethtool": "ethtool", "iperf3": "iperf3", "ping": "iputils-ping", "sysctl": "procps"}
    absent = sorted({package for tool, package in wanted.items() if not shutil.which(tool, path=path)})
    if absent:
        sys.exit(f"scripts/bench: missing here: apt-get install {' '.join(absent)}")
    if os.geteuid() != 0:
        sys.exit("scripts/bench: network namespaces need root: sudo scripts/bench")


def write_json(name, rows):
    if name:
        with open(name, "w") as file:
            file.write("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


def interrupted(_number, _frame):
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)  # what follows is the clean-up
    raise KeyboardInterrupt


def main():
    options, order = arguments()
    if options.list:
        print("\n".join([*order, "", *BY_NAME]))
        return 0
    results, code = Results(), 0
    if options.earlier:
        with open(options.earlier) as file:
            rows = json.load(file)
    else:
        need_tools()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, interrupted)
        report.surroundings(progress)
        try:
            measure_all(options, catalogue(options), results, lambda: write_json(options.json, results.rows(order)))
        except KeyboardInterrupt:
            progress("interrupted: what follows is what was measured until now")
            code = 130
        rows = results.rows(order)
    write_json(options.json, rows)
    if options.svg:
        with open(options.svg, "w") as file:
            file.write(plot(rows, order, MEASURES))
    print(report.text(rows, order, MEASURES, results, options.veth))
    return code or (0 if rows else 1)


sys.exit(main())
