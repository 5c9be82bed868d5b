# Attacks on a home and its members: by somebody on the internet, by a member with true keys, by another home. Bindings stay as
# they are, victims hear next to nothing, nothing comes out larger than it went in, loops end, floods cost only the flooder, and
# each refusal is counted by its reason. What needs a second machine's kernel to be ours (a care-of address that is the home's
# own) is in the tests of src/mobility/agent and src/daemon/config.
source "$TESTS/home.sh"
internet
site s1 symmetric; site s2 symmetric
HOME_A=192.0.2.10 HOME_B=192.0.2.20 MALLORY=192.0.2.30 PUB=192.0.2.40 VICTIM=192.0.2.66 OTHER_VICTIM=192.0.2.67 OUTSIDER=192.0.2.77
P6=2002:c000:20a   # of home A
# Both homes believe of a third prefix that the other one has it.
astray() { echo "[[home]]"; echo 'prefix = "2002:c000:263::/48"'; echo "endpoint = \"$1:4500\""; }
for pair in "homeb $HOME_B $HOME_A" "home $HOME_A $HOME_B"; do
    set -- $pair
    public_host "$1" "$2"
    [ "$1" = home ] || entity "$1" 2002:c000:214:100::1
    dom "$1" home init --address "$2" --domain "$1.example" --directory "$DIR/of-$1" --allow-special >/dev/null
    if [ "$1" = home ]; then
        sed -i '/^\[home_agent\]/a relay_member_bytes = 200000\nrelay_source_bytes = 400000' "$DIR/home.toml"
    fi
    more "$1" < <(astray "$3")
    start "$1"
    HOME_HOST=$1 HOME_V4=$2
done
for pair in "victim $VICTIM" "victim2 $OTHER_VICTIM" "outsider $OUTSIDER" "mallory $MALLORY" "pub $PUB"; do set -- $pair; public_host "$1" "$2"; done
# The internet lets false sources through, as the real one often does.
for link in all to-home to-homeb to-victim to-victim2 to-outsider to-mallory to-pub to-s1 to-s2; do
    on internet sysctl -qw "net.ipv4.conf.$link.rp_filter=0"
done
place laptop s1; place phone s2
capture home net "$DIR/laptop.pcap" "udp port 4500 and src host $(outside_of s1)"
for name in laptop phone pub mallory; do at_home node add $name >/dev/null; join $name $name; done
more mallory <<<'[esp]
suites = ["aes-256-gcm"]
extended_sequence_numbers = false'
for name in laptop phone pub; do start $name; registered $name; done
start mallory --keylog "$DIR/mallory.keys"; registered mallory
L6=$(entity_of laptop) F6=$(entity_of phone) U6=$(entity_of pub) M6=$(entity_of mallory) H6=${P6}::1
reaches laptop "$F6" 5 || fail "laptop does not reach phone at first"
reaches pub "$L6" 5 || fail "pub does not reach laptop at first"
sleep 3 # the store learns of bindings by then
end_capture "$DIR/laptop.pcap"

PYTHON=$TESTS/../target/venv/bin/python3
# Whatever goes on between the internet and what is attacked or misused.
SNAP=128
for name in home homeb victim victim2 pub; do capture internet "to-$name" "$DIR/on-$name.pcap" udp; done
# attack HOST VERB OPTIONS…: sends from there.
attack() { local host=$1; shift; on "$host" timeout 60 "$PYTHON" "$TESTS/attacker.py" "$@" 2>"$DIR/attacker.log" || fail "the attack $* did not run: $(tail -3 "$DIR/attacker.log")"; }
# heard HOST FILTER: packets and octets on its wire so far.
heard() { sleep 0.3; "$PYTHON" "$TESTS/attacker.py" weigh pcap="$DIR/on-$1.pcap" filter="$2"; }
bindings() {
    python3 - "$DIR/of-home/registry.db" <<'PY'
import sqlite3, sys
for row in sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True).execute("SELECT hex(prefix), length, hex(address), port FROM binding ORDER BY prefix, length"):
    print(*row)
