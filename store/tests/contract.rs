//! One suite over every store. Invariant: no story here knows which store it runs on.

mod cast;

use cast::{Folder, release_of, transfer, tree_of};
use softservice_protocol::{
    chunk::{ChunkRef, Verified},
    codec,
    feed::{Head, Position},
    id::{Digest, FeedId, ObjectId, PublisherId, ReleaseId},
    io::{Depth, Record, Stage},
    release::{Release, ReleaseRef},
    tree::Node,
};
use softservice_store::{Layout, MemoryStore, Store, StoreError, closure, manifests};
use std::{collections::BTreeSet, os::unix::fs::PermissionsExt};

/// A store with whatever it needs to live.
type Made = (Box<dyn Store>, Option<tempfile::TempDir>);

fn memory() -> Made {
    (Box::new(MemoryStore::new()), None)
}

fn disk() -> Made {
    let dir = tempfile::tempdir().unwrap();
    (Box::new(softservice_store::open(dir.path()).unwrap()), Some(dir))
}

fn head(seq: u64, tag: u8) -> Head {
    Head { at: Position { epoch: 1, seq }, hash: Digest([tag; 32]) }
}

fn go_on(_: u64) -> bool {
    true
}

/// The layout of these bytes, cut into pieces of `step`.
fn layout(bytes: &[u8], step: usize) -> Layout {
    let chunks = bytes.chunks(step).map(|c| ChunkRef { id: Verified::own(c.to_vec()).id(), len: c.len() as u32 });
    Layout { object: ObjectId::of(bytes), size: bytes.len() as u64, chunks: chunks.collect() }
}

fn ann_keeps_records_in_order_and_marks_only_rise(make: fn() -> Made) {
    let (ann, _dir) = make();
    let publisher = PublisherId([7; 32]);
    let feed = FeedId::main(publisher);
    assert_eq!(ann.mark(feed).unwrap(), None);
    let records: Vec<Record> = (1..=20)
        .map(|n| Record::Reserved { publisher, head: head(n, n as u8) })
        .chain([Record::Address { address: "/ip4/10.0.0.1/tcp/1".into() }, Record::Unfollowed { publisher }])
        .collect();
    for record in &records {
        ann.keep(record).unwrap();
    }
    assert_eq!(ann.records().unwrap(), records);
    assert_eq!(ann.mark(feed).unwrap(), Some(head(20, 20)));
    ann.raise_mark(feed, head(5, 99)).unwrap();
    ann.raise_mark(feed, head(20, 99)).unwrap();
    assert_eq!(ann.mark(feed).unwrap(), Some(head(20, 20)), "a mark went back or sideways");
    ann.raise_mark(feed, head(21, 1)).unwrap();
    let epoch = Head { at: Position { epoch: 2, seq: 1 }, hash: Digest([3; 32]) };
    ann.raise_mark(feed, epoch).unwrap();
    assert_eq!(ann.mark(feed).unwrap(), Some(epoch));
}

