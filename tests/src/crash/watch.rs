//! Events of a softservice's folder as they happen: names that come and go, and lines of the journal. Invariant: an event is
//! told within the time that the kernel takes to wake a thread; nobody asks at intervals.

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use serde_json::Value;
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    mem::MaybeUninit,
    path::Path,
    sync::mpsc,
};

/// Something changed in the folder: what happened, and to which name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// `made`, `gone`, `moved here`, `moved away`, or `written`.
    pub what: &'static str,
    /// The name in the folder.
    pub name: String,
}

/// Tells changes of `folder` to `told` until nobody listens or the folder above is gone. It may go and come again; what happened
/// in it before it was found again is told as a change of its journal, whatever that was.
pub fn changes<T: From<Change> + Send + 'static>(folder: &Path, told: mpsc::Sender<T>) -> std::io::Result<()> {
    let watching = inotify::init(CreateFlags::CLOEXEC)?;
    let all =
        WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO | WatchFlags::MODIFY;
    let above = folder.parent().unwrap_or(Path::new("/"));
    let coming = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
    let above = inotify::add_watch(&watching, above, coming)?;
    inotify::add_watch(&watching, folder, all | WatchFlags::ONLYDIR)?;
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut events = inotify::Reader::new(&watching, &mut buffer);
        while let Ok(event) = events.next() {
            let name = event.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let what = kind(event.events());
            let change = if event.wd() == above {
                if event.events().contains(ReadFlags::IGNORED) {
                    return;
                }
                // Gone again already, it will be told again should it come once more.
                let found = Some(name.as_str()) == folder.file_name().and_then(|n| n.to_str())
                    && inotify::add_watch(&watching, &folder, all | WatchFlags::ONLYDIR).is_ok();
                found.then(|| Change { what: "written", name: "journal".into() })
            } else {
                what.map(|what| Change { what, name })
            };
            if change.is_some_and(|change| told.send(change.into()).is_err()) {
                return;
            }
        }
    });
    Ok(())
}

fn kind(events: ReadFlags) -> Option<&'static str> {
    let kinds = [
        (ReadFlags::CREATE, "made"),
        (ReadFlags::DELETE, "gone"),
        (ReadFlags::MOVED_TO, "moved here"),
        (ReadFlags::MOVED_FROM, "moved away"),
        (ReadFlags::MODIFY, "written"),
    ];
    kinds.into_iter().find(|(flag, _)| events.contains(*flag)).map(|(_, what)| what)
}

/// A line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// The generation on its way.
    pub generation: u64,
    /// The effect's word.
    pub effect: String,
    /// `begun`, `done` or `failed`.
    pub mark: String,
}

impl Line {
    /// Whether a life ends with it.
    pub fn is_end(&self) -> bool {
        self.mark == "done" && ["commit", "mark_failed"].contains(&self.effect.as_str())
    }
}

/// The whole lines of the journal in `softservice` after its first `bytes`; a torn end is left out.
pub fn journal(softservice: &Path, bytes: u64) -> Vec<Line> {
    let mut text = String::new();
    if let Ok(mut file) = File::open(softservice.join("journal")) {
        // A journal that was begun anew meanwhile is shorter: then all of it is new.
        let from = if file.metadata().is_ok_and(|m| m.len() >= bytes) { bytes } else { 0 };
        let read = file.seek(SeekFrom::Start(from)).and_then(|_| file.read_to_string(&mut text));
        read.expect("a journal can be read");
    }
    let whole = text.rfind('\n').map_or("", |end| text.split_at(end).0);
    whole.lines().filter_map(line).collect()
}

fn line(text: &str) -> Option<Line> {
    let entry: Value = serde_json::from_str(text.split_once(' ')?.1).ok()?;
    let mark = &entry["mark"];
    Some(Line {
        generation: entry["step"]["generation"]["number"].as_u64()?,
        effect: entry["step"]["effect"].as_str()?.to_owned(),
        mark: mark.as_str().or_else(|| Some(mark.as_object()?.keys().next()?))?.to_owned(),
    })
}
