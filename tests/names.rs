//! Names as programs see them: the C library's getaddrinfo, dig, and systemd-resolved itself. Ignored by default, because it
//! changes addresses, /etc/resolv.conf and /run:
//! `unshare --net --mount cargo test --test names -- --ignored --test-threads 1` as root.
#![expect(clippy::unwrap_used, reason = "helpers of tests are no tests by clippy's measure")]

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use domain::base::iana::{Rcode, Rtype};
use domain::base::{Message, MessageBuilder};
use domain::rdata::A;
use domicile::names::{
    DEFAULT_STUB, HomeDomain, Names, Resolvers, Setup, Table, Unavailable, Zone, lookup_ipv4, start,
};
use tokio::net::UdpSocket;

const DOMAIN: &str = "home.example.org";
const PREFIX: &str = "2002:c633:6401::/48";
const AGENT: &str = "2002:c633:6401::1";
const WEB: &str = "2002:c633:6401:100::2";
/// What the public says to every question.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 80);
const RESOLV_CONF: &str = "/etc/resolv.conf";
const DEVICE: &str = "dtest0";

struct People(HashMap<String, Ipv6Addr>);

impl Table for People {
    fn address(&self, name: &str) -> Result<Option<Ipv6Addr>, Unavailable> {
        Ok(self.0.get(name).copied())
    }

    fn name(&self, address: Ipv6Addr) -> Result<Option<String>, Unavailable> {
        Ok(self.0.iter().find(|(_, of)| **of == address).map(|(name, _)| name.clone()))
    }
}

fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{line}: {said}{error}");
    said.trim().to_owned()
}

/// What a program says, while the runtime goes on serving.
async fn says(line: &str) -> String {
    let line = format!("({line}) 2>&1 || true");
    tokio::task::spawn_blocking(move || sh(&line)).await.unwrap()
}

/// Refuses to touch a machine; otherwise makes one with a home's address, a device and files of its own in /etc and /run.
fn only_in_namespaces_of_its_own() {
    // Whoever started this in another mount namespace is still in the old one.
    let namespace = |process: &Path| std::fs::read_link(process.join("ns/mnt")).ok();
    let own = namespace(Path::new("/proc/self"));
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let apart = processes.filter_map(|entry| namespace(&entry.path())).any(|other| Some(other) != own);
    let devices = std::fs::read_to_string("/proc/net/dev").unwrap();
    let strangers = devices
        .lines()
        .skip(2)
        .map(str::trim_start)
        .any(|line| !["lo:", "dtest0:", "dtest1:"].iter().any(|own| line.starts_with(own)));
    assert!(!strangers && apart, "run this with unshare --net --mount");
    if devices.contains(DEVICE) {
        return;
    }
    sh("mount -t sysfs sysfs /sys; mount -t tmpfs tmpfs /run");
    sh(&format!("ip link set lo up; ip link add {DEVICE} type veth peer name dtest1"));
    sh(&format!("ip link set {DEVICE} addrgenmode none; ip link set {DEVICE} up; ip link set dtest1 up"));
    for address in [AGENT, WEB] {
        sh(&format!("ip address add {address}/128 dev {DEVICE} nodad"));
    }
    sh("echo 'hosts: files dns' >/run/nsswitch.conf; mount --bind /run/nsswitch.conf /etc/nsswitch.conf");
    sh(&format!("touch /run/resolv.conf; mount --bind /run/resolv.conf {RESOLV_CONF}"));
}

fn resolv_conf(servers: &[&str]) {
    let lines: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    std::fs::write(RESOLV_CONF, lines).unwrap();
}

fn setup() -> Setup {
    let mut setup = Setup::new(DEVICE, [7; 32]);
    setup.homes =
        vec![HomeDomain { domain: DOMAIN.to_owned(), prefix: PREFIX.parse().unwrap(), search: true }];
    setup
}

/// The home and the machine in one, with so many services.
async fn names(services: u16) -> Names {
    let mut people: HashMap<_, _> = (0..services)
        .map(|n| (format!("s{n}"), format!("2002:c633:6401:101::{n:x}").parse().unwrap()))
        .collect();
    people.insert("web".to_owned(), WEB.parse().unwrap());
    people.insert("alice".to_owned(), "2002:c633:6401:1:0:1::".parse().unwrap());
    people.insert("laptop.alice".to_owned(), "2002:c633:6401:1:0:1:0:3".parse().unwrap());
    let mut setup = setup();
    let zone = Zone::new(DOMAIN, PREFIX.parse().unwrap()).unwrap();
    setup.served = Some((zone, Arc::new(People(people))));
    let names = start(setup).await;
    assert!(names.problems().is_empty(), "{:?}", names.problems());
    names
}