fn bob_puts_an_object_together_from_chunks(make: fn() -> Made) {
    let (bob, _dir) = make();
    let bytes = cast::noise(300_000, 1);
    let plan = layout(&bytes, 70_000);
    let parts: Vec<Verified> = bytes.chunks(70_000).map(|c| Verified::own(c.to_vec())).collect();
    bob.put(&parts[0]).unwrap();
    assert_eq!(bob.survey(&plan.chunks).unwrap().count(), 0, "a chunk that nobody expects is not kept");
    bob.expect(std::slice::from_ref(&plan)).unwrap();
    bob.expect(std::slice::from_ref(&plan)).unwrap();
    for part in &parts[..4] {
        bob.put(part).unwrap();
        bob.put(part).unwrap();
    }
    assert_eq!(bob.survey(&plan.chunks).unwrap().ones().collect::<Vec<_>>(), vec![0, 1, 2, 3]);
    let read = bob.read(&plan.chunks).unwrap();
    assert_eq!(read[2].as_deref(), Some(parts[2].bytes()));
    assert_eq!(read[4], None);
    // In a row, whatever is missing among them; what stood behind stays or not.
    let asked = [plan.chunks[4], plan.chunks[3], plan.chunks[0]];
    let mut room = vec![7; 280_000];
    let held = bob.read_into(&asked, &mut room).unwrap();
    assert_eq!((held.len(), held.ones().collect::<Vec<_>>()), (3, vec![1, 2]));
    assert_eq!(&room[..140_000], [parts[3].bytes(), parts[0].bytes()].concat());
    // Too little room is no fault of the store's: what has none is missing.
    let held = bob.read_into(&asked, &mut room[..139_999]).unwrap();
    assert_eq!(held.ones().collect::<Vec<_>>(), vec![1]);
    assert_eq!(&room[..70_000], parts[3].bytes());
    assert_eq!(bob.read_into(&asked, &mut []).unwrap().count(), 0);
    match bob.assemble(std::slice::from_ref(&plan)) {
        Err(StoreError::Incomplete { missing: 1, object }) => assert_eq!(object, plan.object),
        other => panic!("expected one missing chunk, got {other:?}"),
    }
    assert!(!bob.has_object(plan.object));
    bob.put(&parts[4]).unwrap();
    bob.assemble(std::slice::from_ref(&plan)).unwrap();
    bob.assemble(std::slice::from_ref(&plan)).unwrap();
    assert_eq!(bob.object(plan.object, 300_000).unwrap(), bytes);
    assert!(matches!(bob.object(plan.object, 299_999), Err(StoreError::Codec(_))));
    assert!(bob.survey(&plan.chunks).unwrap().is_full());
    assert_eq!(bob.read(&plan.chunks[1..2]).unwrap()[0].as_deref(), Some(parts[1].bytes()));
    assert_eq!(bob.totals().unwrap(), (1, 300_000));
}

/// Chunks of three objects, one of them inside another and one repeating itself, by the handful, in any order, from
/// several threads at once.
fn chunks_that_come_together_land_as_one_by_one(make: fn() -> Made) {
    let (bob, _dir) = make();
    let (one, two) = (cast::noise(1_200_000, 5), cast::noise(400_000, 6));
    let bytes =
        [one.clone(), [two.clone(), one[..20_000].to_vec()].concat(), [two.clone(), two[..200_000].to_vec()].concat()];
    let plans: Vec<Layout> = bytes.iter().map(|b| layout(b, 20_000)).collect();
    bob.expect(&plans).unwrap();
    let parts: Vec<Verified> = bytes.iter().flat_map(|b| b.chunks(20_000)).map(|c| Verified::own(c.to_vec())).collect();
    let mut handfuls: Vec<&[Verified]> = parts.chunks(7).collect();
    // The last handfuls first, each third one twice.
    handfuls.reverse();
    handfuls.extend(parts.chunks(7).step_by(3));
    let stranger = [Verified::own(vec![9; 500])];
    assert!(bob.put_all(&stranger).iter().all(Result::is_ok));
    assert!(bob.put_all(&[]).is_empty());
    std::thread::scope(|scope| {
        for start in 0..4 {
            let (bob, handfuls) = (&bob, &handfuls);
            scope.spawn(move || {
                for handful in handfuls.iter().skip(start).step_by(4) {
                    let answers = bob.put_all(handful);
                    assert_eq!(answers.len(), handful.len());
                    answers.into_iter().for_each(|answer| answer.unwrap());
                }
            });
        }
    });
    for plan in &plans {
        assert!(bob.survey(&plan.chunks).unwrap().is_full());
    }
    bob.assemble(&plans).unwrap();
    for (plan, bytes) in plans.iter().zip(&bytes) {
        assert_eq!(&bob.object(plan.object, bytes.len()).unwrap(), bytes);
    }
}

