//! Whom a node asks for somebody else's softservice: a stranger's release reaches nobody on this device without a permission.

use serde_json::Value;
use softservice_tests::{
    World,
    sources::{publish, put, text},
};
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpListener,
};

/// A page that wishes the port at which `peer` listens, and lets the node ask there.
fn asker(version: &str, peer: u16, health: &str, test: &str, connect: &str) -> String {
    format!(
        r#"format = 1
[distro]
name = "asker"
version = "{version}"
summary = "Asks around"
[param]
peer = {{ type = "url", default = "http://127.0.0.1:{peer}/?reboot=now", ask = "Whom to ask" }}
host = {{ type = "text", default = "127.0.0.1:{peer}", ask = "The same" }}
[role.main.port]
http = {peer}
[role.main.artifact]
site = {{ tree = "site" }}
[role.main.service.web]
command = ["${{softservice}}", "serve-static", "${{artifact.site}}", "${{port.http}}"]
healthcheck = {{ {health} }}
[role.main.allow]
connect = [{connect}]
[test]
page = {{ {test}, within = "20s" }}
[update]
settle = "100ms"
"#
    )
}

/// Nobody has connected so far.
fn undisturbed(listener: &TcpListener) {
    match listener.accept() {
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        Ok((_, from)) => panic!("{from} came"),
    }
}

#[test]
fn a_stranger_s_release_makes_the_node_ask_nobody_without_a_permission() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a listener of ours");
    let port = listener.local_addr().expect("an address").port();
    let world = World::new();
    let (ann, bob) = (world.node("ann"), world.node("bob"));
    let folder = world.path("asker");
    put(&folder.join("site/index.html"), "here");
    let put_version = |version, health, test, connect: &str| {
        put(&folder.join("distro.toml"), &asker(version, port, health, test, connect));
        publish(&ann, &folder)
    };
    let (own, peer) = (r#"http = ":${port.http}/""#, r#"http = "${param.peer}""#);

    put_version("1.0.0", own, peer, "");
    put_version("1.1.0", r#"tcp = "${param.host}""#, own, "");
    let ticket = put_version("1.2.0", own, peer, &format!("\"device:{port}\""));
    bob.ok(&["subscribe", &ticket, "--as", "ann"]);

    // Its default leads to somebody who had the wished port first.
    let asks = format!("test page on role main of asker asks http://127.0.0.1:{port}/?reboot=now");
    for verb in [&["plan", "ann/asker@1.0.0"][..], &["up", "ann/asker@1.0.0", "--yes", "--accept-reduced"]] {
        let (code, answer) = bob.verb(verb);
        assert_eq!((code, answer["error"]["kind"].as_str()), (4, Some("refused")), "{answer}");
        assert!(answer["error"]["message"].as_str().is_some_and(|m| m.contains(&asks)), "{answer}");
    }
    assert_eq!(bob.ok(&["ps"]), Value::Array(vec![]), "nothing of it was made");
    undisturbed(&listener);

    let (code, answer) = bob.verb(&["up", "ann/asker@1.1.0", "--yes", "--accept-reduced"]);
    let told = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(
        code == 4 && told.contains(&format!("service web of role main of asker asks 127.0.0.1:{port}")),
        "{answer}"
    );
    undisturbed(&listener);

    // With a permission it is asked, and the plan says whom before.
    let plan = bob.ok(&["plan", "ann/asker@1.2.0"]);
    let step = plan["steps"].as_array().and_then(|s| s.iter().find(|s| s["kind"] == "test")).expect("a test");
    assert_eq!(step["detail"], format!("GET http://127.0.0.1:{port}/?reboot=now, on main, within 20 s"));
    assert!(plan["permissions"]["added"].to_string().contains(&format!("main: connect device:{port}")), "{plan}");
    undisturbed(&listener);
    listener.set_nonblocking(false).expect("a listener of ours");
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a question");
        let mut question = [0; 512];
        let read = stream.read(&mut question).expect("it can be read");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").expect("an answer");
        String::from_utf8_lossy(&question[..read]).into_owned()
    });
    let up = bob.ok(&["up", "ann/asker@1.2.0", "--yes", "--accept-reduced"]);
    assert_eq!(up["state"], "running", "{up}");
    assert!(asked.join().expect("asked").starts_with("GET /?reboot=now "), "by the test alone");
    bob.ok(&["remove", "asker", "--data"]);
}

#[test]
fn an_author_is_told_at_the_line() {
    let world = World::new();
    let node = world.home("ann");
    let folder = world.path("asker");
    put(&folder.join("site/index.html"), "here");
    put(&folder.join("distro.toml"), &asker("1.0.0", 9, r#"tcp = ":9""#, r#"http = "http://192.168.1.1/""#, ""));
    let (code, answer) = node.verb(&["check", text(&folder)]);
    let lines = answer.to_string();
    assert!(code != 0 && lines.contains("192.168.1.1") && lines.contains("lan:80"), "{answer}");
}
