//! One home with the softservice in it, and what is known of it from outside: which edition stands, which entries were
//! acknowledged. Invariant: what is expected comes from acknowledgements alone, never from looking at what the node did.

use super::{
    deed::Deed,
    disk::Disk,
    example::{Edition, Example},
    imprint::Imprint,
    judge::{self, Judgement},
    moment::{Crash, Moment, Victims},
    processes,
    watch::{self, Change, Line},
};
use crate::{
    Node, World,
    api::{self, Failure},
    process::{PATIENCE, binary},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

/// How long the node may take to make whole what a crash left. Far more than it needs: what is not whole by then never is.
const SETTLING: Duration = Duration::from_secs(60);
/// When nothing announces that services answer again, they are asked at this interval.
const ASKING: Duration = Duration::from_millis(20);

/// What is heard while a deed is done.
enum Heard {
    Change(Change),
    Ended(Result<Value, Failure>),
}

impl From<Change> for Heard {
    fn from(change: Change) -> Self {
        Self::Change(change)
    }
}

/// A deed that nobody disturbed: how long it took, and by which steps.
#[derive(Debug, Clone)]
pub struct Course {
    /// From the call to the answer.
    pub took: Duration,
    /// Lines of the journal.
    pub lines: Vec<Line>,
    /// Changes of the softservice's folder.
    pub changes: Vec<Change>,
}

/// What a crash led to.
#[derive(Debug)]
pub struct Outcome {
    /// What stands now, and whether it is whole.
    pub judgement: Judgement,
    /// From the start of the next node until the softservice was whole again and answered.
    pub recovery: Duration,
    /// The moment was met; otherwise the deed ended before it came.
    pub met: bool,
    /// The last line of the journal when the crash came.
    pub at: Option<Line>,
}

/// The home.
pub struct Scene {
    pub(super) example: Box<dyn Example>,
    pub(super) node: Node,
    pub(super) softservice: PathBuf,
    pub(super) entries: Vec<String>,
    disk: Option<Disk>,
    standing: Option<Edition>,
    heard: Receiver<Heard>,
    tell: Sender<Heard>,
    signed: u64,
}

impl Scene {
    /// A home with all editions published, the first installed, and data worth keeping.
    pub fn open(world: &World, name: &str, mut example: Box<dyn Example>, power: bool) -> Self {
        let disk = power.then(|| Disk::new(&world.path(name)).unwrap_or_else(|why| panic!("no disk: {why}")));
        let node = world.node(name);
        example.publish(&node, &world.path(&format!("{name}-sources")));
        let softservice = node.home.join("softservices").join(example.name());
        let (tell, heard) = mpsc::channel();
        let (entries, standing, signed) = (Vec::new(), None, 0);
        let mut scene = Self { example, node, disk, softservice, entries, standing, heard, tell, signed };
        let up = scene.call(Deed::Install).unwrap_or_else(|e| panic!("{e:?}: {}", scene.node.log()));
        assert_eq!(Edition::of(up["version"].as_str().unwrap_or_default()), Deed::Install.after(), "{up}");
        scene.standing = Deed::Install.after();
        let info = scene.ps().expect("what stands is listed");
        scene.entries = scene.example.plant(&scene.softservice, &info);
        scene.listen();
        scene
    }

    /// The example, for another scene.
    pub fn end(self) -> Box<dyn Example> {
        self.example
    }

    /// Tells what happens to the softservice's folder from now on.
    fn listen(&self) {
        watch::changes(&self.softservice, self.tell.clone()).expect("a folder can be watched");
    }

    fn call(&self, deed: Deed) -> Result<Value, Failure> {
        deed.call(&self.node.home, self.example.name())
    }

    /// What stands.
    pub fn standing(&self) -> Option<Edition> {
        self.standing
    }

    /// Does a deed without a crash. It must succeed as it should, and leave everything whole.
    pub fn undisturbed(&mut self, deed: Deed) -> Course {
        let before = self.before(deed);
        let began = Instant::now();
        let result = self.call(deed);
        let took = began.elapsed();
        assert_eq!(result.is_ok(), deed.succeeds(), "{}: {result:?}\n{}", deed.name(), self.node.log());
        self.settle().unwrap_or_else(|why| panic!("{} without a crash: {why}", deed.name()));
        let judgement = judge::judge(self, deed, &before.imprint, Some(&result));
        assert!(judgement.faults.is_empty(), "{} without a crash: {:#?}", deed.name(), judgement.faults);
        self.standing = judgement.stands;
        let heard = std::iter::from_fn(|| self.heard.try_recv().ok());
        let changes = heard.filter_map(|h| if let Heard::Change(c) = h { Some(c) } else { None }).collect();
        Course { took, lines: watch::journal(&self.softservice, before.journal), changes }
    }

    /// Does a deed, crashes, starts the node again, waits until all is whole, and judges.
    pub fn crash(&mut self, deed: Deed, crash: &Crash, course: &Course) -> Outcome {
        let before = self.before(deed);
        let (home, name, tell) = (self.node.home.clone(), self.example.name(), self.tell.clone());
        let began = Instant::now();
        let call = std::thread::spawn(move || {
            let _ = tell.send(Heard::Ended(deed.call(&home, name)));
        });
        let (met, mut result) = self.wait(&crash.moment, began, course, before.journal);
        let at = watch::journal(&self.softservice, before.journal).pop();
        self.kill(crash.victims);
        call.join().expect("a call ends with its node");
        for heard in std::iter::from_fn(|| self.heard.try_recv().ok()) {
            if let Heard::Ended(ended) = heard {
                result = Some(ended);
            }
        }
        let mut restarted = Instant::now();
        self.node.start();
        if let Some(later) = crash.again {
            // The moment itself is what is wanted here, there is nothing to wait for.
            std::thread::sleep(later);
            self.kill(crash.victims);
            restarted = Instant::now();
            self.node.start();
        }
        let settled = self.settle();
        let recovery = restarted.elapsed();
        let mut judgement = judge::judge(self, deed, &before.imprint, result.as_ref());
        judgement.faults.extend(settled.err());
        self.standing = judgement.stands;
        Outcome { judgement, recovery, met, at }
    }

    fn before(&mut self, deed: Deed) -> Before {
        assert_eq!(self.standing, deed.before(), "{} begins elsewhere", deed.name());
        if self.standing.is_some() {
            self.signed += 1;
            let words = format!("entry-{}", self.signed);
            let info = self.ps().expect("what stands is listed");
            if let Some(acknowledged) = self.example.write(&self.softservice, &info, &words) {
                assert!(acknowledged, "an entry is written before {}", deed.name());
                self.entries.push(words);
            }
        }
        for _ in std::iter::from_fn(|| self.heard.try_recv().ok()) {}
        // What is done from here on has to be durable by itself; what was done by hand before it has not.
        self.disk.iter().for_each(Disk::sync);
        let journal = std::fs::metadata(self.softservice.join("journal")).map_or(0, |m| m.len());
        Before { imprint: self.example.data(&self.softservice), journal }
    }

    /// Waits for the moment, or for the end of the deed where the moment never came; the end's answer, if it came.
    fn wait(
        &self,
        moment: &Moment,
        began: Instant,
        course: &Course,
        journal: u64,
    ) -> (bool, Option<Result<Value, Failure>>) {
        let hung = began + PATIENCE;
        let until = match moment {
            Moment::Part(part) => began + course.took * u32::try_from(*part).unwrap_or(0) / 1000,
            _ => hung,
        };
        let (mut met, mut result) = (0, None);
        loop {
            match self.heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Heard::Ended(ended)) => {
                    result = Some(ended);
                    if !matches!(moment, Moment::Part(_)) {
                        return (false, result);
                    }
                }
                Ok(Heard::Change(change)) => match moment {
                    Moment::Line(line) if change.name == "journal" => {
                        let so = |l: &Line| (&l.effect, &l.mark) == (&line.effect, &line.mark);
                        if watch::journal(&self.softservice, journal).iter().any(so) {
                            return (true, result);
                        }
                    }
                    Moment::Change(wanted, nth) if change == *wanted => {
                        met += 1;
                        if met == *nth {
                            return (true, result);
                        }
                    }
                    _ => {}
                },
                Err(RecvTimeoutError::Timeout) => {
                    assert!(Instant::now() < hung, "a deed hangs: {}", self.node.log());
                    return (true, result);
                }
                Err(RecvTimeoutError::Disconnected) => unreachable!("we hold a sender"),
            }
        }
    }

    /// Kills, and waits until the victims are gone.
    fn kill(&mut self, victims: Victims) {
        let program = binary();
        let home = self.node.home.clone();
        let cut = match &mut self.disk {
            Some(disk) if victims == Victims::Power => {
                // They stand still while the disk is looked at, and never go on.
                processes::of(&home).iter().for_each(|p| p.signal(Signal::STOP));
                Some(disk.cut())
            }
            _ => None,
        };
        self.node.kill();
        if victims != Victims::Node {
            // The keepers die first and take their services with them, as in a crash of the whole machine; what is left
            // after that without being told is somebody whom nobody kept. Looked for again and again: one that the node was
            // just starting is not a keeper yet, and becomes one after its node is gone.
            let (end, mut left) = (Instant::now() + PATIENCE, Vec::new());
            while Instant::now() < end {
                left = processes::of(&home);
                if left.is_empty() {
                    break;
                }
                left.iter().filter(|p| p.helps(program)).for_each(|p| p.signal(Signal::KILL));
                std::thread::park_timeout(ASKING);
            }
            // Bubblewrap binds its inner process to the outer one as its last act: a keeper that dies in the milliseconds
            // before leaves a service that nobody keeps. The next node is to end it, which the judgement sees.
            let unkept = left.iter().all(|p| !p.helps(program));
            assert!(unkept, "killed, and they live: {left:?}");
            if !left.is_empty() {
                eprintln!("nobody keeps these until the next node: {left:?}");
            }
        }
        if let (Some(cut), Some(disk)) = (cut, &mut self.disk) {
            disk.restore(cut);
            self.listen();
        }
    }

    /// Waits until nothing is on its way and what is to run answers.
    fn settle(&self) -> Result<(), String> {
        let end = Instant::now() + SETTLING;
        loop {
            let why = match self.unsettled() {
                None => return Ok(()),
                Some(why) => why,
            };
            if Instant::now() >= end {
                return Err(format!("not whole after {} s: {why}", SETTLING.as_secs()));
            }
            let _ = self.heard.recv_timeout(ASKING);
        }
    }

    fn unsettled(&self) -> Option<String> {
        if let Some(line) = watch::journal(&self.softservice, 0).last().filter(|l| !l.is_end()) {
            return Some(format!("the journal's last line is {} {}", line.mark, line.effect));
        }
        let info = self.ps()?;
        match info["state"].as_str() {
            Some("running") => {
                let answer = self.example.read(&self.softservice, &info);
                answer.err().map(|why| format!("it does not answer: {why}"))
            }
            Some("stopped" | "failed") => None,
            _ => Some(format!("ps says {info}")),
        }
    }

    /// The softservice as `ps` shows it.
    pub(super) fn ps(&self) -> Option<Value> {
        let all = api::call(&self.node.home, "ps", &json!({})).unwrap_or_else(|e| panic!("ps: {e:?}"));
        all.as_array()?.iter().find(|s| s["name"] == self.example.name()).cloned()
    }
}

/// What is known before a deed.
struct Before {
    imprint: Imprint,
    /// Bytes of the journal that are of earlier lives.
    journal: u64,
}