fn bob_fills_a_new_object_from_an_old_one(make: fn() -> Made) {
    let (bob, _dir) = make();
    let mut bytes = cast::noise(400_000, 2);
    let old = layout(&bytes, 50_000);
    bob.expect(std::slice::from_ref(&old)).unwrap();
    for part in bytes.chunks(50_000) {
        bob.put(&Verified::own(part.to_vec())).unwrap();
    }
    bob.assemble(std::slice::from_ref(&old)).unwrap();
    bytes[120_000] ^= 1;
    let new = layout(&bytes, 50_000);
    bob.expect(std::slice::from_ref(&new)).unwrap();
    let have = bob.survey(&new.chunks).unwrap();
    assert_eq!(have.zeros().collect::<Vec<_>>(), vec![2]);
    bob.put(&Verified::own(bytes[100_000..150_000].to_vec())).unwrap();
    bob.assemble(std::slice::from_ref(&new)).unwrap();
    assert_eq!(bob.object(new.object, usize::MAX).unwrap(), bytes);
}

fn repeated_and_shared_chunks_land_everywhere(make: fn() -> Made) {
    let (bob, _dir) = make();
    let zeros = vec![0; 65_536];
    let twice = [zeros.as_slice(), &zeros, b"end"].concat();
    let alone = zeros.clone();
    let layouts = [layout(&twice, 65_536), layout(&alone, 65_536), layout(b"", 1), layout(b"tiny", 9)];
    bob.expect(&layouts).unwrap();
    for part in [zeros.as_slice(), b"end", b"tiny"] {
        bob.put(&Verified::own(part.to_vec())).unwrap();
    }
    bob.assemble(&layouts).unwrap();
    assert_eq!(bob.object(layouts[0].object, usize::MAX).unwrap(), twice);
    assert_eq!(bob.object(layouts[1].object, usize::MAX).unwrap(), alone);
    assert_eq!(bob.object(layouts[2].object, usize::MAX).unwrap(), b"");
    assert_eq!(bob.object(layouts[3].object, 4).unwrap(), b"tiny");
}

fn absurd_layouts_are_refused(make: fn() -> Made) {
    let (bob, _dir) = make();
    let good = layout(&[1; 1000], 100);
    let part = good.chunks[0];
    let table = [
        Layout { size: 999, ..good.clone() },
        Layout { size: u64::MAX, ..good.clone() },
        Layout { chunks: vec![ChunkRef { len: 0, ..part }; 10], size: 0, ..good.clone() },
        Layout { chunks: vec![ChunkRef { len: u32::MAX, ..part }], size: u64::from(u32::MAX), ..good.clone() },
        Layout { chunks: vec![part], size: 100, ..good.clone() },
    ];
    for bad in table {
        assert!(matches!(bob.expect(std::slice::from_ref(&bad)), Err(StoreError::Unsound { .. })), "{bad:?}");
        assert!(matches!(bob.assemble(&[bad]), Err(StoreError::Unsound { .. })));
    }
}

fn chunks_that_do_not_spell_their_object_are_refused(make: fn() -> Made) {
    let (bob, _dir) = make();
    let bytes = cast::noise(100_000, 3);
    let lie = Layout { object: ObjectId([9; 32]), ..layout(&bytes, 50_000) };
    bob.expect(std::slice::from_ref(&lie)).unwrap();
    for part in bytes.chunks(50_000) {
        bob.put(&Verified::own(part.to_vec())).unwrap();
    }
    assert!(matches!(bob.assemble(std::slice::from_ref(&lie)), Err(StoreError::Unsound { .. })));
    assert!(!bob.has_object(lie.object));
}

