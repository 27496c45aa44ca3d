//! Whoever improves a distro shares it back, and others see whose child it is.

use softservice_tests::{
    World,
    process::{PATIENCE, eventually},
    sources::{plain, put, text},
};
use std::time::Instant;

#[test]
fn an_improvement_names_its_parent_and_a_third_node_sees_it() {
    let world = World::new();
    let (ann, bob, cleo) = (world.node("ann"), world.node("bob"), world.node("cleo"));
    let source = world.path("notes");
    plain(&source, "notes", "1.0.0");
    put(&source.join("root/readme"), "first\n");
    let published = ann.ok(&["publish", text(&source)]);
    let parent = published["release"].as_str().expect("a release has an id").to_owned();
    let anns = published["ticket"].as_str().expect("publishing gives a ticket").to_owned();

    bob.ok(&["subscribe", &anns, "--as", "ann"]);
    let copy = world.path("copy");
    let improved = bob.ok(&["improve", "ann/notes", text(&copy)]);
    assert_eq!(improved["parent"], parent.as_str());
    assert_eq!(std::fs::read_to_string(copy.join("root/readme")).expect("the source came along"), "first\n");
    put(&copy.join("root/readme"), "better\n");
    let definition = std::fs::read_to_string(copy.join("distro.toml")).expect("the definition came along");
    put(&copy.join("distro.toml"), &definition.replace("1.0.0", "1.1.0"));
    let child = bob.ok(&["publish", text(&copy)]);
    let bobs = child["ticket"].as_str().expect("publishing gives a ticket").to_owned();

    cleo.ok(&["subscribe", &anns, "--as", "ann"]);
    cleo.ok(&["subscribe", &bobs, "--as", "bob"]);
    let end = Instant::now() + PATIENCE;
    eventually("cleo sees bob's improvement of ann's distro", end, || {
        cleo.ok(&["lineage", "ann/notes"]).to_string().contains(child["release"].as_str().unwrap_or("none"))
    });
    let back = cleo.ok(&["lineage", "bob/notes"]);
    assert!(back.to_string().contains(&parent), "a child names its parent: {back}");
}
