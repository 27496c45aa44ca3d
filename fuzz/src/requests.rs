//! Requests for signatures, as files of anybody's: the node's own source files, as they are, and a publisher whose keys are
//! known. Invariant: whatever is done to a file, nothing counts as signed that its keys did not sign.

#[path = "../../node/src/publisher/change.rs"]
#[allow(dead_code)]
mod change;
#[path = "../../node/src/publisher/request.rs"]
#[allow(dead_code)]
mod request;
#[path = "../../node/src/publisher/role.rs"]
#[allow(dead_code)]
mod role;

use crate::{
    cast::{Publisher, public},
    home::written,
    one_spelling,
    script::Script,
    specimens,
};
use ed25519_dalek::SigningKey;
use request::{Opened, Request, Wanted};
use softservice_protocol::{
    codec,
    feed::{Action, Entry, Listing},
    id::ReleaseId,
    release::Release,
    sign::{self, Kind, signed_bytes},
};
use std::{path::Path, sync::LazyLock};

static ANNA: LazyLock<Publisher> = LazyLock::new(specimens::anna);

/// Takes the bytes as a file's, and as a script that makes one, has it signed by some and changes it.
pub fn take(bytes: &[u8]) {
    if let Some(Ok(opened)) = one_spelling::<Request>(bytes).map(Request::open) {
        keeps_its_word(&opened);
    }
    let _ = scripted(Script(bytes));
}

fn keys(mask: u8) -> Vec<SigningKey> {
    let all = [&ANNA.root, &ANNA.release, &ANNA.revoke, &ANNA.fresh];
    all.into_iter().enumerate().filter(|(n, _)| mask >> n & 1 == 1).map(|(_, key)| key.clone()).collect()
}

fn scripted(mut script: Script<'_>) -> Option<()> {
    let (what, mask) = (script.byte()?, script.byte()?);
    let (kind, payload, document) = match what % 3 {
        0 => {
            let (payload, document) = listed();
            (Kind::Entry, payload, Some(document))
        }
        1 => (Kind::Entry, ANNA.entries[1].payload.clone(), None),
        _ => (Kind::Root, ANNA.successor(|root| root.min_protocol = 1, &[]).payload, None),
    };
    let mut request = Request::new(ANNA.first.clone(), kind, payload).with(document);
    if what & 0x80 != 0 {
        request = request.again();
    }
    let mut opened = request.open().expect("a request of anna's");
    opened.sign_where_due(&keys(mask));
    opened.write(Path::new("a.request")).expect("nothing is written");
    let file = written();
    let heading = file.iter().position(|b| *b == b'\n').expect("a heading") + 1;
    let mut bytes = file[heading..].to_vec();
    while let (Some(at), Some(with)) = (script.number(), script.byte()) {
        let at = usize::from(at) % bytes.len();
        bytes[at] ^= with;
    }
    let opened = one_spelling::<Request>(&bytes)?.open().ok()?;
    keeps_its_word(&opened);
    assert_eq!(opened.publisher(), ANNA.id(), "nobody else's root document is signed by anna's keys");
    // Of the ways that are left, one must have been gone by those who signed.
    let signers: Vec<_> = keys(mask).iter().map(public).collect();
    assert!(opened.envelope().signatures.iter().all(|s| signers.contains(&s.key)), "somebody signed who did not");
    Some(())
}

/// An entry of anna's that lists a release, and its document.
fn listed() -> (Vec<u8>, Vec<u8>) {
    let release = Release { publisher: ANNA.id(), ..specimens::release() };
    let document = codec::encode(&release).expect("a document");
    let mut entry: Entry = codec::decode(&ANNA.entries[0].payload).expect("an entry of anna's");
    entry.action = Action::Release(Listing {
        distro: release.distro,
        version: release.version,
        revision: release.revision,
        channel: "stable".into(),
        release: ReleaseId::of(&document),
        size: document.len() as u32,
        summary: release.summary,
        parents: release.parents.iter().map(|p| p.release).collect(),
        revoked: None,
    });
    (codec::encode(&entry).expect("an entry"), document)
}

/// Signatures that it shows are good ones over what it shows, and those that it counts are enough.
fn keeps_its_word(opened: &Opened) {
    let envelope = opened.envelope();
    assert_eq!(envelope.publisher, opened.publisher());
    let message = signed_bytes(envelope.kind, envelope.publisher, envelope.feed, &envelope.payload);
    assert!(envelope.signatures.iter().all(|s| sign::is_good(s, &message)));
    assert_eq!(opened.is_complete(), opened.sealed().is_some());
    if let Some(sealed) = opened.sealed() {
        assert_eq!(sealed.payload, envelope.payload);
        if let Wanted::Root(_) = opened.wanted {
            opened.root.next(&sealed).expect("whoever needs it takes it");
        }
    }
    let _ = (opened.ways(), opened.lacking(), opened.place(), opened.file_name(), opened.digest());
}