fn a_folder_goes_in_and_comes_out_the_same(make: fn() -> Made) {
    let (ann, _dir) = make();
    let folder = Folder::sample();
    let made = ann.ingest(folder.path(), &["*.tmp".into(), "/out".into(), "deep/gone/**".into()], &go_on).unwrap();
    let again = ann.ingest(folder.path(), &["*.tmp".into(), "/out".into(), "deep/gone/**".into()], &go_on).unwrap();
    assert_eq!((again.tree.clone(), again.new_bytes), (made.tree.clone(), 0));
    assert!(made.new_bytes < made.bytes, "two equal files are new only once");
    let manifest = manifests::of_tree(&*ann, &made.tree).unwrap();
    let parent = tempfile::tempdir().unwrap();
    let target = parent.path().join("tree");
    let placed = ann.materialise(&manifest, &target).unwrap();
    assert_eq!(placed.linked + placed.cloned + placed.copied, u64::from(made.tree.files));
    assert_eq!(placed.bytes, made.tree.bytes);
    folder.assert_same(&target, &["junk.tmp", "out"]);
    assert!(matches!(ann.materialise(&manifest, &target), Err(StoreError::Io { .. })), "an existing target is refused");
    let left: Vec<_> = std::fs::read_dir(parent.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, vec!["tree"], "no staging directory is left");
    assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o755);
}

/// Whatever a store remembers of files that it has read, a tree says what is in the folder.
fn a_folder_that_changed_goes_in_as_it_is(make: fn() -> Made) {
    let (ann, _dir) = make();
    let folder = Folder::sample();
    let large = folder.path().join("large");
    let settled = std::time::SystemTime::now() - std::time::Duration::from_secs(3_600);
    let date = |path: &std::path::Path| {
        std::fs::File::options().write(true).open(path).unwrap().set_modified(settled).unwrap();
    };
    let mut last = None;
    for round in 0..6u8 {
        match round {
            1 => std::fs::write(folder.path().join("a.txt"), "hello 2").unwrap(),
            // As long as before, and dated as before.
            2 => {
                std::fs::write(folder.path().join("a.txt"), "hello 3").unwrap();
                date(&folder.path().join("a.txt"));
            }
            3 => {
                let mut bytes = std::fs::read(&large).unwrap();
                bytes[5_000_000] ^= 1;
                std::fs::write(&large, bytes).unwrap();
                date(&large);
            }
            4 => std::fs::rename(folder.path().join("bin/serve"), folder.path().join("bin/serve2")).unwrap(),
            5 => std::fs::copy(folder.path().join("bin/serve2"), folder.path().join("bin/serve")).map(drop).unwrap(),
            _ => {}
        }
        let made = ann.ingest(folder.path(), &[], &go_on).unwrap();
        let again = ann.ingest(folder.path(), &[], &go_on).unwrap();
        let anew = ann.ingest_anew(folder.path(), &[], &go_on).unwrap();
        assert_eq!((&made.tree, made.bytes), (&again.tree, again.bytes));
        assert_eq!((&made.tree, made.bytes), (&anew.tree, anew.bytes));
        assert_ne!(last.replace(made.tree.manifest), Some(made.tree.manifest), "a change was not seen");
        let manifest = manifests::of_tree(&*ann, &made.tree).unwrap();
        let parent = tempfile::tempdir().unwrap();
        ann.materialise(&manifest, &parent.path().join("tree")).unwrap();
        folder.assert_same(&parent.path().join("tree"), &[]);
    }
}

fn what_a_tree_cannot_say_is_refused(make: fn() -> Made) {
    let (ann, _dir) = make();
    let folder = Folder::sample();
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
        .unwrap();
    match ann.ingest(folder.path(), &[], &go_on) {
        Err(StoreError::Unfit { path, .. }) => assert_eq!(path, pipe),
        other => panic!("a pipe was taken: {other:?}"),
    }
    std::fs::remove_file(&pipe).unwrap();
    assert!(matches!(ann.ingest(&folder.path().join("a.txt"), &[], &go_on), Err(StoreError::Unfit { .. })));
    assert!(matches!(ann.ingest(&folder.path().join("absent"), &[], &go_on), Err(StoreError::Io { .. })));
    assert!(matches!(ann.ingest(folder.path(), &[], &|_| false), Err(StoreError::Stopped)));
    assert_eq!(ann.totals().unwrap().0, 0, "a refused ingest leaves nothing visible");
}

