# A small internet: sites behind NAT routers, public machines, and hosts that move from one to another. Sourced by the stories.
#
#   host ── lan 10.N.0.0/24 ── router of site N, outside 203.0.113.N ──┐
#   host ──┘                                                           internet (a router; it knows public addresses only)
#   public machine ────────────────────────────────────────────────────┘
#
#   internet                            first of all
#   site NAME MAPPING [FILTERING]       a router; words of RFC 4787 §4.1 and §5, filtering as mapping unless told:
#                                       endpoint-independent, address-dependent, symmetric (= address- and port-dependent)
#                                       site NAME none: no NAT; its hosts have public addresses 198.51.100.16*N+…
#   hairpin NAME on|off                 hosts of a site reach each other at their outside ports (§6); off at first
#   reboot_nat NAME                     every mapping is forgotten; new ones get other ports
#   public_host HOST IPV4               a machine in the middle of the internet
#   place HOST SITE                     a new host, with an address of the site
#   move_host HOST SITE                 its interface goes and comes back elsewhere, with another address
#   unplug HOST                         its interface goes
#   address_of HOST, outside_of SITE    as of now
#
# The interface of every host is called "net". The mapping of UDP is made by nftables alone: the kernel's NAT picks a free
# port, and maps remember it (outward: for the next flow from the same endpoint; owner and allowed: who may come in).
# shellcheck shell=bash

declare -A SITE_NUMBER=() SITE_MAPPING=() SITE_FILTERING=() SITE_HAIRPIN=() SITE_REBOOTS=() HOST_NUMBER=() HOST_ADDRESS=() HOST_SITE=()
GATEWAY=192.0.2.1

internet() {
    host internet
    on internet sysctl -qw net.ipv4.ip_forward=1
    # What is not a public address goes nowhere.
    on internet ip route add unreachable default
}

# attach NAMESPACE INTERFACE IPV4: an unnumbered link to the internet.
attach() {
    local link; link=to-$1
    veth internet "$link" "$1" "$2"
    ip -n "${NS}internet" link set "$link" addrgenmode none; ip -n "$NS$1" link set "$2" addrgenmode none
    ip -n "${NS}internet" addr add $GATEWAY/32 dev "$link"; ip -n "$NS$1" addr add "$3/32" dev "$2"
    ip -n "${NS}internet" link set "$link" up; ip -n "$NS$1" link set "$2" up
    ip -n "${NS}internet" route replace "$3/32" dev "$link" src $GATEWAY
    ip -n "$NS$1" route add $GATEWAY dev "$2" src "$3"
    ip -n "$NS$1" route add default via $GATEWAY dev "$2" src "$3"
}

public_host() { host "$1"; attach "$1" net "$2"; HOST_ADDRESS[$1]=$2 HOST_SITE[$1]=; }

outside_of() { echo "203.0.113.${SITE_NUMBER[$1]}"; }
address_of() { echo "${HOST_ADDRESS[$1]}"; }

