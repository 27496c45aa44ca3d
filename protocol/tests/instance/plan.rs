//! Plans: everything that happens, and a hash over it.

use crate::cast::*;
use softservice_protocol::plan::{self, Facts};

#[test]
fn a_plan_says_everything_and_its_hash_covers_it() {
    let closure = closure();
    let needs = needs(&closure);
    let instance = resolved(&closure).expect("an instance");
    let facts = Facts { softservice: "shelf", generation: 1, fetch_bytes: 7, ..Facts::default() };
    let first = plan::plan(SHELF, &needs, &instance, &facts);
    assert_eq!(first.hash, first.digest());
    assert_eq!(first.permissions.added, ["web: connect internet:443"]);
    assert_eq!(first.secrets_made, ["pg.admin"]);
    let kinds: Vec<&str> = first.steps.iter().map(|s| s.kind.as_str()).collect();
    let wanted =
        ["tree", "tree", "file", "secret", "volume", "port", "port", "point", "start", "start", "test", "keep"];
    assert_eq!(kinds, wanted);
    let fetched = plan::plan(SHELF, &needs, &instance, &Facts { fetch_bytes: 0, ..facts.clone() });
    assert_eq!(fetched.hash, first.hash, "content that arrives does not void an agreed plan");
    let running = Facts { current: Some((1, &instance)), running: true, generation: 2, ..facts };
    let second = plan::plan(SHELF, &needs, &instance, &running);
    assert_ne!(second.hash, first.hash);
    assert!(second.permissions.added.is_empty());
    assert!(!second.steps.iter().any(|s| s.kind == "start"), "nothing changed, nothing starts");
    let json = serde_json::to_value(&second).expect("json");
    assert_eq!(json["plan"], second.hash.as_str());
    assert_eq!(json["from_release"], SHELF.to_string().as_str());
}