fn a_missing_object_does_not_make_half_a_tree(make: fn() -> Made) {
    let (ann, _dir) = make();
    let (mut manifest, _) = tree_of(&*ann, &Folder::sample());
    for entry in &mut manifest.entries {
        if let Node::File { object, .. } = &mut entry.node
            && entry.path == "a.txt"
        {
            *object = ObjectId([1; 32]);
        }
    }
    let parent = tempfile::tempdir().unwrap();
    assert!(ann.materialise(&manifest, &parent.path().join("tree")).is_err());
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
}

fn carol_fetches_a_distro_of_distros_stage_by_stage(make: fn() -> Made) {
    let (ann, _ann_dir) = make();
    let (carol, _carol_dir) = make();
    let (root, children) = release_of(&*ann, &Folder::sample());
    let mut stages = Vec::new();
    loop {
        let list = closure::expand(&*carol, root, Depth::Content, "linux/x86_64").unwrap();
        let unique: BTreeSet<_> = list.chunks.iter().map(|c| c.id).collect();
        assert_eq!(unique.len(), list.chunks.len(), "a chunk is listed twice");
        if list.stage == Stage::Content {
            assert_eq!(Some(list.chunks.clone()), closure::content_order(&*ann, root.id).unwrap());
        } else {
            assert_eq!(closure::held(&*carol, root.id).unwrap(), None);
        }
        stages.push(list.stage);
        let done = list.stage == Stage::Content;
        transfer(&*ann, &*carol, &list);
        closure::assemble(&*carol, root, list.stage, "linux/x86_64").unwrap();
        if done {
            break;
        }
    }
    assert_eq!(stages, vec![Stage::Releases, Stage::Releases, Stage::Manifests, Stage::Content]);
    let list = closure::expand(&*carol, root, Depth::Content, "linux/x86_64").unwrap();
    assert!(list.stage == Stage::Content && list.have.is_full());
    let ids: Vec<ReleaseId> = closure::closure(&*carol, root.id).unwrap().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [vec![root.id], children].concat());
    let (ann_has, carol_has) = (closure::held(&*ann, root.id).unwrap().unwrap(), closure::held(&*carol, root.id));
    let carol_has = carol_has.unwrap().unwrap();
    assert!(ann_has.is_full());
    assert!(carol_has.count() < ann_has.count(), "carol does not have, and does not claim, the other platform's tree");
    let only = closure::expand(&*carol, root, Depth::Manifests, "linux/x86_64").unwrap();
    assert!(only.stage == Stage::Manifests && only.have.is_full());
}

fn two_fetches_of_the_same_documents_do_not_get_in_each_others_way(make: fn() -> Made) {
    let (ann, _ann_dir) = make();
    let (bob, _dir) = make();
    let (root, children) = release_of(&*ann, &Folder::sample());
    let expand = || closure::expand(&*bob, root, Depth::Content, "linux/x86_64").unwrap();
    let assemble = |stage| closure::assemble(&*bob, root, stage, "linux/x86_64");
    // Both were told to bring the topmost document, one has made it whole, the other comes to do the same.
    let (first, second) = (expand(), expand());
    transfer(&*ann, &*bob, &first);
    assemble(first.stage).unwrap();
    assert!(children.iter().any(|id| !bob.has_object(id.object())), "nothing is left for the next stage");
    assemble(second.stage).unwrap();
    // What the document includes is the next stage's, for both.
    let next = expand();
    assert_eq!((next.stage, next.have.count()), (Stage::Releases, 0));
    transfer(&*ann, &*bob, &next);
    assemble(next.stage).unwrap();
    assert_eq!(expand().stage, Stage::Manifests);
}

