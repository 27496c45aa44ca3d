//! Parts of two publishers in one distro; install, update, data that stays, rollback, removal.

use softservice_tests::{
    Node, World,
    sources::{Guestbook, text},
    visit::{self, url},
};
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

fn publish(node: &Node, folder: &std::path::Path) -> String {
    let answer = node.ok(&["publish", text(folder)]);
    answer["ticket"].as_str().expect("publishing gives a ticket").to_owned()
}

#[test]
fn parts_of_two_publishers_become_one_service() {
    let world = World::new();
    let book = Guestbook::write(&world.path("sources"));
    // dora publishes the data part, wim web part and whole: two publishers in one distro.
    let (dora, wim, bob) = (world.node("dora"), world.node("wim"), world.node("bob"));
    let data_ticket = publish(&dora, &book.data);
    wim.ok(&["subscribe", &data_ticket, "--as", "dora"]);
    let whole = std::fs::read_to_string(book.whole.join("distro.toml")).expect("it is there");
    let whole = whole.replace("distro = \"guestbook-data\"", "distro = \"dora/guestbook-data\"");
    std::fs::write(book.whole.join("distro.toml"), &whole).expect("it can be edited");
    publish(&wim, &book.web);
    let ticket = publish(&wim, &book.whole);
    let lock = std::fs::read_to_string(book.whole.join("distro.lock")).expect("publishing writes the lock");
    assert!(lock.contains("guestbook-data") && lock.contains("guestbook-web"), "{lock}");

    // bob knows wim only; dora's part is pinned by hash and comes from whoever has it.
    bob.ok(&["subscribe", &ticket, "--as", "wim"]);
    let plan = bob.ok(&["plan", "wim/guestbook"]);
    let hash = plan["plan"].as_str().expect("a plan has a hash").to_owned();
    assert!(plan["fetch_bytes"].as_u64() > Some(0) && plan["steps"].as_array().is_some_and(|s| !s.is_empty()));
    let up = bob.ok(&["up", "wim/guestbook", "--plan", &hash, "--yes", "--accept-reduced"]);
    assert_eq!(up["version"], "1.0.0");
    assert!(up["tests"].as_array().is_some_and(|t| t.iter().all(|t| t["ok"] == true) && t.len() >= 4), "{up}");
    let url = url(&up);
    assert!(visit::page(&url).contains("A guestbook"));
    assert_eq!(visit::ask(&url, "POST", "/sign", "name=Ada&words=first").expect("it signs").0, 303);

    std::fs::remove_file(book.whole.join("distro.lock")).expect("the lock can go");
    book.set_version(2);
    let whole = std::fs::read_to_string(book.whole.join("distro.toml")).expect("it is there");
    let whole = whole.replace("distro = \"guestbook-data\"", "distro = \"dora/guestbook-data\"");
    std::fs::write(book.whole.join("distro.toml"), whole).expect("it can be edited");
    publish(&wim, &book.web);
    publish(&wim, &book.whole);
    let (code, refused) = bob.verb(&["up", "wim/guestbook", "--plan", &hash]);
    assert_eq!(code, 4, "what was agreed to is not what would happen now: {refused}");
    a_web_only_update_touches_no_data(&bob.ok(&["plan", "wim/guestbook"]));
    let before = services(&bob);
    let updated = bob.ok(&["update", "guestbook", "--yes"]);
    assert_eq!(updated["version"], "2.0.0", "{updated}");
    let after = services(&bob);
    assert_eq!(before["store.data"], after["store.data"], "the same process, never started again");
    assert_ne!(before["front.web"].0, after["front.web"].0, "another page, another process");
    let page = visit::page(&url);
    assert!(page.contains("Our guestbook") && page.contains("Ada: first"), "{page}");

    let generations = bob.ok(&["generations", "guestbook"]);
    assert_eq!(generations.as_array().map(Vec::len), Some(2), "{generations}");
    bob.ok(&["rollback", "guestbook"]);
    let page = visit::page(&url);
    assert!(page.contains("A guestbook") && page.contains("Ada: first"), "{page}");

    secrets_stay_inside(&world, &bob);
    bob.ok(&["down", "guestbook"]);
    assert!(visit::ask(&url, "GET", "/", "").is_err(), "a softservice that is down does not answer");
    bob.ok(&["start", "guestbook"]);
    assert!(visit::page(&url).contains("Ada: first"));
    bob.ok(&["remove", "guestbook", "--data"]);
    assert_eq!(bob.ok(&["ps"]).as_array().map(Vec::len), Some(0));
}

/// Process and restarts of each service.
fn services(node: &Node) -> BTreeMap<String, (u64, u64)> {
    let all = node.ok(&["ps", "guestbook"]);
    let one = |s: &serde_json::Value| {
        assert_eq!(s["state"], "running", "{all}");
        let (pid, restarts) = (s["pid"].as_u64().expect("a process"), s["restarts"].as_u64().expect("a count"));
        (s["name"].as_str().expect("a name").to_owned(), (pid, restarts))
    };
    all[0]["services"].as_array().expect("services").iter().map(one).collect()
}