site() {
    local name=$1 n=$((${#SITE_NUMBER[@]} + 1))
    [ "$n" -le 14 ] || fail "no room for another site"
    SITE_NUMBER[$name]=$n SITE_MAPPING[$name]=$2 SITE_FILTERING[$name]=${3:-$2} SITE_HAIRPIN[$name]=off SITE_REBOOTS[$name]=0
    host "$name"
    on "$name" sysctl -qw net.ipv4.ip_forward=1
    # What its bridge carries is not routed, and not translated as if it were.
    [ ! -e /proc/sys/net/bridge ] || on "$name" sysctl -qw net.bridge.bridge-nf-call-iptables=0
    attach "$name" wan "$(outside_of "$name")"
    # With an address of its own: left to itself a bridge takes the lowest of its ports', and has another one when that host
    # goes, which the others notice half a minute later.
    ip -n "$NS$name" link add lan address "02:00:00:00:01:$(printf %02x "$n")" type bridge
    ip -n "$NS$name" link set lan addrgenmode none; ip -n "$NS$name" link set lan up
    if [ "$2" = none ]; then
        ip -n "$NS$name" addr add "198.51.100.$((16 * n + 1))/28" dev lan
        ip -n "${NS}internet" route add "198.51.100.$((16 * n))/28" via "$(outside_of "$name")" dev "to-$name" onlink
    else
        ip -n "$NS$name" addr add "10.$n.0.1/24" dev lan
        translate "$name"
    fi
}

# translate SITE: its rules, afresh: whatever was mapped is forgotten.
translate() {
    local name=$1 inside="10.${SITE_NUMBER[$1]}.0.0/24" outside low remote source into
    outside=$(outside_of "$name") low=$((10000 + SITE_REBOOTS[$name] % 2 * 27500))
    case ${SITE_MAPPING[$name]} in
        endpoint-independent) remote= source= ;;
        address-dependent) remote=". ip daddr" source=". ipv4_addr" ;;
        symmetric) ;;
        *) fail "site $name: '${SITE_MAPPING[$name]}' is no mapping" ;;
    esac
    {
        echo "table ip site { }"; echo "delete table ip site"; echo "table ip site {"
        echo "map owner { type inet_service : ipv4_addr . inet_service; flags dynamic; size 65535; }"
        echo "map allowed { type inet_service . ipv4_addr : ipv4_addr . inet_service; flags dynamic; size 65535; }"
        [ "${SITE_MAPPING[$name]}" = symmetric ] ||
            echo "map outward { type ipv4_addr . inet_service $source : ipv4_addr . inet_service; flags dynamic; size 65535; }"
        # Packets of a flow that is known are translated by the kernel and do not come by here.
        echo "chain arrive { type nat hook prerouting priority -100"
        case ${SITE_FILTERING[$name]} in
            endpoint-independent) echo "iifname wan ip daddr $outside dnat ip to udp dport map @owner" ;;
            address-dependent) echo "iifname wan ip daddr $outside dnat ip to udp dport . ip saddr map @allowed" ;;
            symmetric) ;;
            *) fail "site $name: '${SITE_FILTERING[$name]}' is no filtering" ;;
        esac
        # What comes from the own side is not filtered.
        [ "${SITE_HAIRPIN[$name]}" = off ] || echo "iifname lan ip daddr $outside dnat ip to udp dport map @owner"
        echo "}"
        echo "chain leave { type nat hook postrouting priority 100"
        into="ip saddr $inside ip protocol udp"
        for link in "oifname wan" "oifname lan ct status dnat"; do
            [ "${SITE_MAPPING[$name]}" = symmetric ] || echo "$link $into snat ip to ip saddr . udp sport ${remote/ip daddr/ct original ip daddr} map @outward"
            echo "$link $into snat to $outside:$low-$((low + 27499)) fully-random"
        done
        echo "oifname wan ip saddr $inside masquerade"
        echo "}"
        # After the translation: the source is the outside endpoint, and the original one is the inner endpoint.
        echo "chain remember { type filter hook postrouting priority 200"
        into="ip saddr $outside ip protocol udp ct direction original ct original ip saddr $inside"
        [ "${SITE_MAPPING[$name]}" = symmetric ] ||
            echo "$into update @outward { ct original ip saddr . ct original proto-src ${remote/ip daddr/ct original ip daddr} : ip saddr . udp sport }"
        echo "$into update @owner { udp sport : ct original ip saddr . ct original proto-src }"
        echo "$into update @allowed { udp sport . ct original ip daddr : ct original ip saddr . ct original proto-src }"
        echo "}"
        # A router has no ears, and says nothing to strangers. Dropped here, such a packet leaves no flow in the kernel that
        # would take the port away from the mapping.
        echo "chain silent { type filter hook input priority 0"
        echo "ip protocol udp drop"
        echo "}"
        echo "}"
    } >"$DIR/site-$name.nft"
    on "$name" nft -f "$DIR/site-$name.nft" || fail "nftables refuses the rules of site $name"
    on "$name" conntrack -F >/dev/null 2>&1 || true
}

hairpin() { SITE_HAIRPIN[$1]=$2; translate "$1"; }
reboot_nat() { SITE_REBOOTS[$1]=$((SITE_REBOOTS[$1] + 1)); translate "$1"; }

plug() {
    local name=$1 where=$2 k=${HOST_NUMBER[$1]} n=${SITE_NUMBER[$2]} address gateway length
    if [ "${SITE_MAPPING[$where]}" = none ]; then
        address=198.51.100.$((16 * n + 1 + k)) gateway=198.51.100.$((16 * n + 1)) length=28
    else
        address=10.$n.0.$((9 + k)) gateway=10.$n.0.1 length=24
    fi
    veth "$where" "to-$name" "$name" net
    ip -n "$NS$where" link set "to-$name" addrgenmode none; ip -n "$NS$name" link set net addrgenmode none
    ip -n "$NS$where" link set "to-$name" master lan; ip -n "$NS$where" link set "to-$name" up
    ip -n "$NS$name" addr add "$address/$length" dev net
    ip -n "$NS$name" link set net up
    ip -n "$NS$name" route add default via "$gateway"
    HOST_ADDRESS[$name]=$address HOST_SITE[$name]=$where
}
unplug() { ip -n "$NS$1" link del net; HOST_SITE[$1]=; }
place() {
    HOST_NUMBER[$1]=$((${#HOST_NUMBER[@]} + 1))
    [ "${HOST_NUMBER[$1]}" -le 12 ] || fail "no room for another host"
    host "$1"
    plug "$1" "$2"
}
move_host() { [ -z "${HOST_SITE[$1]}" ] || unplug "$1"; plug "$1" "$2"; }
