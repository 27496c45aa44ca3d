//! What is an address, and whom it leads to.

use super::*;
use proptest::prelude::*;

fn url(text: &str) -> Result<Destination, String> {
    let probe = ProbeSpec::Http { url: text.into(), status: 200, contains: None };
    probe.destination().map(|to| to.expect("the node asks"))
}
fn reach(to: Network, port: Option<u16>) -> Reach {
    Reach { to, port }
}

#[test]
fn addresses_are_read_in_one_way() {
    let own = |port| Destination { host: Host::Address(Ipv4Addr::LOCALHOST.into()), port };
    for text in
        ["http://127.0.0.1:81/", "http://localhost:81", "http://LocalHost:81?x", "http://[::ffff:127.0.0.1]:81#"]
    {
        assert_eq!(url(text), Ok(own(81)), "{text}");
    }
    assert_eq!(url("http://127.0.0.1/x:9"), Ok(own(80)));
    assert_eq!(url("https://127.0.0.1"), Ok(own(443)));
    let name = Destination { host: Host::Name("shelf.example".into()), port: 8080 };
    assert_eq!(url("http://Shelf.Example:8080/a@b"), Ok(name));
    let tcp = |address: &str| ProbeSpec::Tcp { address: address.into() }.destination();
    assert_eq!(tcp("127.0.0.1:5432"), Ok(Some(own(5432))));
    assert!(tcp("127.0.0.1").is_err() && tcp("127.0.0.1:1/").is_err() && tcp("::1:80").is_err());
    assert_eq!(ProbeSpec::Exec { command: vec!["true".into()] }.destination(), Ok(None));
}

#[test]
fn what_has_two_readings_is_no_address() {
    let disguised =
        ["127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.0.0.01", "127.0.0.1.", "a.0x", "1"];
    let broken =
        ["", "a..b", "a_b", "[::1", "[::1%lo]", "[127.0.0.1]", "127.0.0.1:80@x", "u@127.0.0.1", "127。0。0。1", "-a"];
    let ports = ["a:", "a:+80", "a:65536", "a:8 0", "a:80:80", "[::1]80", "a:\u{661}"];
    for host in disguised.into_iter().chain(broken).chain(ports) {
        let text = format!("http://{host}/");
        assert!(url(&text).is_err(), "{text}: {:?}", url(&text));
    }
    for text in ["127.0.0.1:80", "HTTP://127.0.0.1/", "ftp://127.0.0.1/", "http:/127.0.0.1/", "http:\\\\127.0.0.1"] {
        assert!(url(text).is_err(), "{text}");
    }
}

#[test]
fn every_address_is_somewhere_or_nowhere() {
    let of = |text: &str| Network::of(text.parse().expect("an address"));
    for here in
        ["127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "::1", "::", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
    {
        assert_eq!(of(here), Some(Network::Device), "{here}");
    }
    let near = [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "fe80::1",
        "fd00::1",
        "2002:c0a8:101::1",
    ];
    for lan in near {
        assert_eq!(of(lan), Some(Network::Lan), "{lan}");
    }
    for far in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2600::1", "64:ff9b::808:808"] {
        assert_eq!(of(far), Some(Network::Internet), "{far}");
    }
    for nowhere in ["224.0.0.1", "255.255.255.255", "240.0.0.1", "ff02::1", "100::1", "::7f00:1"] {
        assert_eq!(of(nowhere), None, "{nowhere}");
    }
}

const NETWORKS: [Network; 3] = [Network::Device, Network::Lan, Network::Internet];

fn reaches() -> impl Strategy<Value = Vec<Reach>> {
    let one = (0..NETWORKS.len(), proptest::option::of(1..100u16)).prop_map(|(to, port)| reach(NETWORKS[to], port));
    proptest::collection::vec(one, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is allowed, an address is asked only where it is an own port or its own network is open at its port.
    #[test]
    fn nobody_is_asked_without_a_reason(
        bits in prop_oneof![
            any::<[u8; 16]>().prop_map(IpAddr::from),
            any::<[u8; 4]>().prop_map(IpAddr::from),
            prop_oneof![Just([127, 0, 0, 1]), Just([127, 0, 0, 2]), Just([192, 168, 0, 1]), Just([0; 4])].prop_map(IpAddr::from),
        ],
        port in 0..100u16,
        own in proptest::collection::btree_set(1..100u16, 0..4),
        allowed in reaches(),
    ) {
        let address = bits.to_canonical();
        let to = Destination { host: Host::Address(address), port };
        let ours = address == IpAddr::from([127, 0, 0, 1]) && own.contains(&port);
        let open = allowed.iter().any(|r| Network::of(address) == Some(r.to) && r.port.is_none_or(|p| p == port));
        prop_assert_eq!(to.is_allowed(|n| own.contains(&n), &allowed), ours || open);
        prop_assert!(!to.is_allowed(|_| false, &[]), "nothing is open by itself");
        let named = Destination { host: Host::Name("x.example".into()), port };
        let somewhere = allowed.iter().any(|r| r.port.is_none_or(|p| p == port));
        prop_assert_eq!(named.is_allowed(|_| true, &allowed), somewhere, "an own port has no other name");
    }

    /// What is read as an address of ours is so for the standard library, too; nothing else resembles it.
    #[test]
    fn loopback_has_no_other_spelling(text in "[0-9a-fx.:\\[\\]]{1,24}") {
        if let Ok(to) = url(&format!("http://{text}/")) {
            let inside = text.rsplit_once(':').map_or(text.as_str(), |(host, _)| host);
            let read = text.trim_matches(['[', ']']).parse::<IpAddr>().ok()
                .or_else(|| inside.trim_matches(['[', ']']).parse().ok());
            match to.host {
                Host::Address(address) => prop_assert_eq!(Some(address), read.map(|a| a.to_canonical())),
                Host::Name(name) => prop_assert!(name.ends_with(|c: char| c.is_ascii_alphanumeric()) && read.is_none()),
            }
        }
    }
}