fn a_closure_that_is_not_what_was_pinned_is_refused(make: fn() -> Made) {
    let (ann, _dir) = make();
    let (root, _) = release_of(&*ann, &Folder::sample());
    let wrong = ReleaseRef { size: root.size + 1, ..root };
    assert!(matches!(closure::expand(&*ann, wrong, Depth::Content, "linux/x86_64"), Err(StoreError::Closure { .. })));
    let huge = ReleaseRef { id: ReleaseId([1; 32]), size: u32::MAX };
    assert!(matches!(closure::expand(&*ann, huge, Depth::Content, "x"), Err(StoreError::Closure { .. })));
    let garbage = ann.add(b"not a release at all").unwrap();
    let garbage = ReleaseRef { id: ReleaseId(garbage.0), size: 20 };
    assert!(matches!(closure::expand(&*ann, garbage, Depth::Content, "x"), Err(StoreError::Codec(_))));
    assert!(closure::closure(&*ann, garbage.id).is_err());
    let (_, tree) = tree_of(&*ann, &Folder::sample());
    let evil = cast::document("evil\u{1b}[2J", vec![("any".into(), tree.clone())], tree.clone(), vec![]);
    let evil = cast::publish(&*ann, &evil);
    let Err(StoreError::Closure { rule, .. }) = closure::closure(&*ann, evil.id) else { panic!("it was believed") };
    assert!(rule.contains("is not a name") && !rule.contains('\u{1b}'), "{rule}");
    let (sound, _) = release_of(&*ann, &Folder::sample());
    let mut liar: Release = codec::decode(&ann.object(sound.id.object(), 1 << 20).unwrap()).unwrap();
    liar.includes[0].version = "9.9.9".into();
    let liar = cast::publish(&*ann, &liar);
    let Err(StoreError::Closure { rule, .. }) = closure::closure(&*ann, liar.id) else { panic!("it was believed") };
    assert!(rule.contains("part0 9.9.9 is pinned, but its release is part0 1.0.0"), "{rule}");
    assert_eq!(closure::held(&*ann, ReleaseId([2; 32])).unwrap(), None);
    assert!(matches!(closure::closure(&*ann, ReleaseId([2; 32])), Err(StoreError::Missing(_))));
}

fn a_sweep_spares_what_is_kept_and_what_is_under_way(make: fn() -> Made) {
    let (ann, _ann_dir) = make();
    let (bob, _dir) = make();
    let (root, _) = release_of(&*ann, &Folder::sample());
    let fresh = ann.gc(&BTreeSet::new()).unwrap();
    assert_eq!(fresh.removed, 0, "what was just ingested is spared once");
    let keep = closure::objects(&*ann, root.id).unwrap();
    let stray = ann.add(b"stray").unwrap();
    ann.gc(&keep).unwrap();
    assert!(ann.has_object(stray));
    let swept = ann.gc(&keep).unwrap();
    assert!(!ann.has_object(stray));
    assert_eq!((swept.removed, swept.freed), (1, 5));
    assert!(closure::held(&*ann, root.id).unwrap().unwrap().is_full(), "chunks of kept objects are still found");

    // Bob is in the middle of a fetch: documents are here, manifests are not.
    for _ in 0..2 {
        let list = closure::expand(&*bob, root, Depth::Content, "linux/x86_64").unwrap();
        transfer(&*ann, &*bob, &list);
        closure::assemble(&*bob, root, list.stage, "linux/x86_64").unwrap();
    }
    let list = closure::expand(&*bob, root, Depth::Content, "linux/x86_64").unwrap();
    assert_eq!(list.stage, Stage::Manifests);
    transfer(&*ann, &*bob, &list);
    let swept = bob.gc(&BTreeSet::new()).unwrap();
    assert_eq!(swept.removed, 0, "a fetch under way lost its documents");
    closure::assemble(&*bob, root, list.stage, "linux/x86_64").unwrap();
    assert!(closure::held(&*bob, root.id).unwrap().is_some());

    ann.gc(&BTreeSet::new()).unwrap();
    assert_eq!(ann.totals().unwrap(), (0, 0));
    assert_eq!(closure::held(&*ann, root.id).unwrap(), None);
}

