//! Whom the node asks for a softservice: its own ports, and what its permissions name.

use crate::cast::*;
use softservice_protocol::{
    instance::{
        self, Instance, InstanceError, Sandbox,
        sandbox::{Network, Reach},
    },
    release::*,
};

fn http(url: &str) -> Probe {
    Probe::Http { url: url.into(), status: 200, contains: None }
}

/// The shelf, whose test asks so; its role may connect to `connect` and listens on `listen`.
fn testing(probe: Probe, connect: &[&str], listen: &[&str]) -> Result<Instance, InstanceError> {
    let (pg, mut shelf) = (pg(), shelf());
    shelf.tests[0].probe = probe;
    shelf.roles[1].allow.connect = connect.iter().map(|c| (*c).to_owned()).collect();
    shelf.roles[1].allow.listen = listen.iter().map(|l| (*l).to_owned()).collect();
    resolved(&[(PG, pg), (SHELF, shelf)].into())
}

#[test]
fn a_test_that_asks_a_stranger_is_refused_by_name() {
    let refused = testing(http("http://127.0.0.1:9797/?reboot=now"), &["internet:9797", "lan:*", "device:97"], &[]);
    let Err(InstanceError::Asks { place, role, address, why }) = refused else { panic!("{refused:?}") };
    assert_eq!((place.as_str(), role.as_str()), ("test login on role web of shelf", "web"));
    assert_eq!(address, "http://127.0.0.1:9797/?reboot=now");
    assert_eq!(why, "that is no port of this softservice");
}

#[test]
fn so_is_a_health_check() {
    let (pg, mut shelf) = (pg(), shelf());
    let Some(health) = &mut shelf.roles[1].services[0].healthcheck else { panic!("it has one") };
    health.probe = Probe::Tcp { address: ":22".into() };
    let refused = resolved(&[(PG, pg), (SHELF, shelf)].into()).expect_err("refused").to_string();
    assert!(refused.starts_with("service app of role web of shelf asks 127.0.0.1:22: "), "{refused}");
}

#[test]
fn own_ports_need_no_permission() {
    // Numbers of the cast: 21001 and 21002 are public, 31002 stands behind the front.
    for own in
        ["${web.app.url}/login", ":${port.http}/", "http://${import.db.address}/", "http://localhost:${port.http}"]
    {
        let instance = testing(http(own), &[], &[]).expect(own);
        assert_eq!(instance.tests[0].sandbox, Sandbox::default(), "{own}: nothing is opened for it");
    }
    testing(Probe::Tcp { address: "127.0.0.1:21002".into() }, &[], &[]).expect("the number that it was given");
    testing(Probe::Tcp { address: ":53".into() }, &[], &["tcp:53"]).expect("a number of its own choice");
    testing(Probe::Tcp { address: ":53".into() }, &[], &["udp:53"]).expect_err("that is another port");
    // Its wish is a wish only: 8080 was given to somebody else.
    testing(Probe::Tcp { address: ":8080".into() }, &[], &[]).expect_err("refused");
    testing(Probe::Tcp { address: "[::1]:${port.http}".into() }, &[], &[]).expect_err("others may listen there");
    testing(Probe::Tcp { address: "0.0.0.0:${port.http}".into() }, &[], &[]).expect_err("one address is ours");
    testing(http(":${port.http}1/"), &[], &[]).expect_err("another number");
}

#[test]
fn beyond_them_a_permission_of_the_same_network_leads() {
    let cases = [
        ("http://192.168.1.1/", "lan:80", "internet:80"),
        ("http://192.168.1.1:8080/", "lan:*", "lan:80"),
        ("http://169.254.169.254/", "lan:80", "internet:*"),
        ("https://example.org/", "internet:443", "internet:80"),
        ("http://8.8.8.8/", "internet:80", "lan:*"),
        ("http://[::1]:631/", "device:631", "internet:*"),
        ("http://0.0.0.0:631/", "device:*", "lan:631"),
    ];
    for (url, enough, other) in cases {
        let instance = testing(http(url), &[enough], &[]).expect(url);
        assert_eq!(instance.tests[0].sandbox.connect.len(), 1, "{url}: the node is held to it");
        assert!(matches!(testing(http(url), &[other], &[]), Err(InstanceError::Asks { .. })), "{url} with {other}");
    }
    let allowed = testing(http("http://example.org/"), &["import.db", "internet:80"], &[]).expect("allowed");
    assert_eq!(allowed.tests[0].sandbox.connect, [Reach { to: Network::Internet, port: Some(80) }]);
}

#[test]
fn an_answer_is_no_permission() {
    let (pg, mut shelf) = (pg(), shelf());
    shelf.tests[0].probe = http("http://${param.domain}:${port.http}/");
    let closure = [(PG, pg), (SHELF, shelf)].into();
    assert!(matches!(resolved(&closure), Err(InstanceError::Asks { .. })), "example.org");
    let own = [("domain".to_owned(), "localhost".to_owned())].into();
    instance::resolve(&closure, SHELF, &own, &assignment()).expect("its own port");
}

#[test]
fn what_is_no_address_is_refused_too() {
    for text in ["${web.app.url}1/", "http://127.1:${port.http}/", "http://x@127.0.0.1:${port.http}/", "nonsense"] {
        assert!(matches!(testing(http(text), &["device:*"], &[]), Err(InstanceError::Asks { .. })), "{text}");
    }
}
