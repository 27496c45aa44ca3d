//! Honest devices: one after the other comes, follows, fetches everything from the victim and goes. Invariant: each is new, so
//! that it has to find its way in through the flood, and nothing that it fetches was there before.

use super::figures::Fetches;
use crate::World;
use std::{
    fs,
    time::{Duration, Instant},
};

pub(super) struct Visitors<'a> {
    world: &'a World,
    ticket: &'a str,
    releases: usize,
}

impl<'a> Visitors<'a> {
    pub(super) fn new(world: &'a World, ticket: &'a str, releases: usize) -> Self {
        Self { world, ticket, releases }
    }

    /// Visits for so long; the one who is there at the end finishes what it fetches.
    pub(super) fn fetch(&self, span: Duration) -> Fetches {
        let (began, mut all) = (Instant::now(), Fetches::default());
        while began.elapsed() < span {
            let home = format!("carol-{}-{}", all.devices.len(), began.elapsed().as_nanos());
            let came = Instant::now();
            let mut carol = self.world.node(&home);
            all.devices.push(carol.device().to_owned());
            carol.ok(&["subscribe", self.ticket, "--as", "anna"]);
            for number in 0..self.releases {
                let (code, answer) = carol.verb(&["fetch", &format!("anna/files-{number}")]);
                if code != 0 {
                    all.failed.push(answer.to_string());
                    continue;
                }
                let figure = |name: &str| answer[name].as_f64().unwrap_or_else(|| panic!("{name} in {answer}"));
                all.bytes += figure("bytes");
                all.seconds += figure("seconds");
                if number == 0 {
                    all.first.push(came.elapsed().as_secs_f64());
                }
                if began.elapsed() >= span {
                    break;
                }
            }
            carol.kill();
            // Two gigabytes a minute would fill the disk.
            let _ = fs::remove_dir_all(&carol.home);
        }
        all
    }
}
