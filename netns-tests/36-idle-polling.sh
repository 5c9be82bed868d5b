# On a virtual machine whose idle CPUs can look for work instead of halting, they do while much is carried, at both ends, and not for an
# echo now and then, nor when it is over, nor when it is not wanted; on other machines they never do.
two_hosts
pair
start a; start b
reaches a $B6 3 || fail "no tunnel"
held() { find "/proc/$(cat "$DIR/$1.pid")/fd" -lname /dev/cpu_dma_latency | wc -l; }
# polls HOST WORD COUNT: what status says, and how many requests the daemon holds.
polls() { [ "$(status "$1" .data_plane.idle_polling) $(held "$1")" = "$2 $3" ]; }

if ! grep -sqx haltpoll /sys/devices/system/cpu/cpuidle/current_driver; then
    iperf b $B6 a -t 2 >/dev/null
    for host in a b; do polls $host null 0 || fail "$host: $(status $host .data_plane), requests: $(held $host)"; done
    say "idle CPUs of this machine are left alone"
    stop a; stop b
    exit 0
fi
reaches a $B6 20 || fail "echoes are lost"
for host in a b; do polls $host false 0 || fail "$host at rest: $(status $host .data_plane), requests: $(held $host)"; done
iperf b $B6 a -t 6 >"$DIR/bulk.json" & running=$!
for host in a b; do until_true 50 "$host keeps the CPUs awake" polls $host true 1; done
wait $running
say "$(mbits <"$DIR/bulk.json") Mbit/s"
for host in a b; do until_true 30 "$host lets the CPUs sleep again" polls $host false 0; done

stop a
DOMICILE_WITHOUT=idle-polling start a
until_true 100 "a reaches b again" reaches a $B6
iperf b $B6 a -t 3 >/dev/null & running=$!
until_true 30 "b keeps the CPUs awake" polls b true 1
polls a null 0 || fail "a, which was told not to: $(status a .data_plane), requests: $(held a)"
wait $running
stop a; stop b