/// A resolver on the Internet, for which every name has one IPv4 address.
async fn public(at: &str) -> tokio::task::JoinHandle<()> {
    let socket = UdpSocket::bind((at, 53)).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2000];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let query = Message::from_slice(&buffer[..length]).unwrap();
            let question = query.sole_question().unwrap();
            let mut answer = MessageBuilder::new_vec().start_answer(query, Rcode::NOERROR).unwrap();
            answer.header_mut().set_ra(true);
            if question.qtype() == Rtype::A {
                answer.push((question.qname(), 60, A::new(PUBLIC))).unwrap();
            }
            socket.send_to(&answer.finish(), from).await.unwrap();
        }
    })
}

/// The addresses that getaddrinfo gives, in its order.
async fn getaddrinfo(name: &str) -> Vec<String> {
    let program = "import socket, sys\n\
        try: found = socket.getaddrinfo(sys.argv[1], 80, type=socket.SOCK_STREAM)\n\
        except socket.gaierror: found = []\n\
        for address in found: print(address[4][0])";
    let said = says(&format!("python3 -c '{program}' {name}")).await;
    said.lines().map(str::to_owned).collect()
}

#[tokio::test]
#[ignore = "needs namespaces of its own"]
async fn getaddrinfo_finds_permanent_addresses_and_nothing_past_the_tunnel() {
    only_in_namespaces_of_its_own();
    let public = public("127.0.0.1").await;
    let names = names(0).await;
    // Without us, the public's record wins: this is what must not happen.
    resolv_conf(&["127.0.0.1"]);
    assert_eq!(getaddrinfo("web.home.example.org").await, [PUBLIC.to_string()]);
    let advice = names.advice().unwrap();
    assert!(advice.contains("nameserver 127.53.20.2") && advice.contains(DOMAIN), "{advice}");

    resolv_conf(&["127.53.20.2", "127.0.0.1"]);
    assert_eq!(names.advice(), None);
    let all = [
        ("web.home.example.org", WEB),
        ("WEB.Home.Example.ORG", WEB),
        ("laptop.alice.home.example.org", "2002:c633:6401:1:0:1:0:3"),
        ("alice.home.example.org", "2002:c633:6401:1:0:1::"),
        ("home.example.org", AGENT),
    ];
    for (name, address) in all {
        assert_eq!(getaddrinfo(name).await, [address], "{name}");
    }
    assert_eq!(getaddrinfo("nobody.home.example.org").await, Vec::<String>::new());
    assert_eq!(getaddrinfo("www.example.com").await, [PUBLIC.to_string()]);
    let back = says(&format!("getent hosts {WEB}")).await;
    assert!(back.ends_with("web.home.example.org"), "{back}");
    names.stop().await;
    public.abort();
}

#[tokio::test]
#[ignore = "needs namespaces of its own"]
async fn the_daemons_own_look_ups_do_not_come_by() {
    only_in_namespaces_of_its_own();
    let public = public("127.0.0.1").await;
    resolv_conf(&["127.53.20.2", "2002:c633:6401::1", "127.0.0.1"]);
    let look_up = |host: &'static str| {
        tokio::task::spawn_blocking(move || lookup_ipv4(host, &Resolvers::default(), 7).unwrap())
    };
    // With the forwarder, for which this name has no IPv4 address, and without it.
    let names = names(0).await;
    assert_eq!(getaddrinfo("home.example.org").await, [AGENT]);
    assert_eq!(look_up("home.example.org").await.unwrap(), [PUBLIC]);
    names.stop().await;
    assert_eq!(look_up("home.example.org").await.unwrap(), [PUBLIC]);
    assert_eq!(look_up("localhost").await.unwrap(), [Ipv4Addr::LOCALHOST]);
    public.abort();
}

#[tokio::test]
#[ignore = "needs namespaces of its own"]
async fn dig_is_content() {
    only_in_namespaces_of_its_own();
    let names = names(1000).await;
    for server in [AGENT, "127.53.20.2"] {
        let dig = async |asked: &str| says(&format!("dig @{server} +tries=1 +norec {asked}")).await;
        for transport in ["", "+tcp", "+noedns", "+bufsize=512 +dnssec"] {
            assert_eq!(dig(&format!("{transport} +short web.home.example.org AAAA")).await, WEB);
            assert_eq!(dig(&format!("{transport} +short -x {WEB}")).await, "web.home.example.org.");
            let nobody = dig(&format!("{transport} nobody.home.example.org AAAA")).await;
            assert!(nobody.contains("status: NXDOMAIN") && nobody.contains("flags: qr aa;"), "{nobody}");
            assert!(nobody.contains("AUTHORITY: 1") && !nobody.contains("WARNING"), "{nobody}");
        }
        let nothing = dig("web.home.example.org A").await;
        assert!(
            nothing.contains("status: NOERROR") && nothing.contains("ANSWER: 0, AUTHORITY: 1"),
            "{nothing}"
        );
        assert!(dig("+short home.example.org NS").await.contains("ns.home.example.org."));
        assert!(dig("home.example.org AXFR").await.contains("Transfer failed"));
        assert!(dig("+opcode=notify home.example.org SOA").await.contains("status: NOTIMP"));
        // The other version of EDNS is refused with ours, and then dig asks again with that.
        assert_eq!(dig("+short +edns=1 web.home.example.org AAAA").await, WEB);
    }
    let refused = says(&format!("dig @{AGENT} +tries=1 example.org AAAA")).await;
    assert!(refused.contains("status: REFUSED"), "{refused}");

    let questions: String = (0..1000).map(|n| format!("s{n}.home.example.org AAAA\n")).collect();
    std::fs::write("/run/questions", questions).unwrap();
    let answers = says("dig @127.53.20.2 +short -f /run/questions | sort -u | wc -l").await;
    assert_eq!(answers, "1000");
    names.stop().await;
}

