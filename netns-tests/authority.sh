# Homes as certificate authorities, made by OpenSSL: an independent hand at what domicile has to accept. Sourced by stories.
# shellcheck shell=bash

# authority NAME PREFIX48 [KEY-NAME]: root with name constraints in NAME.pem, and one of the same key without them, which
# strongSwan 5.9 can parse, in NAME-plain.pem.
authority() {
    local name=$1 network=${2%/48} key=${3:-$1}
    [ -f "$DIR/$key.ca.key" ] || openssl genpkey -algorithm ed25519 -out "$DIR/$key.ca.key" 2>/dev/null
    cat >"$DIR/$name.cnf" <<CONF
[ca]
default_ca = home
[home]
database = $DIR/$name.index
new_certs_dir = $DIR
rand_serial = yes
default_md = default
policy = any
unique_subject = no
copy_extensions = none
[any]
organizationalUnitName = optional
commonName = supplied
[req]
distinguished_name = name
prompt = no
[name]
commonName = domicile home $network
[root]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
nameConstraints = critical, permitted;IP:$network/ffff:ffff:ffff::
[plain]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
CONF
    : >"$DIR/$name.index"
    local kind
    for kind in root plain; do
        openssl req -new -x509 -config "$DIR/$name.cnf" -key "$DIR/$key.ca.key" -extensions $kind -days 3650 \
            -out "$DIR/$name$([ $kind = plain ] && echo -plain).pem"
    done
}

# certify AUTHORITY KEY-FILE ADDRESS SECONDS OUT: a leaf for a device, valid for so many seconds from now.
certify() {
    local authority=$1 key=$2 address=$3 seconds=$4 out=$5
    cat >"$DIR/leaf.cnf" <<CONF
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
subjectAltName = IP:$address
CONF
    openssl req -new -config "$DIR/$authority.cnf" -key "$key" -subj "/OU=device/CN=$address" -out "$DIR/leaf.csr"
    openssl ca -batch -notext -config "$DIR/$authority.cnf" -cert "$DIR/$authority.pem" \
        -keyfile "$DIR/${CA_KEY:-$authority}.ca.key" -extfile "$DIR/leaf.cnf" -in "$DIR/leaf.csr" -out "$out" \
        -startdate "$(date -u -d "-300 seconds" +%Y%m%d%H%M%SZ)" -enddate "$(date -u -d "+$seconds seconds" +%Y%m%d%H%M%SZ)" \
        2>"$DIR/openssl" || fail "openssl: $(cat "$DIR/openssl")"
}
