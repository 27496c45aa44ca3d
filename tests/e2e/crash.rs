//! Crashes, few of those that `cargo run -p softservice-tests --bin crash` makes: each step once, and some moments that no one
//! chose.

use softservice_tests::{
    World,
    crash::{self, Orders, Steps, example},
};

/// A seed in here replays the moments of another run.
const SEED: &str = "SOFTSERVICE_CRASH_SEED";
/// Random moments, in both homes together.
const MOMENTS: u64 = 12;

/// Crashes in two homes at once, each during other verbs: a crash is mostly waiting.
fn crashes(seed: u64) -> Vec<(crash::figures::Figures, Vec<String>)> {
    let world = World::new();
    let part = |home: &'static str, verbs: &[&str]| {
        let orders = Orders {
            moments: MOMENTS / 2,
            steps: Steps::Once,
            seed,
            only: verbs.iter().map(|v| (*v).to_owned()).collect(),
            power: false,
        };
        let world = &world;
        move || {
            let (book, mut mixed) = (example::named("guestbook", || Err(String::new())), Vec::new());
            let figures = crash::run(world, home, book.expect("it is always there"), &orders, |line| {
                // A crash without faults is told in one line.
                if line.contains('\n') {
                    mixed.push(line.to_owned());
                }
            });
            (figures, mixed)
        }
    };
    let (left, right) = (part("left", &["update"]), part("right", &["install", "rollback", "remove"]));
    std::thread::scope(|threads| {
        let other = threads.spawn(left);
        let own = right();
        vec![other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), own]
    })
}

#[test]
fn whatever_is_killed_the_old_or_the_new_stands_whole() {
    let drawn = || std::time::UNIX_EPOCH.elapsed().map_or(1, |now| now.as_secs());
    let seed = std::env::var(SEED).map_or_else(|_| drawn(), |text| text.parse().expect("a seed is a number"));
    eprintln!("crashes with {SEED}={seed}");
    let all = crashes(seed);
    for (figures, mixed) in &all {
        eprintln!("{figures}");
        assert!(figures.is_clean(), "with {SEED}={seed}:\n{}", mixed.join("\n"));
    }
    let kills: usize = all.iter().map(|(figures, _)| figures.total().kills).sum();
    assert!(kills > MOMENTS as usize, "every step was crashed at, {kills} in all");
}
