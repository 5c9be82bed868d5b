# The runner itself. Told to stop in the middle of a story it goes at once, with processes, namespaces and files; and two
# runs at a time do not meet.
mkdir "$DIR/files"
# In a session of its own, and told to stop when this story is.
run() {
    (trap - INT; TMPDIR="$DIR/files" exec setpriv --pdeathsig TERM setsid "$TESTS/run" "$1" >"$DIR/$2.out" 2>&1) &
    echo $! >"$DIR/$2.pid"
}
spaces() { ip netns list | awk -v ns="dom$(cat "$DIR/$1.pid")-" 'index($1, ns) == 1 {print $1}'; }
pids() { local ns; for ns in $(spaces "$1"); do ip netns pids "$ns"; done; }
# Not by way of grep -q: it is gone before the last of them is told, which then counts as a failure (pipefail).
busy() { [ -n "$(pids "$1")" ]; }
ended() { ! kill -0 "$(cat "$DIR/$1.pid")" 2>/dev/null; }

for signal in INT TERM HUP; do
    run 40-loss stopped
    until_true 100 "the story has daemons" busy stopped
    left=$(pids stopped)
    began=$(ms)
    # As a terminal does it: INT goes to the whole foreground group, the others to the process.
    kill -s $signal -- "$([ $signal = INT ] && echo -)$(cat "$DIR/stopped.pid")"
    until_true 30 "the runner goes on SIG$signal" ended stopped
    took=$(( $(ms) - began ))
    wait "$(cat "$DIR/stopped.pid")" && fail "SIG$signal: it says that it passed" || code=$?
    [ $code = $(( 128 + $(kill -l $signal) )) ] || fail "SIG$signal: it exits with $code: $(cat "$DIR/stopped.out")"
    [ -z "$(spaces stopped)" ] || fail "SIG$signal leaves namespaces: $(spaces stopped)"
    for pid in $left; do [ ! -e "/proc/$pid/exe" ] || fail "SIG$signal leaves $(tr '\0' ' ' <"/proc/$pid/cmdline")"; done
    [ -z "$(ls "$DIR/files")" ] || fail "SIG$signal leaves files: $(ls "$DIR/files")"
    say "SIG$signal in the middle of a story: gone after $took ms"
done

run 12-down one; run 12-down two
for name in one two; do
    wait "$(cat "$DIR/$name.pid")" || fail "two runs at a time: $(cat "$DIR/$name.out")"
    grep -qx "1 passed, 0 failed" "$DIR/$name.out" || fail "$(cat "$DIR/$name.out")"
    [ -z "$(spaces $name)" ] || fail "namespaces are left: $(spaces $name)"
done
[ -z "$(ls "$DIR/files")" ] || fail "files are left: $(ls "$DIR/files")"
