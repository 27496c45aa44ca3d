//! Stories about data that outlives its softservice, with real processes: what a removal left goes to its own kind only, and
//! a release that does not hold gives it back as it was.

mod workshop;

use softservice_node::device::{DeviceError, PlanRequest};
use softservice_protocol::{
    codec,
    id::{PublisherId, ReleaseId},
    io::{Effect, ProvisionInput},
    limits::RELEASE_BYTES,
    release::{Include, Release, ReleaseRef},
};
use softservice_store::Store;
use workshop::{PUBLISHER, Workshop, forward, seen};

#[test]
fn keeper_part() {
    workshop::play_keeper();
}

const NAME: &str = "diary";

/// A diary: one role with data and a secret. The parts of a release that stories change.
struct Diary {
    distro: &'static str,
    publisher: PublisherId,
    epoch: u32,
    /// What it does with its data, `$1`, before it goes on for ever.
    writes: &'static str,
}

impl Default for Diary {
    fn default() -> Self {
        Self { distro: NAME, publisher: PUBLISHER, epoch: 1, writes: "echo first >> \"$1/log\"" }
    }
}

impl Diary {
    fn release(&self, workshop: &Workshop) -> ReleaseId {
        let Self { distro, publisher, epoch, writes } = self;
        let toml = format!(
            r#"format = 1
[distro]
name = "{distro}"
version = "1.0.0"
epoch = {epoch}
[secret]
seal = {{ generate = "bytes:32" }}
[role.main.artifact]
bin = {{ tree = "bin" }}
[role.main.volume]
pages = {{ backup = "copy" }}
[role.main.service.pen]
command = ["${{artifact.bin}}/pen", "${{volume.pages}}", "${{secret.seal}}"]
secrets = ["seal"]
healthcheck = {{ exec = ["/bin/sh", "-c", "[ -e ${{volume.pages}}/log ] && [ ! -e ${{volume.pages}}/sick ]"], interval = "100ms", timeout = "5s", start_period = "2s", retries = 3 }}
[update]
settle = "100ms"
"#
        );
        let pen = format!("#!/bin/sh\n{writes}\nexec sleep 100000\n");
        workshop.release_of(*publisher, &toml, &[("bin/pen", &pen)])
    }
}

/// A desk, and beside it a diary that it includes as `c`.
fn desk(workshop: &Workshop, diary: Option<Diary>) -> ReleaseId {
    let bare = Diary { distro: "desk", ..Diary::default() }.release(workshop);
    let Some(diary) = diary else { return bare };
    let read = |id: ReleaseId| workshop.store.object(id.object(), RELEASE_BYTES).expect("a release");
    let id = diary.release(workshop);
    let size = u32::try_from(read(id).len()).expect("a small one");
    let mut desk: Release = codec::decode(&read(bare)).expect("a release");
    desk.includes.push(Include {
        name: "c".into(),
        publisher: diary.publisher,
        distro: diary.distro.into(),
        version: "1.0.0".into(),
        release: ReleaseRef { id, size },
        role: "main".into(),
        with: vec![],
        bind: vec![],
    });
    let bytes = codec::encode(&desk).expect("encode");
    workshop.store.add(&bytes).expect("add");
    ReleaseId::of(&bytes)
}

/// Writes where it should not, and is never healthy.
const SPOILS: &str = "echo second >> \"$1/log\"; rm -rf \"$1/deep\"; mkdir \"$1/new\"; touch \"$1/sick\"";

