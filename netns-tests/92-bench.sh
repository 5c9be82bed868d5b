# scripts/bench itself: every measure of the plain wire and of ours gives a figure, in the form that is promised; a product that is
# not there is left out with its reason and stops nothing; Ctrl-C leaves no namespace. What the figures are is not judged here.
BENCH="$TESTS/../scripts/bench --no-setup --domicile $DOMICILE --runs 1 --peers $DIR/none --bare-tunnel $DIR/none/bare-tunnel"
SHORT="--only plain,domicile-aes256gcm,gotatun,bare-tunnel --seconds 1"
timeout 200 $BENCH $SHORT --json "$DIR/bench.json" --svg "$DIR/bench.svg" >"$DIR/table" 2>"$DIR/progress" || fail "scripts/bench ended with $?: $(tail -3 "$DIR/progress")"

jq -e 'type == "array" and length > 0 and all(.[];
    (keys == ["max", "measure", "median", "min", "product", "runs", "unit"])
    and (.median | type == "number") and .min <= .median and .median <= .max and .runs == 1)' "$DIR/bench.json" >/dev/null ||
    fail "not the form: $(head -c 300 "$DIR/bench.json")"
has() { jq -e --arg p "$1" --arg m "$2" 'any(.[]; .product == $p and .measure == $m and .median >= '"${3:-0}"')' "$DIR/bench.json" >/dev/null; }
# A loss of nothing is a figure as well; everything else is above zero. A machine with much else to do may miss the pace of udp1200_loss.
for measure in tcp1 tcp1_nic tcp4 tcp1_reverse tcp_both udp64_received udp1200_received ping_idle ping_loaded machine_cpu_s_per_gib; do
    for product in plain domicile-aes256gcm; do
        has $product $measure 0.000001 || fail "no $measure of $product: $(grep -E "$product.*$measure|left out" "$DIR/progress" "$DIR/table" | head -3)"
    done
done
for measure in tcp1_rekeying cpu_s_per_gib relay_cpu_s_per_gib rss first_packet handshakes_per_s; do
    has domicile-aes256gcm $measure 0.000001 || fail "no $measure of domicile-aes256gcm: $(grep "$measure" "$DIR/progress" | head -3)"
    if has plain $measure; then fail "the plain wire has no $measure"; fi
done
if has gotatun tcp1; then fail "there are figures of a product that is not there"; fi
grep -q '^left out: gotatun: there is no gotatun: cargo install' "$DIR/table" || fail "it does not say why gotatun is left out"
grep -q '^left out: bare-tunnel: .* cargo build --release --example bare-tunnel$' "$DIR/table" || fail "it does not say why the bare tunnel is left out"
if grep -q 'of the bare tunnel' "$DIR/table"; then fail "a comparison with what was not measured"; fi
grep -qE '^1\. TCP, of plain veth: wanted at least 0\.5, measured [0-9.]+ \(.*\): (holds|DOES NOT HOLD)$' "$DIR/table" || fail "no verdict"
grep -q '^1. TCP, against gotatun: wanted at least 6: not measured$' "$DIR/table" || fail "a verdict about what was not measured"
python3 -c 'import sys, xml.etree.ElementTree as x; assert x.parse(sys.argv[1]).getroot().tag.endswith("svg")' "$DIR/bench.svg" || fail "no SVG"
say "$(jq length "$DIR/bench.json") figures of two products, and why two others have none"

# It is measured only when it is named and built: where the build of the program has one beside it.
bare=${DOMICILE%/*}/examples/bare-tunnel
if [ -x "$bare" ]; then
    timeout 60 $BENCH --bare-tunnel "$bare" --only domicile-aes256gcm,bare-tunnel,bare-tunnel-noencryption --measures tcp1,tcp1_nic,udp64_received,cpu_s_per_gib \
        --seconds 1 --json "$DIR/bare.json" >"$DIR/bare" 2>&1 || fail "the bare tunnel: $(tail -3 "$DIR/bare")"
    [ "$(jq '[.[] | select(.product | startswith("bare-tunnel"))] | length' "$DIR/bare.json")" = 8 ] || fail "the bare tunnel: $(grep bare-tunnel "$DIR/bare" | head -8)"
    grep -qE '^not wanted by it: TCP, of the bare tunnel: measured [0-9.]+ ' "$DIR/bare" || fail "no comparison with the bare tunnel"
    say "the bare tunnel carries, with encryption and without"
fi

PYTHONDONTWRITEBYTECODE=1 python3 -m doctest "$TESTS/../scripts/bench.d/report.py" || fail "the examples of report.py do not hold"

# What was written can be read again, and gives the same.
$BENCH --from "$DIR/bench.json" --json "$DIR/again.json" >"$DIR/table2" || fail "--from"
cmp -s "$DIR/bench.json" "$DIR/again.json" || fail "--from changes the figures"
if $BENCH --only nobody >"$DIR/usage" 2>&1; then fail "an unknown product is taken"; fi
grep -q "there is no product 'nobody'" "$DIR/usage" || fail "an unknown product is not named: $(cat "$DIR/usage")"

# --- Ctrl-C -----------------------------------------------------------------------------------------------------------

# A background job of a script ignores SIGINT otherwise.
python3 -c 'import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])' \
    $BENCH --only domicile-aes256gcm --measures tcp1 --seconds 60 >"$DIR/stopped" 2>&1 & bench=$!
until_true 200 "the transfer runs" bash -c "ip netns pids bench$bench-1-left | xargs -r ps -o comm= -p | grep -q iperf3"
kill -INT $bench
code=0; wait $bench || code=$?
[ $code = 130 ] || fail "it ended with $code after Ctrl-C: $(tail -3 "$DIR/stopped")"
if ip netns list | grep -q "^bench$bench-"; then fail "namespaces are left: $(ip netns list | grep "^bench$bench-")"; fi
grep -q '^Wanted by issue 4' "$DIR/stopped" || fail "no table after Ctrl-C"
say "Ctrl-C in the middle of a transfer leaves nothing behind"
