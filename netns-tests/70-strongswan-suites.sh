# strongSwan as responder and as initiator, with PSK and with raw Ed25519 keys, with each cipher suite.
#
#   a domicile 198.51.100.1 ---------- 198.51.100.2 strongSwan s (userspace ESP)
source "$TESTS/strongswan.sh"
host a s; wire a $A4/24 s $B4/24
echo "correct horse battery staple" >"$DIR/s.psk"; chmod 600 "$DIR/s.psk"
for auth in psk pubkey; do
    for suite in chacha20poly1305 aes256gcm16 null-sha256; do
        ike=$([ $suite = aes256gcm16 ] && echo aes256gcm16-prfsha256-curve25519 || echo chacha20poly1305-prfsha256-curve25519)
        entity a $A6
        strongswan s $B6 $B4 $A6 $A4 $auth $ike $suite
        if [ $auth = psk ]; then peer a s $B6 'psk_file = "s.psk"'; else peer a s $B6; fi
        [ $suite = null-sha256 ] && more a <<<'[[policy]]
remote = "2002::/16"
action = "protect"
services = "integrity"'
        start a
        # We start.
        reaches a $B6 3 || fail "$auth $suite: we start: no tunnel"
        reaches s $A6 2 || fail "$auth $suite: s -> a"
        expect a '.peers[0].ike[0].initiator' true
        expect a '.peers[0].ike[0].peer_is_domicile' false
        expect a '.peers[0].children[0].esn' false
        got=$(status a '.peers[0].children[0].suite')
        case $suite-$got in
            chacha20poly1305-chacha20-poly1305|aes256gcm16-aes-256-gcm|null-sha256-null-hmac-sha2-256-128) ;;
            *) fail "$suite became $got" ;;
        esac
        dom a disconnect s >/dev/null
        until_true 50 "s was told goodbye" bash -c "! SWANCTL_DIR=$DIR/s/swanctl swanctl --list-sas --uri unix://$DIR/s/charon.vici | grep -q ESTABLISHED"
        # strongSwan starts, on port 500.
        swan s --initiate --child child >"$DIR/initiate" 2>&1 || fail "$auth $suite: it starts: $(tail -3 "$DIR/initiate")"
        reaches s $A6 3 || fail "$auth $suite: it starts: s -> a"
        reaches a $B6 2 || fail "$auth $suite: it starts: a -> s"
        expect a '.peers[0].ike[0].initiator' false
        stop a; swan_stop s
        say "$auth, $suite: both roles"
    done
done
