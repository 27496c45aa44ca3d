//! A flood: real nodes, one of them the victim, honest devices that fetch from it, and attackers that do their worst
//! from other addresses. Invariant: honest and hostile share no address, and everything that is reported was measured from
//! outside the victim.
//!
//! Who gets which core: victim and honest devices share one, in the quiet time as in the flood, and attackers have the other
//! for themselves. So the rate falls only by what attackers make the victim do, not by what they burn; were the cores
//! shared, an attacker that only spins would count as one that does harm.

mod attack;
mod figures;
mod honest;

pub use attack::{KINDS, Kind, mallory};
pub use figures::{Attacker, Figures, Times};

use crate::{
    World,
    process::Node,
    sources::{plain, text},
};
use honest::Visitors;
use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Orders {
    /// How long the attackers attack.
    pub flood: Duration,
    /// How long it is quiet, before and after; nothing of it is needed where no rate is asked for.
    pub quiet: Duration,
    /// Bytes of each release.
    pub bytes: usize,
    /// Attackers of each kind.
    pub each: u8,
    /// Keep everybody to the cores of the module's words.
    pub pin: bool,
}

/// Releases that the victim holds.
const RELEASES: usize = 4;

/// The stage: a victim that holds all that there is, and nobody else who does.
struct Stage {
    world: World,
    victim: Node,
    publisher: String,
    ticket: String,
    chunks: PathBuf,
}

/// Runs it all, and tells each step.
pub fn run(orders: &Orders, tell: &mut dyn FnMut(&str)) -> Figures {
    let mallory = mallory();
    let cores = orders.pin.then(Cores::two).flatten();
    let to_honest = || cores.iter().for_each(|c| pin(c.honest));
    to_honest();
    let stage = set(orders);
    let honest = |span: Duration| Visitors::new(&stage.world, &stage.ticket, RELEASES).fetch(span);
    tell("quiet");
    let spent = || spent(stage.victim.pid());
    let (before, began) = (spent(), Instant::now());
    let mut quiet = honest(orders.quiet);
    let mut quiet_cpu = spent() - before;
    let mut quiet_span = began.elapsed();
    tell("flood");
    cores.iter().for_each(|c| pin(c.hostile));
    let attackers = attack::start(&mallory, &stage, orders);
    to_honest();
    let (before, began) = (spent(), Instant::now());
    let flooded = honest(orders.flood);
    let (flood_cpu, flood_span) = (spent() - before, began.elapsed());
    let attackers = attack::end(attackers);
    tell("quiet again");
    let (before, began) = (spent(), Instant::now());
    quiet.add(honest(orders.quiet));
    quiet_cpu += spent() - before;
    quiet_span += began.elapsed();
    let (bans, honest_bans) = bans(&stage.victim, &[&quiet.devices, &flooded.devices]);
    let cpu = Times { quiet: quiet_cpu / quiet_span.as_secs_f64(), flood: flood_cpu / flood_span.as_secs_f64() };
    Figures { rss_mib: peak(stage.victim.pid()), quiet, flooded, cpu, attackers, bans, honest_bans }
}

/// Publishes, brings everything to the victim, and takes the publisher away.
fn set(orders: &Orders) -> Stage {
    let world = World::new();
    let mut anna = world.node("anna");
    let mut victim = world.home("victim");
    victim.log_level = "info";
    victim.start();
    let (mut ticket, mut chunks) = (String::new(), String::new());
    for number in 0..RELEASES {
        let folder = world.path(&format!("distro-{number}"));
        plain(&folder, &format!("files-{number}"), "1.0.0");
        let content = random(number as u64, orders.bytes);
        fs::create_dir_all(folder.join("root")).expect("a folder can be made");
        fs::write(folder.join("root/file"), &content).expect("a file can be written");
        let mut at = 0;
        for len in softservice_protocol::chunk::cut(&content).into_iter().take(64) {
            let part = &content[at..at + len as usize];
            chunks.push_str(&format!("{} {len}\n", softservice_protocol::id::ChunkId::of(part)));
            at += len as usize;
        }
        let answer = anna.ok(&["publish", text(&folder)]);
        answer["ticket"].as_str().expect("publishing gives a ticket").clone_into(&mut ticket);
    }
    victim.ok(&["subscribe", &ticket, "--as", "anna"]);
    for number in 0..RELEASES {
        victim.ok(&["fetch", &format!("anna/files-{number}")]);
    }
    let publisher = anna.ok(&["publisher", "show"])["publisher"].as_str().expect("an id").to_owned();
    let ticket = victim.ok(&["ticket", &publisher])["ticket"].as_str().expect("a ticket").to_owned();
    anna.stop();
    let list = world.path("chunks");
    fs::write(&list, chunks).expect("a file can be written");
    Stage { world, victim, publisher, ticket, chunks: list }
}

/// Content that nothing compresses and nothing shares.
fn random(seed: u64, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut content);
    content
}

/// Two cores that this process may use, for the two sides.
struct Cores {
    honest: usize,
    hostile: usize,
}

impl Cores {
    /// None where there is but one: nothing can be kept apart then. Asked before anybody is kept to a core, because
    /// from then on there is but one for whoever asks.
    fn two() -> Option<Self> {
        let set = rustix::thread::sched_getaffinity(None).ok()?;
        let mut cores = (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core));
        Some(Self { honest: cores.next()?, hostile: cores.next()? })
    }
}

/// Whoever this thread starts from now on runs on this core.
fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).expect("a core that was there is there");
}

/// CPU seconds of a process.
fn spent(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the victim lives");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name in brackets").1.split(' ').collect();
    // Hundredths of a second on every Linux that this runs on.
    [11, 12].iter().map(|at| fields[*at].parse::<f64>().expect("a number") / 100.0).sum()
}

/// The most memory that a process ever had, in MiB.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the victim lives");
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("the kernel counts it");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number").div_ceil(1024)
}

/// Bans by the victim's log, and those of devices that did nothing.
fn bans(victim: &Node, honest: &[&Vec<String>]) -> (usize, usize) {
    let log = victim.log();
    let banned: Vec<&str> = log.lines().filter(|l| l.contains("banned=true")).collect();
    let names = |line: &str, device: &String| line.contains(&device[..8]);
    let wrong = banned.iter().filter(|l| honest.iter().flat_map(|h| h.iter()).any(|d| names(l, d))).count();
    (banned.len(), wrong)
}
