# A strongSwan in a namespace, with its userspace ESP (the kernel here has none). Sourced by the stories.
# shellcheck shell=bash

# strongswan HOST LOCAL6 LOCAL4 REMOTE6 REMOTE4 AUTH IKE-PROPOSALS ESP-PROPOSALS [connection lines]
# AUTH is psk or pubkey; CHARON holds more lines for strongswan.conf. Files in $DIR/HOST/; keys are shared with domicile's $DIR/NAME.key and .pub.
strongswan() {
    local host=$1 l6=$2 l4=$3 r6=$4 r4=$5 auth=$6 ike=$7 esp=$8 lines=${9:-} child_lines=${10:-}
    local dir=$DIR/$host; mkdir -p "$dir/swanctl/"{private,pubkey,x509,x509ca}
    local local_auth="auth = psk" remote_auth="auth = psk"
    if [ "$auth" = pubkey ]; then
        [ -f "$dir/swanctl/private/me.pem" ] || {
            openssl genpkey -algorithm ed25519 -out "$dir/swanctl/private/me.pem" 2>/dev/null
            openssl pkey -in "$dir/swanctl/private/me.pem" -pubout -out "$dir/swanctl/pubkey/me.pem"
        }
        # The one-line form that domicile takes: the last 32 octets of the SubjectPublicKeyInfo.
        openssl pkey -pubin -in "$dir/swanctl/pubkey/me.pem" -outform DER | tail -c 32 | base64 >"$DIR/$host.pub"
        "$DOMICILE" --config "$DIR/a.toml" key show --pem >"$dir/swanctl/pubkey/peer.pem"
        local_auth="auth = pubkey
           pubkeys = me.pem"
        remote_auth="auth = pubkey
           pubkeys = peer.pem"
    fi
    if [ "$auth" = certificate ]; then
        local_auth="auth = pubkey
           certs = me.pem"
        remote_auth="auth = pubkey
           cacerts = home-a.pem"
    fi
    cat >"$dir/swanctl/swanctl.conf" <<CONF
connections { peer {
  version = 2
  local_addrs = $l4
  remote_addrs = $r4
  encap = yes
  proposals = $ike
  $lines
  local  { $local_auth
           id = $l6 }
  remote { $remote_auth
           id = $r6 }
  children { child { local_ts = $l6/128
                     remote_ts = $r6/128
                     mode = tunnel
                     esp_proposals = $esp
                     $child_lines
                     start_action = none } }
} }
secrets { ike-1 { id-1 = $l6
                  id-2 = $r6
                  secret = "correct horse battery staple" } }
CONF
    charon "$host" "$l6"
}

# charon HOST LOCAL6: starts it with what is in $DIR/HOST/swanctl.
charon() {
    local host=$1 l6=$2 dir=$DIR/$1
    cat >"$dir/strongswan.conf" <<CONF
charon {
  load = random nonce openssl chapoly curve25519 kdf hmac sha2 aes gcm pem pkcs1 pkcs8 pubkey x509 constraints kernel-libipsec kernel-netlink socket-default vici updown
  install_virtual_ip = yes
  install_routes = yes
  make_before_break = yes
  retransmit_timeout = 1.0
  ${CHARON:-}
  plugins {
    kernel-libipsec { load = yes
      allow_peer_ts = yes }
    vici { socket = unix://$dir/charon.vici }
    openssl { load = yes }
  }
  filelog { log { path = $DIR/$host.log
    default = 1
    ike = 2
    flush_line = yes } }
}
CONF
    cat >"$dir/run.sh" <<RUN
mount -t tmpfs none /run
mkdir -p /etc/swanctl && mount --bind "$dir/swanctl" /etc/swanctl
export STRONGSWAN_CONF="$dir/strongswan.conf"
exec /usr/lib/ipsec/charon
RUN
    on "$host" ip addr replace "$l6/128" dev lo nodad
    rm -f "$dir/charon.vici"
    (exec ip netns exec "$NS$host" unshare -m --propagation private bash "$dir/run.sh" >"$dir/stdout" 2>&1) &
    echo $! >"$DIR/$host.pid"
    until_true 100 "charon of $host answers" swan "$host" --stats
    swan "$host" --load-all >"$dir/load" 2>&1 || fail "swanctl: $(cat "$dir/load")"
}

# swan HOST COMMAND…: swanctl, the command first.
swan() { local host=$1; shift; SWANCTL_DIR="$DIR/$host/swanctl" swanctl "$@" --uri "unix://$DIR/$host/charon.vici"; }
# charon_says HOST PATTERN: how many lines of its log have it.
charon_says() { grep -cE "$2" "$DIR/$1.log" || true; }
at_least() { [ "$("${@:2}")" -ge "$1" ]; }
swan_kill9() { kill -9 "$(cat "$DIR/$1.pid")"; wait "$(cat "$DIR/$1.pid")" 2>/dev/null || true; }
swan_stop() { kill "$(cat "$DIR/$1.pid")" 2>/dev/null || true; wait "$(cat "$DIR/$1.pid")" 2>/dev/null || true; }