/// Installed and removed; its data stays.
async fn removed(workshop: &Workshop) {
    workshop.up(NAME, Diary::default().release(workshop)).await.expect("installed");
    let pages = workshop.softservice(NAME).join("volumes/main.pages");
    std::fs::create_dir(pages.join("deep")).expect("a folder");
    std::fs::write(pages.join("deep/page"), "dear diary").expect("a page");
    workshop.device.remove(NAME, false).await.expect("removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_left_is_as_it_was_when_the_next_does_not_hold() {
    let workshop = Workshop::new();
    removed(&workshop).await;
    let (volumes, secrets) = (workshop.softservice(NAME).join("volumes"), workshop.softservice(NAME).join("secrets"));
    let before = (seen(&volumes.join("main.pages")), seen(&secrets));

    let bad = Diary { writes: SPOILS, ..Diary::default() }.release(&workshop);
    let plan = workshop.device.plan(&PlanRequest::new(NAME, bad)).await.expect("a plan");
    let says = |kind: &str, what: &str, words: &str| {
        let step = plan.steps.iter().find(|s| s.kind == kind && s.what == what);
        assert!(step.is_some_and(|s| s.detail.contains(words)), "{kind} {what}: {:?}", plan.steps);
    };
    says("volume", "main.pages", "the data that a removed softservice of this name left here is used");
    says("secret", "seal", "left here is used");
    says("snapshot", "main.pages", "put back bit by bit if the installation does not hold");

    let (effect, why) = workshop.up(NAME, bad).await.expect_err("it is sick");
    assert!(matches!(effect, Effect::Start | Effect::Confirm), "{effect:?}: {why}");
    assert_eq!((seen(&volumes.join("main.pages")), seen(&secrets)), before, "bit by bit");
    let snapshots = workshop.softservice(NAME).join("snapshots");
    let kept = || std::fs::read_dir(&snapshots).expect("a folder").count();
    assert_eq!(kept(), 0, "nothing is left beside");

    workshop.up(NAME, Diary::default().release(&workshop)).await.expect("a good one finds it");
    assert_eq!(std::fs::read_to_string(volumes.join("main.pages/log")).expect("a log"), "first\nfirst\n");
    assert_eq!(kept(), 0, "confirmed, the copy is of no more use");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_in_a_first_installation_gives_back_what_was_left() {
    let mut workshop = Workshop::new();
    removed(&workshop).await;
    let pages = workshop.softservice(NAME).join("volumes/main.pages");
    let before = seen(&pages);
    let bad = Diary { writes: "echo second >> \"$1/log\"", ..Diary::default() }.release(&workshop);
    for last in forward(None).filter(|e| *e != Effect::Commit) {
        let (generation, previous) = workshop.prepare(NAME, bad).await;
        for effect in forward(None).take_while(|e| *e <= last) {
            workshop.perform(&generation, previous, effect).await.expect("a step");
        }
        workshop.restart();
        let told = workshop.device.recover().await;
        let [ProvisionInput::Interrupted { step }] = &told[..] else { panic!("{last:?}: {told:?}") };
        workshop.go_back(&generation, previous, step.effect).await;
        assert_eq!(seen(&pages), before, "after {last:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_installation_that_failed_leaves_no_data_of_its_layout() {
    let workshop = Workshop::new();
    let bad = Diary { epoch: 2, writes: SPOILS, ..Diary::default() };
    workshop.up(NAME, bad.release(&workshop)).await.expect_err("it is sick");
    workshop.up(NAME, Diary::default().release(&workshop)).await.expect("epoch 1 begins on nothing");
    let log = std::fs::read_to_string(workshop.softservice(NAME).join("volumes/main.pages/log"));
    assert_eq!(log.expect("a log"), "first\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_left_goes_to_nobody_else() {
    let workshop = Workshop::new();
    removed(&workshop).await;
    let mallory = Diary { publisher: PublisherId([9; 32]), ..Diary::default() };
    let other = Diary { distro: "letters", ..Diary::default() };
    for (who, diary) in [("09090909/diary", mallory), ("07070707/letters", other)] {
        let request = PlanRequest::new(NAME, diary.release(&workshop));
        for refused in [workshop.device.plan(&request).await.err(), workshop.device.prepare(&request, None).await.err()]
        {
            let why = refused.expect("refused");
            let is_it = matches!(&why, DeviceError::LeftByAnother { there, wanted, .. } if there == "07070707/diary" && wanted == who);
            assert!(is_it, "{why}");
        }
        let beside = PlanRequest::new("beside", request.release);
        workshop.device.plan(&beside).await.expect("under another name it is nobody's business");
    }
    let left = workshop.device.left(NAME).await.expect("known").expect("something is left");
    assert_eq!((left.publisher, left.distro.as_str()), (PUBLISHER.to_string(), NAME));
    workshop.up(NAME, Diary::default().release(&workshop)).await.expect("its own kind finds it");
    assert_eq!(workshop.device.left(NAME).await.expect("known"), None, "it is in use");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_a_component_that_was_left_out_keeps_its_layout() {
    let workshop = Workshop::new();
    let of = |epoch, writes| Some(Diary { epoch, writes, ..Diary::default() });
    let log = || std::fs::read_to_string(workshop.softservice(NAME).join("volumes/c.main.pages/log")).expect("a log");
    let second = desk(&workshop, of(2, "echo two >> \"$1/log\""));
    let third = desk(&workshop, of(3, "echo three >> \"$1/log\""));
    workshop.up(NAME, second).await.expect("installed");
    workshop.up(NAME, desk(&workshop, None)).await.expect("without its diary");
    let refused = async |release| match workshop.device.plan(&PlanRequest::new(NAME, release)).await {
        Err(DeviceError::Epoch { old, now, .. }) => (old, now),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(desk(&workshop, of(1, "echo one >> \"$1/log\""))).await, (1, 2), "older code, newer data");

    // One that carries it over has the old data kept.
    let plan = workshop.device.plan(&PlanRequest::new(NAME, third)).await.expect("a plan");
    assert!(plan.steps.iter().any(|s| s.kind == "migrate" && s.what == "c"), "{:?}", plan.steps);
    workshop.up(NAME, third).await.expect("carried over");
    assert_eq!(log(), "two\nthree\n");
    let kept = |generation: u32| workshop.softservice(NAME).join(format!("snapshots/{generation}/c.main.pages/log"));
    assert_eq!(std::fs::read_to_string(kept(2)).expect("kept"), "two\n");

    // The desk alone asks for no data, and leaves the diary's as it is.
    let back = async |to| {
        let request = workshop.device.rollback_request(NAME, Some(to)).await.expect("a way back");
        let (generation, previous) = workshop.device.prepare(&request, None).await.expect("prepared");
        workshop.live(&generation, previous).await.expect("rolled back");
        request.restore
    };
    assert_eq!(back(2).await, None);
    assert_eq!(refused(second).await, (2, 3), "what is left out is not forgotten");
    assert_eq!(back(1).await, Some(2), "with its data");
    assert_eq!(log(), "two\ntwo\n");
    assert_eq!(std::fs::read_to_string(kept(4)).expect("kept"), "two\nthree\n", "and what was there is kept, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_comes_back_beside_a_release_without_it_takes_the_place_of_nothing_that_is_not_kept() {
    let workshop = Workshop::new();
    let log = || std::fs::read_to_string(workshop.softservice(NAME).join("volumes/c.main.pages/log")).expect("a log");
    let with = |epoch, writes| desk(&workshop, Some(Diary { epoch, writes, ..Diary::default() }));
    workshop.up(NAME, with(1, "echo one >> \"$1/log\"")).await.expect("installed");
    workshop.up(NAME, desk(&workshop, None)).await.expect("without its diary");
    workshop.up(NAME, with(2, "echo two >> \"$1/log\"")).await.expect("carried over");
    // Back to the desk alone, with the data that was kept then: of the diary as well.
    let mut request = workshop.device.rollback_request(NAME, Some(2)).await.expect("a way back");
    request.restore = Some(2);
    let (generation, previous) = workshop.device.prepare(&request, None).await.expect("prepared");
    for effect in forward(previous).take_while(|e| *e != Effect::Commit) {
        workshop.perform(&generation, previous, effect).await.expect("a step");
    }
    assert_eq!(log(), "one\n");
    workshop.go_back(&generation, previous, Effect::Confirm).await;
    assert!(log().starts_with("one\ntwo\n"), "bit by bit: {}", log());
    let (generation, previous) = workshop.device.prepare(&request, None).await.expect("prepared");
    workshop.live(&generation, previous).await.expect("rolled back");
    workshop.up(NAME, with(1, "echo one >> \"$1/log\"")).await.expect("its data is of epoch 1 again");
    assert_eq!(log(), "one\none\n");
}