PY
}
rss() { awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$(cat "$DIR/$1.pid")/status"; }
# counted HOST REASON AT-LEAST ATTACK…: that attack was refused for that reason.
counted() {
    local host=$1 reason=$2 least=$3 before now; shift 3
    before=$(drops "$host" "$reason")
    attack "$@" >/dev/null
    enough() { now=$(drops "$host" "$reason"); [ $((now - before)) -ge "$least" ]; }
    until_true 30 "$host counts $least of $* as $reason: $(status "$host" .drops)" enough
}
no_more_than() { [ "$1" -le "$2" ] || fail "$3: $1, which is more than $2"; }
before=$(bindings) rss_before=$(rss home)
[ "$(wc -l <<<"$before")" -ge 4 ] || fail "the home has not kept its bindings: $before"
from() { echo "src=$1 dst=$HOME_A:4500"; }

# --- Binding Updates, forged and replayed ---------------------------------------------------------------------------

# Everything that the laptop ever said to the home, again: from the outsider, under a victim's name, and from where it was said.
for source in $OUTSIDER:4500 $VICTIM:4500 $(outside_of s1):$(tcpdump -nr "$DIR/laptop.pcap" -c 1 2>/dev/null | grep -oP '203\.0\.113\.\d+\.\K\d+'); do
    read -r packets octets < <(attack outsider replay $(from "$source") pcap="$DIR/laptop.pcap" heard="$(outside_of s1)" times=3)
    [ "$packets" -ge 15 ] || fail "there was nothing to replay"
done
until_true 30 "replays are counted: $(status home .drops)" bash -c "[ \$('$DOMICILE' --config $DIR/home.toml status --json | jq '.drops.replayed // 0') -ge 9 ]"
read -r _ back < <(heard victim "dst host $VICTIM")
say "what was replayed under the victim's name: $octets octets, of which it heard $back"
no_more_than "$back" $((3 * octets)) "octets to the victim of a replay"
# In clear, in relayed form, under the laptop's own address and port; and changed on the way.
counted home relay_protocol 5 outsider relayed $(from $MALLORY:4500) from="$M6" to=$H6 kind=mobility count=5

# A member with its own true keys says that it is where a victim is.
ha_child() { status mallory ".peers[] | select(.address == \"$H6\") | .children[] | select(.state == \"active\") | .outbound.$1"; }
spi=$(ha_child spi) key=$(grep -m1 -oP "esp_sa.*$(printf 0x%08x $((spi)))\",\"[^\"]*\",\"0x\K[0-9a-f]+" "$DIR/mallory.keys")
# Numbers that its daemon has not come to yet.
seq=$(( $(ha_child packets) + 1000 )) update=$(( $(jq ".sequences[\"$M6\"]" "$DIR/mallory.state.json") + 100 ))
# forge COUNT OPTIONS…: that many Binding Updates in the true SA.
forge() {
    local count=$1; shift
    attack mallory update dst=$HOME_A:4500 from="$M6" to=$H6 spi=$((spi)) key="$key" seq=$seq number=$update count="$count" "$@"
    seq=$((seq + count)) update=$((update + count))
}
told() { grep "a binding was refused" "$DIR/home.log" | grep -q "$1"; }
# A prefix that is another member's, and another member's address.
forge 1 src=$MALLORY:4500 prefixes="$(cut -d: -f1-4 <<<"$L6")::/64" >/dev/null
until_true 30 "another member's prefix is refused" told "from=$MALLORY:4500"
refused=$(grep -c "a binding was refused" "$DIR/home.log")
forge 1 src=$MALLORY:4500 prefixes="$L6/128" >/dev/null
until_true 30 "another member's address is refused" bash -c "[ \$(grep -c 'a binding was refused' '$DIR/home.log') -gt $refused ]"
# Where another home is: refused, and no challenge goes there. IKE asks there once whether the member has moved (RFC 4555 §3.7).
at_b="src host $HOME_A and dst host $HOME_B"
read -r esp_before _ < <(heard homeb "$at_b and udp[8:4] != 0"); read -r heard_before _ < <(heard homeb "$at_b")
forge 1 src=$HOME_B:4500 >/dev/null
until_true 30 "another home as care-of address is refused" told "from=$HOME_B:4500"
read -r esp_now _ < <(heard homeb "$at_b and udp[8:4] != 0"); read -r heard_now _ < <(heard homeb "$at_b")
no_more_than $((esp_now - esp_before)) 0 "challenges to a home as care-of address"
no_more_than $((heard_now - heard_before)) 8 "packets to a home as care-of address"
# Under another member's name inside the SA.
was=$(drops home selectors); forge 2 src=$MALLORY:4500 inner="$L6" >/dev/null
until_true 30 "the inner source is counted: $(status home .drops)" bash -c "[ \$('$DOMICILE' --config $DIR/home.toml status --json | jq '.drops.selectors // 0') -ge $((was + 2)) ]"
# Again and again from the address of a victim, and once from that of another: nobody says more, so every challenge goes there.
forge 40 src=$OTHER_VICTIM:5000 rate=4 >"$DIR/asked"; read -r _ asked <"$DIR/asked"
sleep 3 # IKE asks at a new address once a second at most: the next one is such an address
forge 1 src=$VICTIM:5000 >"$DIR/asked"; read -r _ asked_once <"$DIR/asked"

# --- relayed packets under false names ------------------------------------------------------------------------------

B6=2002:c000:214:1::1 O6=2002:c000:24d:1::1 V6=2002:c000:242:1::1
counted home relay_not_home 5 outsider relayed $(from $OUTSIDER:4500) from=$B6 to="$L6" count=5
counted home relay_not_home 5 outsider relayed $(from $HOME_B:4501) from=$B6 to="$L6" count=5
counted home relay_not_home 5 homeb relayed $(from $HOME_B:4500) from=$O6 to="$L6" count=5
counted home relay_not_care_of 5 homeb relayed $(from $HOME_B:4500) from="$F6" to="$L6" count=5
counted home relay_not_care_of 5 mallory relayed $(from $MALLORY:4500) from="$F6" to="$L6" count=5
counted home relay_unbound_source 5 mallory relayed $(from $MALLORY:4500) from=${P6}:1ff::1 to="$L6" count=5
counted home relay_own_source 5 homeb relayed $(from $HOME_B:4500) from=$H6 to="$L6" count=5
counted home relay_transit 5 outsider relayed $(from $OUTSIDER:4500) from=$O6 to=$B6 count=5
counted home relay_no_home 5 mallory relayed $(from $MALLORY:4500) from="$M6" to=2002:7f00:1:1::1 count=5
counted home relay_no_home 5 mallory relayed $(from $MALLORY:4500) from="$M6" to=2002:e000:1:1::1 count=5
counted home relay_protocol 5 mallory relayed $(from $MALLORY:4500) from="$M6" to="$L6" kind=tcp count=5
counted home relay_fragment 5 mallory relayed $(from $MALLORY:4500) from="$M6" to="$L6" kind=fragment count=5
counted home relay_hop_limit 5 mallory relayed $(from $MALLORY:4500) from="$M6" to="$L6" hops=1 count=5
# To a member directly: it believes its own home only, and what comes by way of that must still be of an SA.
counted pub relay_not_home 5 outsider relayed src=$OUTSIDER:4500 dst=$PUB:4500 from="$L6" to="$U6" count=5 kind=esp
counted pub relay_not_home 5 homeb relayed src=$HOME_B:4500 dst=$PUB:4500 from="$L6" to="$U6" kind=ike count=5
counted pub relay_not_home 5 outsider relayed src=$HOME_A:4501 dst=$PUB:4500 from="$L6" to="$U6" count=5
counted pub unknown_spi 5 outsider relayed src=$HOME_A:4500 dst=$PUB:4500 from="$L6" to="$U6" count=5

# --- the home as reflector, and round and round ---------------------------------------------------------------------

# Under the victim's name to somebody who is not there: the answer is never longer than the question, and there are few.
read -r heard_packets heard_octets < <(heard victim "dst host $VICTIM and udp port 4500")
read -r packets octets < <(attack outsider relayed $(from $VICTIM:4500) from=$V6 to=${P6}:1fe::1 count=600 rate=300)
read -r now_packets now_octets < <(heard victim "dst host $VICTIM and udp port 4500")
say "reflected by way of who is not there: of $packets packets with $octets octets $((now_packets - heard_packets)) with $((now_octets - heard_octets))"
no_more_than $((now_octets - heard_octets)) "$octets" "octets reflected"
no_more_than $((now_packets - heard_packets)) 500 "packets reflected in two seconds and a bit"
[ "$(drops home relay_unbound)" -ge 50 ] || fail "what was not answered is not counted: $(status home .drops)"
# Each home believes that the other one has this prefix: it goes there once, and ends.
between="(src host $HOME_A and dst host $HOME_B) or (src host $HOME_B and dst host $HOME_A)"
read -r heard_packets _ < <(heard homeb "$between")
counted homeb relay_transit 10 mallory relayed $(from $MALLORY:4500) from="$M6" to=2002:c000:263:1::1 count=10
read -r now_packets _ < <(heard homeb "$between")
no_more_than $((now_packets - heard_packets)) 10 "packets between homes that point at each other, for 10"
# To itself under a member's name from the other home, and an answer to what is nobody's.
read -r heard_packets _ < <(heard homeb "$between")
counted homeb relay_unbound 5 homeb relayed $(from $HOME_B:4500) from=${B6%:*}:99 to=${P6}:1fe::1 count=10 rate=20
read -r now_packets _ < <(heard homeb "$between")
no_more_than $((now_packets - heard_packets)) 20 "packets between two homes about 10 from nobody to nobody"

# --- floods ---------------------------------------------------------------------------------------------------------

stream laptop phone flood 60; sleep 1
counted home relay_source_rate 300 outsider relayed $(from $OUTSIDER:4500) from=$O6 to="$U6" size=1000 count=2000 rate=1000
counted home relay_binding_rate 300 mallory relayed $(from $MALLORY:4500) from="$M6" to=$O6 size=700 count=2000 rate=500
counted home relay_control_rate 200 mallory relayed $(from $MALLORY:4500) from="$M6" to="$U6" kind=ike size=100 count=1000 rate=500
counted home relay_control_rate 200 homeb relayed $(from $HOME_B:4500) from=$B6 to="$U6" kind=icmp size=100 count=1000 rate=500
end_stream flood
gap_below flood 2000 "two other members meanwhile, relayed"
read -r lost _ < <(lost_and_gap flood)
no_more_than "$lost" 20 "packets of other members lost"

# --- what is left ---------------------------------------------------------------------------------------------------

# The challenges to the victims have ended by now.
sleep 5
for name in home homeb victim victim2 pub; do end_capture "$DIR/on-$name.pcap"; done
heard() { "$PYTHON" "$TESTS/attacker.py" weigh pcap="$DIR/on-$1.pcap" filter="$2"; }
# Twice what came (docs/protocol.md, "Bindings") and one datagram of IKE: less than three times.
read -r packets octets < <(heard victim "dst port 5000")
say "one Binding Update of $asked_once octets with a victim's address: it heard $packets packets, $octets octets"
no_more_than "$octets" $((3 * asked_once)) "octets to the victim of one update"
no_more_than "$packets" 4 "packets to the victim of one update"
[ "$packets" -ge 2 ] || fail "the update of the story does not arrive: nothing was asked at that address"
read -r packets octets < <(heard victim2 "dst host $OTHER_VICTIM")
[ "$packets" -ge 10 ] || fail "the updates of the story do not arrive"
say "40 with $asked octets: $packets packets, $octets octets"
no_more_than "$octets" $((3 * asked)) "octets to the victim of many updates"
read -r packets _ < <(heard home "src host $HOME_A and dst net 224.0.0.0/4")
[ "$packets" = 0 ] || fail "the home sent $packets packets to nobody's address"
sleep 3
[ "$(bindings)" = "$before" ] || fail "bindings changed: $(diff <(echo "$before") <(bindings))"
for pair in "laptop $F6" "phone $L6" "pub $L6" "laptop $U6"; do
    set -- $pair
    reaches "$1" "$2" 5 || fail "$1 does not reach $2 any more"
done
grown=$(( $(rss home) - rss_before ))
say "the home's memory grew by $grown MiB; refused: $(status home '.drops | to_entries | map("\(.key) \(.value)") | join(", ")')"
no_more_than "$grown" 30 "MiB of memory"
no_more_than "$(wc -l <"$DIR/home.log")" 600 "lines in the home's log"
