//! The local API, spoken to as any program would. Invariant: every call ends with exactly one `result` or `error`, and a
//! caller who goes away stops the work.

use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, StatusCode, body::Bytes};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use softservice_node::{
    Config,
    api::{self, Served},
};
use std::{os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

/// Nothing here takes long; a hang shall end all the same.
const DEADLINE: Duration = Duration::from_secs(60);

/// A node that only this machine can reach.
async fn node(home: &Path) -> Served {
    limited_node(home, None, None).await
}

/// The same with rates, in bytes a second.
async fn limited_node(home: &Path, limit_up: Option<u64>, limit_down: Option<u64>) -> Served {
    let config = Config {
        limit_up,
        limit_down,
        home: home.to_owned(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        mdns: false,
        dht: false,
        keeper: vec!["/bin/false".into()],
        units: false,
        ..Config::default()
    };
    Served::start(config).await.expect("a node")
}

async fn send(home: &Path, method: Method, verb: &str, body: &str) -> hyper::Response<hyper::body::Incoming> {
    let stream = api::connect(home).await.expect("the socket");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(format!("/v1/{verb}"))
        .header("host", "softservice")
        .body(Full::new(Bytes::from(body.to_owned())))
        .expect("a request");
    sender.send_request(request).await.expect("a response")
}

/// All lines of an answer.
async fn call(home: &Path, verb: &str, arguments: Value) -> Vec<Value> {
    let response = send(home, Method::POST, verb, &arguments.to_string()).await;
    let body = tokio::time::timeout(DEADLINE, response.into_body().collect()).await.expect("an end");
    let body = body.expect("a body").to_bytes();
    let text = std::str::from_utf8(&body).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
}

async fn result(home: &Path, verb: &str, arguments: Value) -> Value {
    let lines = call(home, verb, arguments).await;
    let last = lines.last().cloned().unwrap_or_default();
    assert!(last.get("result").is_some(), "{verb}: {lines:?}");
    last["result"].clone()
}

fn distro(dir: &Path) {
    std::fs::create_dir_all(dir).expect("a folder");
    let files = softservice_protocol::definition::scaffold::files("hello", "hello").expect("a scaffold");
    for file in files {
        let path = dir.join(file.path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, file.text).expect("a file");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_ends_with_one_result_or_error() {
    let place = tempfile::tempdir().expect("a place");
    let home = place.path().join("ann");
    let ann = node(&home).await;

    let mode = |path: &str| std::fs::metadata(home.join(path)).expect(path).permissions().mode() & 0o777;
    assert_eq!((mode("run"), mode("run/api.sock")), (0o700, 0o600));

    let status = result(&home, "status", json!({})).await;
    assert_eq!(status["peers"], 0);
    for (verb, arguments, kind, exit) in [
        ("frobnicate", json!({}), "usage", 2),
        ("show", json!({}), "usage", 2),
        ("show", json!({ "reference": "hello", "more": 1 }), "usage", 2),
        ("show", json!({ "reference": "hello" }), "not_found", 3),
        ("up", json!({ "reference": "../../etc" }), "usage", 2),
        ("ps", json!({ "name": "nobody" }), "not_found", 3),
        ("improve", json!({ "reference": "hello", "dir": "relative" }), "usage", 2),
        ("subscribe", json!({ "ticket": "x".repeat(100_000) }), "usage", 2),
    ] {
        let lines = call(&home, verb, arguments).await;
        assert_eq!(lines.len(), 1, "{verb}: {lines:?}");
        let error = &lines[0]["error"];
        assert_eq!((error["kind"].as_str(), error["exit"].as_u64()), (Some(kind), Some(exit)), "{verb}: {error}");
    }

    for (body, status) in [("{", StatusCode::BAD_REQUEST), ("[1]", StatusCode::BAD_REQUEST), ("", StatusCode::OK)] {
        assert_eq!(send(&home, Method::POST, "status", body).await.status(), status, "{body:?}");
    }
    let long = " ".repeat((4 << 20) + 1);
    assert_eq!(send(&home, Method::POST, "status", &long).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(send(&home, Method::GET, "status", "").await.status(), StatusCode::METHOD_NOT_ALLOWED);

    ann.stop().await;
    assert!(!api::is_alive(&home).await, "a stopped node leaves no socket");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_goes_away_stops_the_work() {
    let place = tempfile::tempdir().expect("a place");
    let (ann_home, bob_home) = (place.path().join("ann"), place.path().join("bob"));
    let (ann, bob) = (node(&ann_home).await, node(&bob_home).await);
    let dir = place.path().join("hello");
    distro(&dir);
    let published = result(&ann_home, "publish", json!({ "dir": dir })).await;
    result(&bob_home, "subscribe", json!({ "ticket": published["ticket"], "petname": "ann" })).await;
    ann.stop().await;

    // Nobody has it any more, so this fetch waits; bob's transfers show it.
    let waiting = send(&bob_home, Method::POST, "fetch", &json!({ "reference": "hello" }).to_string()).await;
    transfers_are(&bob_home, 1).await;
    drop(waiting);
    transfers_are(&bob_home, 0).await;
    bob.stop().await;
}

/// Asks until so many transfers go on.
async fn transfers_are(home: &Path, wanted: usize) {
    let asking = async {
        loop {
            let status = result(home, "status", json!({})).await;
            if status["transfers"].as_array().map(Vec::len) == Some(wanted) {
                break;
            }
        }
    };
    tokio::time::timeout(DEADLINE, asking).await.unwrap_or_else(|_| panic!("transfers never were {wanted}"));
}

/// A rate with which a fetch of [`heavy`] takes seconds, and all that is not the rate only a fraction of them.
const RATE: u64 = 400_000;

/// A distro with a megabyte that does not compress, and some text that does.
fn heavy(dir: &Path) {
    distro(dir);
    let mut noise = vec![0; 1 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    std::fs::write(dir.join("noise"), noise).expect("a file");
    std::fs::write(dir.join("text"), "all work and no play\n".repeat(20_000)).expect("a file");
}

/// What bob's fetch of ann's heavy distro answers, and what `status` told of it on the way.
async fn explained(up: Option<u64>, down: Option<u64>) -> (Value, Value) {
    let place = tempfile::tempdir().expect("a place");
    let (ann_home, bob_home) = (place.path().join("ann"), place.path().join("bob"));
    let (ann, bob) = (limited_node(&ann_home, up, None).await, limited_node(&bob_home, None, down).await);
    let dir = place.path().join("hello");
    heavy(&dir);
    let published = result(&ann_home, "publish", json!({ "dir": dir })).await;
    result(&bob_home, "subscribe", json!({ "ticket": published["ticket"], "petname": "ann" })).await;

    let fetch = result(&bob_home, "fetch", json!({ "reference": "hello" }));
    let watch = async {
        loop {
            let status = result(&bob_home, "status", json!({})).await;
            let transfers = status["transfers"].as_array().cloned().unwrap_or_default();
            let moves = |t: &Value| t["ahead"] == false && t["bytes"].as_u64() > Some(0) && t["stage"] == "content";
            if let Some(going) = transfers.into_iter().find(moves) {
                return going;
            }
        }
    };
    let watch = tokio::time::timeout(DEADLINE, watch);
    let (done, going) = tokio::join!(fetch, watch);
    let ann_says = result(&ann_home, "status", json!({})).await["device"].clone();
    assert_eq!(done["peers"][0]["device"], ann_says);
    let again = result(&bob_home, "fetch", json!({ "reference": "hello" })).await;
    assert_eq!((again["new_bytes"].as_u64(), again["wire_bytes"].as_u64()), (Some(0), Some(0)));
    assert_eq!(
        (again["local_bytes"].clone(), again["compression"]["ratio"].clone()),
        (again["bytes"].clone(), Value::Null)
    );
    ann.stop().await;
    bob.stop().await;
    (done, going.expect("a transfer that moves"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_says_what_it_cost_and_that_its_own_rate_limited_it() {
    let (done, going) = explained(None, Some(RATE)).await;
    assert_eq!(done["limited_by"], "limit", "{done}");
    let number = |value: &Value| value.as_f64().expect("a number");
    let all: f64 = done["waits"].as_object().expect("waits").values().map(number).sum();
    assert!((all - number(&done["seconds"])).abs() < 1e-6, "{done}");
    let compression = &done["compression"];
    assert!(number(&compression["zstd"]["bytes"]) > number(&compression["zstd"]["wire_bytes"]), "{done}");
    assert!(number(&compression["ratio"]) > 1.0);
    let peer = &done["peers"][0];
    assert_eq!((&peer["wire_bytes"], &peer["bytes"]), (&done["wire_bytes"], &done["new_bytes"]));
    assert!(peer["address"].as_str().is_some_and(|a| a.starts_with("/ip4/127.0.0.1/tcp/")), "{peer}");

    for key in ["release", "of", "peers", "rate", "eta", "limited_by", "fetched"] {
        assert!(going.get(key).is_some(), "{key} is not in {going}");
    }
    assert_eq!(going["fetched"]["peers"][0]["device"], peer["device"]);
    assert!(going["fetched"]["wire_bytes"].as_u64() > Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_with_a_rate_is_a_slow_link() {
    let (done, _) = explained(Some(RATE), None).await;
    assert_eq!(done["limited_by"], "link", "{done}");
}
