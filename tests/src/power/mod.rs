//! Stores whose process or power goes in the middle of work: what was acknowledged must be there after, nothing may be half
//! visible, and what was interrupted must be possible to finish. Invariant: the work runs in a process of its own, which is
//! really gone; the judge is another one, with a deadline, and a panic or a hang of either is a fault.
//!
//! Three ways to go: a kill, after any change that the process made; a cut of the power of a real ext4 file system, at any
//! time; and a cut of a file system in memory, after any change, which keeps what it likes of all that was not synced.

use crate::crash::disk::Disk;
use draw::Draw;
use figures::{Figures, Row};
use fixture::Fixture;
use model::Image;
use mount::{End, Mounted};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};
use work::Kind;

pub mod draw;
pub mod figures;
pub mod fixture;
pub mod judge;
pub mod model;
pub mod mount;
pub mod work;

/// How long one process may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a store is crashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// `kill -9`.
    Kill,
    /// The power of an ext4 file system.
    Ext4,
    /// The power of the cruellest file system there could be.
    Any,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kill, Self::Ext4, Self::Any];
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Ext4 => "cut-ext4",
            Self::Any => "cut-any",
        }
    }
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Orders {
    /// Crashes, in equal shares of all kinds of work and all ways.
    pub points: u64,
    /// Draws the moments.
    pub seed: u64,
    /// Only these kinds of work.
    pub kinds: Vec<Kind>,
    /// Only these ways.
    pub ways: Vec<Way>,
}

/// Whether this machine can do it; otherwise says loudly what is skipped.
pub fn possible_or_skip(what: &str) -> bool {
    let tried = tempfile::tempdir().map_err(|e| e.to_string()).and_then(|folder| {
        let root = model::load(folder.path()).map_err(|e| e.to_string())?;
        Mounted::new(root, folder.path(), None, true).map(drop)
    });
    if let Err(why) = &tried {
        eprintln!("SKIPPED, needs root and /dev/fuse ({why}): {what}");
    }
    tried.is_ok() && crate::crash::disk::disk_or_skip(what)
}

/// Everything that the crashes share.
struct Stage<'a> {
    /// The program that plays victim and judge.
    program: &'a Path,
    scratch: tempfile::TempDir,
    fixture: Fixture,
}

/// How a life of a victim went.
struct Life {
    said: Vec<String>,
    /// It began to work, and had not ended yet.
    met: bool,
    faults: Vec<String>,
    took: Duration,
}

/// Crashes stores. `program` is `power` of this build, `tell` hears of each crash.
pub fn run(program: &Path, orders: &Orders, mut tell: impl FnMut(&str)) -> Figures {
    let scratch = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let fixture = Fixture::make(&scratch.path().join("fixture")).expect("undisturbed stores work");
    let stage = Stage { program, scratch, fixture };
    let mut figures = Figures::default();
    let each = orders.points.div_ceil((orders.kinds.len() * orders.ways.len()) as u64);
    for kind in &orders.kinds {
        for way in &orders.ways {
            let mut draw = Draw::new(orders.seed, &format!("{} {}", kind.name(), way.name()));
            let mut row = Row::default();
            if *way == Way::Ext4 {
                stage.on_ext4(*kind, each, &mut draw, &mut row, &mut tell);
            } else {
                stage.in_memory(*kind, *way, each, &mut draw, &mut row, &mut tell);
            }
            figures.add(*kind, *way, row);
        }
    }
    figures
}

