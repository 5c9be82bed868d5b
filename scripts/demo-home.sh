# The second act of scripts/demo, sourced by it: a home, a laptop behind one NAT, a server with a service behind another; they
# join by codes, find each other by name, and the laptop moves to another network in the middle of a download. $domicile and
# $dir are set; leaves nothing behind.
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
    rm -rf "/etc/netns/${NS}laptop"; rmdir /etc/netns 2>/dev/null || true
}
trap 'leave_home; leave' EXIT
# show HOST COMMAND…: runs it there and shows both.
show() {
    local host=$1; shift
    printf '%s# %s\n' "$host" "$(sed "s#$domicile --config $DIR/[a-z]*.toml#domicile#; s#$DIR/##g" <<<"$*")"
    on "$host" "$@" 2>&1
}

# short_status HOST: where it is registered, its peers, and the way to web: why it is in use, and what was before.
short_status() {
    show "$1" "$domicile" --config "$DIR/$1.toml" status | awk -v web="$web" '
        NR == 1 { print; next }
        /^$/ { part = ""; next }
        part == "" { part = ($1 == "REGISTERS" || $1 == "PEER") ? "table" : $1 == web ? "web" : "other" }
        part == "web" && $1 == "ike" { part = "other" }
        part != "other"' | cut -c1-150
}

story "Now a home: a public machine (192.0.2.10), a laptop behind one NAT, a server behind another, a third network to move to"
internet
site cafe endpoint-independent; site office endpoint-independent; site train endpoint-independent
home_at home 192.0.2.10 home.example
show home "$domicile" --config "$DIR/home.toml" home user add alice
show home "$domicile" --config "$DIR/home.toml" home node add server1
show home "$domicile" --config "$DIR/home.toml" home service add web --node server1
place laptop cafe; place server office

story "Both join by one-time codes; their private keys never leave them"
laptop_code=$(code_for alice) server_code=$(code_for server1)
show laptop "$domicile" --config "$DIR/laptop.toml" join 192.0.2.10 "$laptop_code" --name laptop --allow-special
show server "$domicile" --config "$DIR/server.toml" join 192.0.2.10 "$server_code" --name server1 --allow-special | sed -n 1,2p
start laptop; start server; registered laptop; registered server

story "Names: the laptop's resolver is told (one line in resolv.conf here; systemd-resolved where it runs)"
until_true 50 "a line for resolv.conf is shown" grep -q 'nameserver [0-9.]' "$DIR/laptop.log"
mkdir -p "/etc/netns/${NS}laptop"
{ echo "search home.example"; grep -oE 'nameserver [0-9.]+' "$DIR/laptop.log" | head -1; } >"/etc/netns/${NS}laptop/resolv.conf"
show laptop cat /etc/resolv.conf
# The server hosts the service as soon as the home has told it.
web_is_there() { web=$(on laptop getent ahostsv6 web | cut -d' ' -f1 | head -1); [ -n "$web" ] && on server ip -6 addr show | grep -q "$web/128"; }
until_true 100 "web has a name, and the server its address" web_is_there
show laptop getent hosts web

story "ping web: first through the home, then straight through both NATs"
show laptop ping -c 4 -i 0.3 web
until_true 100 "the path is direct" path_is laptop "$web" "direct *"

story "A page, then a download; in the middle of it the laptop changes from the cafe to the train"
mkdir "$DIR/www"; echo "Hello, this is web, at its permanent address." >"$DIR/www/index.html"
head -c 200000000 /dev/urandom >"$DIR/www/file"
(exec ip netns exec "${NS}server" python3 -m http.server 80 --bind "$web" --directory "$DIR/www" >/dev/null 2>&1) &
web_server=$!
until_true 50 "the server listens" bash -c "ip netns exec ${NS}server ss -Hltn 'sport = 80' | grep -q ."
show laptop curl -sS http://web.home.example/
short_status laptop
echo "laptop# curl --limit-rate 40M -o copy http://web.home.example/file"
(exec ip netns exec "${NS}laptop" curl -sS --limit-rate 40M -o "$DIR/copy" -w 'curl: %{http_code}, %{size_download} octets in %{time_total} s, one connection\n' http://web.home.example/file) &
download=$!
sleep 1.5; echo "laptop: the cafe's network is gone …"; move_host laptop train; echo "laptop: … and has the address $(address_of laptop) on the train"
wait $download
kill $web_server; wait $web_server 2>/dev/null || true
cmp "$DIR/www/file" "$DIR/copy" && echo "laptop: the download is complete, octet for octet"
short_status laptop

story "Down: nothing is left behind"
for machine in laptop server home; do
    show $machine "$domicile" --config "$DIR/$machine.toml" down
    wait "$(cat "$DIR/$machine.pid")" || true
done
leave_home