fn a_healthy_store_has_nothing_to_report(make: fn() -> Made) {
    let (ann, _dir) = make();
    release_of(&*ann, &Folder::sample());
    let findings = ann.fsck(&go_on).unwrap();
    assert_eq!(findings.damaged, vec![]);
    assert_eq!(findings.reindexed, 0);
    assert_eq!((findings.objects, findings.bytes), ann.totals().unwrap());
}

fn an_empty_tree_is_a_tree(make: fn() -> Made) {
    let (ann, _dir) = make();
    let empty = tempfile::tempdir().unwrap();
    let made = ann.ingest(empty.path(), &[], &go_on).unwrap();
    assert_eq!((made.bytes, made.tree.files), (0, 0));
    let manifest = manifests::of_tree(&*ann, &made.tree).unwrap();
    ann.materialise(&manifest, &empty.path().join("out")).unwrap();
    assert_eq!(std::fs::read_dir(empty.path().join("out")).unwrap().count(), 0);
}

/// Two fetches of one node share what they are made of.
fn two_who_assemble_the_same_both_succeed(make: fn() -> Made) {
    let (ann, _dir) = make();
    for round in 0..40_u8 {
        let parts: Vec<Verified> = (0..3).map(|n| Verified::own(vec![round ^ n; 20_000 + usize::from(n)])).collect();
        let whole: Vec<u8> = parts.iter().flat_map(|p| p.bytes().to_vec()).collect();
        let one = |p: &Verified| ChunkRef { id: p.id(), len: p.bytes().len() as u32 };
        let mut layouts = vec![Layout {
            object: ObjectId::of(&whole),
            size: whole.len() as u64,
            chunks: parts.iter().map(one).collect(),
        }];
        let single = Verified::own(vec![round, 1, 2, 3]);
        layouts.push(Layout { object: ObjectId::of(single.bytes()), size: 4, chunks: vec![one(&single)] });
        ann.expect(&layouts).unwrap();
        for part in parts.iter().chain([&single]) {
            ann.put(part).unwrap();
        }
        std::thread::scope(|scope| {
            let both = [scope.spawn(|| ann.assemble(&layouts)), scope.spawn(|| ann.assemble(&layouts))];
            for one in both {
                one.join().unwrap().unwrap();
            }
        });
        assert!(layouts.iter().all(|l| ann.has_object(l.object)));
    }
}

macro_rules! suite {
    ($($story:ident),+ $(,)?) => {
        mod memory_store { $(#[test] fn $story() { super::$story(super::memory) })+ }
        mod disk_store { $(#[test] fn $story() { super::$story(super::disk) })+ }
    };
}
suite!(
    ann_keeps_records_in_order_and_marks_only_rise,
    bob_puts_an_object_together_from_chunks,
    chunks_that_come_together_land_as_one_by_one,
    bob_fills_a_new_object_from_an_old_one,
    repeated_and_shared_chunks_land_everywhere,
    absurd_layouts_are_refused,
    chunks_that_do_not_spell_their_object_are_refused,
    a_folder_goes_in_and_comes_out_the_same,
    a_folder_that_changed_goes_in_as_it_is,
    what_a_tree_cannot_say_is_refused,
    a_missing_object_does_not_make_half_a_tree,
    carol_fetches_a_distro_of_distros_stage_by_stage,
    two_fetches_of_the_same_documents_do_not_get_in_each_others_way,
    a_closure_that_is_not_what_was_pinned_is_refused,
    a_sweep_spares_what_is_kept_and_what_is_under_way,
    a_healthy_store_has_nothing_to_report,
    an_empty_tree_is_a_tree,
    two_who_assemble_the_same_both_succeed,
);