/// Ends with the test, whatever its end.
struct Process(Child);

impl Process {
    fn start(line: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {line}")]).stdin(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const BUS: &str = r#"<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy>
</busconfig>"#;

/// systemd-resolved on a system bus of its own.
async fn resolved() -> [Process; 2] {
    let program = ["/lib/systemd/systemd-resolved", "target/resolved/lib/systemd/systemd-resolved"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .expect("scripts/setup test brings systemd-resolved");
    sh("mkdir -p /run/dbus /run/systemd/resolve");
    for (file, line) in
        [("passwd", "systemd-resolve:x:992:992::/:/bin/false"), ("group", "systemd-resolve:x:992:")]
    {
        sh(&format!(
            "cp /etc/{file} /run/{file}; grep -q ^systemd-resolve: /run/{file} || echo '{line}' >>/run/{file}"
        ));
        sh(&format!("mount --bind /run/{file} /etc/{file}"));
    }
    sh("chown systemd-resolve:systemd-resolve /run/systemd/resolve");
    std::fs::write("/run/bus.conf", BUS).unwrap();
    let bus = Process::start("dbus-daemon --config-file=/run/bus.conf --nofork --nopidfile");
    wait_for("[ -S /run/dbus/system_bus_socket ]").await;
    let resolved = Process::start(program);
    wait_for("[ -e /run/systemd/resolve/resolv.conf ]").await;
    [resolved, bus]
}

async fn wait_for(condition: &str) {
    for _ in 0..200 {
        if says(&format!("{condition} && echo yes")).await == "yes" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain for {condition}");
}

/// What systemd-resolved knows of the device.
async fn properties(names: &str) -> String {
    let (service, path) = ("org.freedesktop.resolve1", "/org/freedesktop/resolve1");
    let index = format!("$(cat /sys/class/net/{DEVICE}/ifindex)");
    let link =
        format!("busctl --system call {service} {path} {service}.Manager GetLink i {index} | cut -d'\"' -f2");
    says(&format!("busctl --system get-property {service} $({link}) {service}.Link {names}")).await
}

#[tokio::test]
#[ignore = "needs namespaces of its own"]
async fn systemd_resolved_is_told_and_forgets() {
    only_in_namespaces_of_its_own();
    resolv_conf(&["127.0.0.53"]);
    let mut early = start(setup()).await;
    assert!(early.advice().is_some(), "nobody runs behind 127.0.0.53 yet");
    assert!(early.is_untold() && !early.try_again().await);

    let _processes = resolved().await;
    // It started after us.
    assert!(early.try_again().await && !early.is_untold());
    assert_eq!(properties("DNS").await, "a(iay) 1 10 16 32 2 198 51 100 1 0 0 0 0 0 0 0 0 0 1");
    early.stop().await;
    // Its tasks end a moment later.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let names = names(0).await;
    assert_eq!(names.advice(), None);
    let link = properties("DNS Domains DefaultRoute DNSSEC LLMNR MulticastDNS").await;
    let wanted = [
        // A home asks its own forwarder.
        "a(iay) 1 2 4 127 53 20 2",
        "a(sb) 2 \"home.example.org\" false \"1.0.4.6.3.3.6.c.2.0.0.2.ip6.arpa\" true",
        "b false",
        "s \"no\"",
        "s \"no\"",
        "s \"no\"",
    ];
    assert_eq!(link.lines().collect::<Vec<_>>(), wanted);
    // The C library asks 127.0.0.53, resolved asks the forwarder, that asks the home.
    assert_eq!(getaddrinfo("web.home.example.org").await, [WEB]);
    let back = says(&format!("getent hosts {WEB}")).await;
    assert!(back.ends_with("web.home.example.org"), "{back}");
    names.stop().await;
    assert_eq!(getaddrinfo("web.home.example.org").await, Vec::<String>::new());
    assert_eq!(properties("DNS Domains").await, "a(iay) 0\na(sb) 0");

    // A machine with one home lets resolved ask that home itself.
    let alone = start(setup()).await;
    assert_eq!(properties("DNS").await, "a(iay) 1 10 16 32 2 198 51 100 1 0 0 0 0 0 0 0 0 0 1");
    assert_eq!(alone.stub(), Some(DEFAULT_STUB));
    alone.stop().await;
}