impl Stage<'_> {
    fn child(&self, role: &str, kind: Kind, home: &Path) -> Child {
        Command::new(self.program)
            .args([role, kind.name()])
            .arg(home)
            .arg(self.scratch.path().join("fixture"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program was built")
    }
    /// Runs a victim until it ends, or until `until` says that it is over.
    fn live(&self, kind: Kind, home: &Path, mut until: impl FnMut(&[String], Option<Instant>) -> Verdict) -> Life {
        let mut child = self.child("victim", kind, home);
        let (lines, complaints) = listen(&mut child);
        let begun = Instant::now();
        let (mut said, mut working, mut faults): (Vec<String>, Option<Instant>, Vec<String>) =
            (Vec::new(), None, Vec::new());
        loop {
            let wait = match until(&said, working) {
                Verdict::Over => break,
                Verdict::Wait(wait) => wait,
            };
            match lines.recv_timeout(wait) {
                Ok(line) => {
                    if line == "begin" {
                        working = Some(Instant::now());
                    }
                    said.push(line);
                }
                Err(mpsc::RecvTimeoutError::Timeout) if begun.elapsed() > PATIENCE => {
                    faults.push("the victim hangs".to_owned());
                    break;
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        let took = working.map_or(Duration::ZERO, |since| since.elapsed());
        // What was said before it was gone counts, whenever it is heard.
        said.extend(lines.iter());
        let complaint = complaints.recv().unwrap_or_default();
        // sled panics when a disk fails; the index catches that, and counts as broken.
        if let Some(panic) = complaint.lines().find(|l| l.contains("panicked at") && !l.contains("/sled-")) {
            faults.push(format!("the victim panics: {panic}"));
        }
        let met = said.iter().any(|l| l == "begin") && !said.iter().any(|l| l == "end");
        if !met && !said.iter().any(|l| l == "end") {
            faults.push(format!("the victim does not begin: {complaint}"));
        }
        Life { said, met, faults, took }
    }
    /// Judges what a crash left in a home.
    fn judged(&self, kind: Kind, home: &Path, said: &[String], row: &mut Row) -> Vec<String> {
        let mut child = self.child("judge", kind, home);
        let mut input = child.stdin.take().expect("it is piped");
        let written = input.write_all((said.join("\n") + "\n").as_bytes());
        drop(input);
        let (lines, complaints) = listen(&mut child);
        let begun = Instant::now();
        let (mut faults, mut judged) = (Vec::new(), false);
        loop {
            match lines.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
                Ok(line) if line == "judged" => judged = true,
                Ok(line) => match line.split_once(' ') {
                    Some(("fault", fault)) => faults.push(fault.to_owned()),
                    Some(("told", told)) => row.tell(told),
                    _ => {}
                },
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    faults.push("whoever opens it hangs".to_owned());
                    break;
                }
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        if !judged || written.is_err() {
            faults.push(format!("whoever opens it dies: {}", complaints.recv().unwrap_or_default()));
        }
        faults
    }

    /// Kills, and cuts of a file system in memory: after a change or sync that is drawn from all that the work makes.
    fn in_memory(
        &self,
        kind: Kind,
        way: Way,
        points: u64,
        draw: &mut Draw,
        row: &mut Row,
        tell: &mut impl FnMut(&str),
    ) {
        let image = model::load(&self.fixture.home(kind)).expect("it was made");
        let mount = self.scratch.path().join("mount");
        fs::create_dir_all(&mount).expect("a folder");
        let live = |image: Image, end: Option<(u64, End)>, at_once: bool| {
            let mounted = Mounted::new(image, &mount, end, at_once).expect("it could be mounted before");
            let life = self.live(kind, &mount, |_, _| match mounted.ended() {
                Some(_) => Verdict::Over,
                None => Verdict::Wait(Duration::from_millis(20)),
            });
            let left = mounted.ended().unwrap_or_else(|| mounted.seen());
            (life, left, mounted.done())
        };
        let (calm, _, changes) = live(image.clone(), None, false);
        assert!(calm.said.iter().any(|l| l == "end") && calm.faults.is_empty(), "undisturbed: {:?}", calm.faults);
        tell(&format!("{} in memory, undisturbed: {changes} changes and syncs", kind.name()));
        for _ in 0..points {
            let end = |draw: &mut Draw| if way == Way::Kill { End::Kill } else { End::Power(draw.number()) };
            let at = draw.below(changes);
            let first = end(draw);
            let (life, mut left, _) = live(image.clone(), Some((at, first)), false);
            let mut said = self.fixture.said(kind);
            said.extend(life.said);
            let (mut faults, mut what) = (life.faults, format!("after {at} of {changes}"));
            row.count(life.met);
            if draw.chance(34) {
                // And again, somewhere from the opening on.
                let at = draw.below(changes);
                let next = end(draw);
                let (life, after, _) = live(left, Some((at, next)), true);
                said.extend(life.said);
                faults.extend(life.faults.into_iter().filter(|fault| !fault.contains("does not begin")));
                left = after;
                row.again += 1;
                what.push_str(&format!(", and again after {at}"));
            }
            let home = self.scratch.path().join("left");
            model::save(&left, &home).expect("there is room");
            faults.extend(self.judged(kind, &home, &said, row));
            fs::remove_dir_all(&home).expect("it is ours");
            conclude(kind, way, &what, &said, faults, row, tell);
        }
    }

    /// Cuts of a real file system: after a part of the time that the work takes, drawn anew for each.
    fn on_ext4(&self, kind: Kind, points: u64, draw: &mut Draw, row: &mut Row, tell: &mut impl FnMut(&str)) {
        let mount = self.scratch.path().join("disk");
        let mut disk = Disk::new(&mount).expect("it could be made before");
        let home = mount.join("home");
        let begin = || {
            let _ = fs::remove_dir_all(&home);
            copy(&self.fixture.home(kind), &home);
        };
        begin();
        disk.sync();
        let calm = self.live(kind, &home, |_, _| Verdict::Wait(Duration::from_millis(500)));
        assert!(calm.said.iter().any(|l| l == "end"), "undisturbed: {:?}", calm.faults);
        tell(&format!("{} on ext4, undisturbed: {:.2} s", kind.name(), calm.took.as_secs_f64()));
        for _ in 0..points {
            begin();
            disk.sync();
            let part = draw.below(1000);
            let after = calm.took * part as u32 / 1000;
            let life = self.live(kind, &home, |_, working| match working.map(|since| since.elapsed()) {
                Some(elapsed) if elapsed >= after => Verdict::Over,
                Some(elapsed) => Verdict::Wait(after - elapsed),
                None => Verdict::Wait(Duration::from_millis(500)),
            });
            let cut = disk.cut();
            disk.restore(cut);
            row.count(life.met);
            let mut said = self.fixture.said(kind);
            said.extend(life.said);
            let mut faults = life.faults;
            faults.extend(self.judged(kind, &home, &said, row));
            conclude(kind, Way::Ext4, &format!("after {part} thousandths"), &said, faults, row, tell);
        }
    }
}

/// Whether a life goes on.
enum Verdict {
    Over,
    Wait(Duration),
}

fn conclude(
    kind: Kind,
    way: Way,
    at: &str,
    said: &[String],
    faults: Vec<String>,
    row: &mut Row,
    tell: &mut impl FnMut(&str),
) {
    let last = said.last().cloned().unwrap_or_default();
    let mut text = format!("{} {} {at}, last said: {last}", kind.name(), way.name());
    for fault in &faults {
        text.push_str("\n    ");
        text.push_str(fault);
    }
    row.faulty += u64::from(!faults.is_empty());
    tell(&text);
}

/// Lines of a child's output as they come, and its complaints once it has ended.
fn listen(child: &mut Child) -> (mpsc::Receiver<String>, mpsc::Receiver<String>) {
    let (send, lines) = mpsc::channel();
    let out = child.stdout.take().expect("it is piped");
    std::thread::spawn(move || {
        let lines = BufReader::new(out).lines().map_while(Result::ok);
        lines.filter_map(|l| l.strip_prefix("did ").map(str::to_owned)).all(|line| send.send(line).is_ok());
    });
    let (tell, complaints) = mpsc::channel();
    let mut err = child.stderr.take().expect("it is piped");
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = err.read_to_end(&mut text);
        let _ = tell.send(String::from_utf8_lossy(&text).into_owned());
    });
    (lines, complaints)
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.is_ok_and(|s| s.success()), "{} cannot be copied", from.display());
}

/// What the program does when it is the victim, or the judge.
///
/// # Panics
/// When it is neither.
pub fn play(role: &str, kind: &str, home: PathBuf, fixture: PathBuf) {
    let kinds: BTreeMap<&str, Kind> = Kind::ALL.into_iter().map(|k| (k.name(), k)).collect();
    let kind = *kinds.get(kind).expect("a kind of work");
    let fixture = Fixture::at(&fixture);
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "did {line}").and_then(|()| out.flush());
    };
    if role == "victim" {
        let store = match softservice_store::open(&home.join("store")) {
            Ok(store) => store,
            Err(e) => return eprintln!("the store does not open: {e}"),
        };
        if let Err(e) = fixture.peer() {
            return eprintln!("the other store does not open: {e}");
        }
        let _ = fs::File::create(home.join(mount::BEGIN));
        say("begin".into());
        if let Err(e) = work::work(kind, &home, &store, &fixture, &say) {
            eprintln!("{e}");
        }
        return;
    }
    let said: Vec<String> = std::io::stdin().lines().map_while(Result::ok).collect();
    let (faults, told) = judge::judge(kind, &home, &fixture, &said);
    faults.iter().for_each(|fault| say(format!("fault {}", fault.replace('\n', " "))));
    told.iter().for_each(|told| say(format!("told {}", told.replace('\n', " "))));
    say("judged".into());
}
