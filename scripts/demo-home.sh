# The second act of scripts/demo, sourced by it: a home, a laptop behind one NAT, a server behind another; they join by codes,
# and the laptop moves to another network in the middle of a download. $domicile and $dir are set; leaves nothing behind.
# shellcheck shell=bash
export NS="demo$$-" DIR=$dir/home DOMICILE=$domicile TESTS=$PWD/netns-tests
mkdir -p "$DIR"
source netns-tests/lib.sh
source netns-tests/home.sh
leave_home() {
    local ns pids
    for ns in $(ip netns list | awk -v ns="$NS" 'index($1, ns) == 1 {print $1}'); do
        pids=$(ip netns pids "$ns" 2>/dev/null || true); [ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
        ip netns del "$ns" 2>/dev/null || true
    done
}
trap 'leave_home; leave' EXIT
# show HOST COMMAND…: runs it there and shows both.
show() {
    local host=$1; shift
    printf '%s# %s\n' "$host" "$(sed "s#$domicile --config $DIR/[a-z]*.toml#domicile#; s#$DIR/##g" <<<"$*")"
    on "$host" "$@" 2>&1
}

story "Now a home: a public machine (192.0.2.10), a laptop behind one NAT, a server behind another, a third network to move to"
internet
site cafe endpoint-independent; site office endpoint-independent; site train endpoint-independent
home_at home 192.0.2.10 home.example
show home "$domicile" --config "$DIR/home.toml" home user add alice
show home "$domicile" --config "$DIR/home.toml" home node add web
place laptop cafe; place server office

story "Both join by one-time codes; their private keys never leave them"
laptop_code=$(code_for alice) server_code=$(code_for web)
show laptop "$domicile" --config "$DIR/laptop.toml" join 192.0.2.10 "$laptop_code" --name laptop --allow-special
show server "$domicile" --config "$DIR/server.toml" join 192.0.2.10 "$server_code" --name server --allow-special | head -1
start laptop; start server; registered laptop; registered server
web=$(entity_of server)

story "The laptop pings the server: first through the home, then straight through both NATs"
show laptop ping -6 -c 4 -i 0.3 "$web"
until_true 100 "the path is direct" path_is laptop "$web" "direct *"
show laptop "$domicile" --config "$DIR/laptop.toml" status | grep -A3 '^PEER'

story "A download over HTTP; in the middle of it the laptop changes from the cafe to the train"
head -c 200000000 /dev/urandom >"$DIR/file"
(exec ip netns exec "${NS}server" python3 -m http.server 80 --bind "$web" --directory "$DIR" >/dev/null 2>&1) &
web_server=$!
until_true 50 "the server listens" bash -c "ip netns exec ${NS}server ss -Hltn 'sport = 80' | grep -q ."
(exec ip netns exec "${NS}laptop" curl -sS --limit-rate 40M -o "$DIR/copy" -w 'curl: %{http_code}, %{size_download} octets in %{time_total} s\n' "http://[$web]/file") &
download=$!
sleep 1.5; echo "laptop: the cafe's network is gone …"; move_host laptop train; echo "laptop: … and has the address $(address_of laptop) on the train"
wait $download
kill $web_server; wait $web_server 2>/dev/null || true
cmp "$DIR/file" "$DIR/copy" && echo "laptop: the download is complete, octet for octet"
show laptop "$domicile" --config "$DIR/laptop.toml" status | grep -A3 '^PEER'
grep 'another path' "$DIR/laptop.log" | sed 's/^ *INFO/laptop:/' | cut -c1-170

story "Down: nothing is left behind"
for machine in laptop server home; do
    show $machine "$domicile" --config "$DIR/$machine.toml" down
    wait "$(cat "$DIR/$machine.pid")" || true
done
leave_home
