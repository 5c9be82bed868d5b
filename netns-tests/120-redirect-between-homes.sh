# A home moves, and another home that trusts it follows: what it relays goes to the new place and is taken from there. Its members
# hear of it, too. Both ends are behind symmetric NATs, so that everything between them is relayed by both homes.
source "$TESTS/home.sh"
internet
site left symmetric; site right symmetric
directory_each
home_at one 192.0.2.10 one.example
node_at left laptop
home_at two 192.0.2.20 two.example
node_at right server
L6=$(entity_of laptop) S6=$(entity_of server)
ONE=2002:c000:20a::/48 TWO=2002:c000:214::/48
for home in one two; do dom $home home root >"$DIR/$home.root"; done
print_of() { dom "$1" trust list --json | jq -r ".[] | select(.prefix == \"$2\") | .fingerprint"; }
trusts() { dom "$1" trust add "$DIR/$2.root" --fingerprint "$(print_of "$2" "$3")" >"$DIR/trusted"; }
trusts laptop two $TWO; trusts one two $TWO; trusts server one $ONE; trusts two one $ONE
until_true 200 "the laptop reaches the server" reaches laptop "$S6"
[ "$(path_of laptop "$S6")" = relayed ] || fail "the path is $(path_of laptop "$S6")"

dom one home backup "$DIR/backup.db" >/dev/null
public_host new 192.0.2.30
mkdir -m 700 "$DIR/new" "$DIR/new/home"
cp -p "$DIR/one/home/root.key" "$DIR/one/home/root.pem" "$DIR/new/home/"
cp -p "$DIR/one/"*.key "$DIR/one/domicile.toml" "$DIR/new/"
for file in "$DIR/one/"*.pem; do [ ! -f "$file" ] || cp -p "$file" "$DIR/new/"; done
sed -i "s|$DIR/one/|$DIR/new/|" "$DIR/new/domicile.toml"
dom new home restore "$DIR/backup.db" >/dev/null
start new
dom one home redirect set 192.0.2.30 >/dev/null
dom new home redirect set 192.0.2.30 >/dev/null
for host in laptop two; do
    until_true 300 "$host is told" grep -q "the home $ONE says that it is at 192.0.2.30:4500 now" "$DIR/$host.log"
    until_true 300 "$host goes there" grep -q "the home $ONE is at 192.0.2.30:4500 now" "$DIR/$host.log"
done
until_true 100 "members of the other home hear of it" grep -q "the home $ONE says that it is at 192.0.2.30:4500 now" "$DIR/server.log"
stop one
until_true 300 "the laptop reaches the server" reaches laptop "$S6"
until_true 100 "the server reaches the laptop" reaches server "$L6"
dom server disconnect "$L6" >/dev/null
until_true 200 "a new conversation, from there" reaches server "$L6"
[ "$(path_of server "$L6")" = relayed ] || fail "the path is $(path_of server "$L6")"
# Remembered by the other home over a restart; and the one that moved calls again.
stop two; start two
until_true 300 "the laptop reaches the server by way of a home that started anew" reaches laptop "$S6"