/// The data part is the same release with the same answers: it runs on, and the page starts first.
fn a_web_only_update_touches_no_data(plan: &serde_json::Value) {
    let steps = plan["steps"].as_array().expect("a plan has steps");
    let of = |kind: &str| -> Vec<&str> {
        steps.iter().filter(|s| s["kind"] == kind).filter_map(|s| s["what"].as_str()).collect()
    };
    assert_eq!((of("keep"), of("beside")), (vec!["store.data"], vec!["front.web"]), "{plan}");
    assert!(of("stop").is_empty() && of("snapshot").is_empty() && of("volume").is_empty(), "{plan}");
    let downtimes = plan["downtimes"].as_array().expect("of each service");
    assert!(downtimes.len() == 2 && downtimes.iter().all(|d| d["away"] == false), "{plan}");
    assert_eq!(plan["permissions"]["added"].as_array().map(Vec::len), Some(0), "{plan}");
}

/// The generated token stands in its file and nowhere else: not in logs, state, environments or command lines.
fn secrets_stay_inside(world: &World, node: &Node) {
    let secrets = node.home.join("softservices/guestbook/secrets");
    let secret = std::fs::read_dir(&secrets).expect("secrets have a folder").flatten().next().expect("there is one");
    let bytes = std::fs::read(secret.path()).expect("root reads it");
    assert!(bytes.len() >= 32);
    for pid in softservice_tests::process::processes_naming(text(&world.path(""))) {
        for place in ["environ", "cmdline"] {
            let seen = std::fs::read(format!("/proc/{pid}/{place}")).unwrap_or_default();
            assert!(!seen.windows(bytes.len()).any(|w| w == bytes), "a secret is in the {place} of {pid}");
        }
    }
}

#[test]
fn a_bad_release_goes_back_by_itself() {
    let world = World::new();
    let book = Guestbook::write(&world.path("sources"));
    let (ann, bob) = (world.node("ann"), world.node("bob"));
    for folder in [&book.data, &book.web] {
        publish(&ann, folder);
    }
    let ticket = publish(&ann, &book.whole);
    bob.ok(&["subscribe", &ticket, "--as", "ann"]);
    let url = url(&bob.ok(&["up", "guestbook", "--yes", "--accept-reduced"]));
    book.set_version(3);
    publish(&ann, &book.web);
    publish(&ann, &book.whole);
    let (code, answer) = bob.verb(&["update", "guestbook", "--yes"]);
    assert_eq!(code, 1, "a release that fails its health check is a failure: {answer}");
    assert!(answer["error"]["message"].is_string(), "{answer}");
    assert!(visit::page(&url).contains("A guestbook"), "the old one serves");
    let list = bob.ok(&["ps", "guestbook"]);
    assert_eq!(list[0]["version"], "1.0.0", "{list}");
}

/// A data server on this folder; what it says that it found there. `work` is done while it runs, with its address and token.
fn found(book: &Guestbook, folder: &Path, work: impl FnOnce(&str, &str)) -> String {
    let token = folder.with_extension("token");
    std::fs::write(&token, [7; 4]).expect("a token");
    let mut server = Command::new(book.data.join("bin/guestbook-data"));
    server.args(["--listen", "127.0.0.1:0", "--dir", text(folder), "--token-file", text(&token)]);
    let mut server = server.stdout(Stdio::piped()).spawn().expect("it runs");
    let mut line = String::new();
    BufReader::new(server.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    let address = line.trim().rsplit(' ').next().expect("an address").to_owned();
    let (status, found) = visit::ask(&address, "GET", "/found", "").expect("an answer");
    assert_eq!(status, 200);
    work(&address, "07070707");
    server.kill().expect("a process of ours");
    server.wait().expect("it ends");
    found.trim().to_owned()
}

#[test]
fn a_book_knows_whether_it_is_new_empty_or_has_lost_its_entries() {
    let world = World::new();
    let book = Guestbook::write(&world.path("sources"));
    let folder = world.path("book");
    let look = || found(&book, &folder, |_, _| {});
    assert_eq!(look(), "a new book");
    assert_eq!(look(), "a book with 0 entries from before", "nobody has signed it");
    found(&book, &folder, |address, token| {
        for entry in ["one", "two"] {
            assert_eq!(visit::ask_as(token, address, "POST", "/entries", entry).expect("an answer").0, 201);
        }
    });
    assert_eq!(look(), "a book with 2 entries from before");
    let entries = folder.join("entries");
    std::fs::write(&entries, "one\n").expect("written");
    assert_eq!(look(), "a book of 2 entries that has lost 1");
    std::fs::remove_file(&entries).expect("removed");
    assert_eq!(look(), "a book of 2 entries that has lost 2");
    assert_eq!(look(), "a book of 2 entries that has lost 2", "it does not forget that");
    std::fs::remove_file(folder.join("count")).expect("removed");
    assert_eq!(look(), "a new book", "a restore that brought nothing");
    // A book that was kept before entries were counted.
    std::fs::remove_file(folder.join("count")).expect("removed");
    std::fs::write(&entries, "one\n").expect("written");
    assert_eq!(look(), "a book with 1 entries from before");
}
