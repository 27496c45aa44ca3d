//! Disables each defence of `tests/defences.toml` alone and runs the tests that must notice. Invariant: the repository
//! itself is never changed; what is edited is a copy below its target folder.
//!
//! `cargo run -p softservice-tests --bin defences [-- --only WORDS] [--table]`; exit 1 when a defence was missed by a test
//! that is said to prove it, or when such a test is red with all defences in place.

use clap::Parser;
use softservice_tests::{
    defences::{Defence, table},
    sources::repository,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

#[derive(Parser)]
#[command(about = "Disables each defence alone and tells which tests notice")]
struct Args {
    /// Only defences whose words or file contain this.
    #[arg(long)]
    only: Option<String>,
    /// Print the table for docs/security.md and do nothing else.
    #[arg(long)]
    table: bool,
    /// Leave out the run with all defences in place.
    #[arg(long)]
    no_control: bool,
}

/// What a run of tests said.
enum Said {
    /// Names that passed and names that failed.
    Ran { passed: BTreeSet<String>, failed: BTreeSet<String> },
    /// It did not compile; the compiler's words.
    NotBuilt(String),
}

/// A copy of every tracked file. A file that is the same already keeps its time, so that cargo builds only what differs.
fn copy(from: &Path, to: &Path) {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(from).output().expect("git lists files");
    assert!(listed.status.success(), "the defences are tried in a git checkout");
    let text = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    for path in text.split_terminator('\0') {
        let (source, target) = (from.join(path), to.join(path));
        let Ok(bytes) = fs::read(&source) else { continue };
        if fs::read(&target).is_ok_and(|there| there == bytes) {
            continue;
        }
        fs::create_dir_all(target.parent().expect("a file stands in a folder")).expect("a folder can be made");
        fs::write(&target, bytes).expect("a file can be written");
    }
}

fn run(tree: &Path, target: &Path, package: &str, which: &str, names: &[String]) -> Said {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--locked", "--no-fail-fast", "-p", package]).args(which.split_whitespace());
    cargo.arg("--").args(names).current_dir(tree).env("CARGO_TARGET_DIR", target);
    let done = cargo.output().expect("cargo runs");
    let (out, log) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    if log.contains("could not compile") {
        let errors: Vec<&str> = log.lines().filter(|l| l.starts_with("error")).collect();
        return Said::NotBuilt(errors.join("\n"));
    }
    let (mut passed, mut failed) = (BTreeSet::new(), BTreeSet::new());
    for line in out.lines().filter_map(|l| l.strip_prefix("test ")) {
        let Some((name, verdict)) = line.split_once(" ... ") else { continue };
        let name = name.split(' ').next().unwrap_or(name).rsplit("::").next().unwrap_or(name).to_owned();
        match verdict {
            "ok" => passed.insert(name),
            // A test that prints stands before its verdict; whatever is not `ok` is looked at by name below.
            _ => failed.insert(name),
        };
    }
    // A test binary that was aborted names nobody: those that did not pass by then count.
    if !done.status.success() && failed.is_empty() {
        failed.extend(names.iter().filter(|n| !passed.contains(*n)).cloned());
    }
    Said::Ran { passed, failed }
}

/// With all defences in place every test passes.
fn control(tree: &Path, target: &Path, defences: &[Defence]) -> bool {
    let mut groups: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    for d in defences {
        groups.entry((&d.package, &d.target)).or_default().extend(d.red.iter().cloned());
    }
    let mut good = true;
    for ((package, which), names) in groups {
        let names: Vec<String> = names.into_iter().collect();
        match run(tree, target, package, which, &names) {
            Said::NotBuilt(why) => {
                println!("{package} {which}: does not build\n{why}");
                good = false;
            }
            Said::Ran { passed, .. } => {
                for name in names.iter().filter(|n| !passed.contains(*n)) {
                    println!("{package} {which}: {name} does not pass with all defences in place");
                    good = false;
                }
            }
        }
    }
    good
}

/// Whether every test that should notices.
fn try_without(tree: &Path, target: &Path, defence: &Defence) -> bool {
    let began = Instant::now();
    let said = match defence.disabled(tree) {
        Err(why) => {
            println!("MISSING  {why}");
            return false;
        }
        Ok((whole, without)) => {
            let path = tree.join(&defence.file);
            fs::write(&path, without).expect("the copy can be written");
            let said = run(tree, target, &defence.package, &defence.target, &defence.red);
            fs::write(&path, whole).expect("the copy can be written");
            said
        }
    };
    let seconds = began.elapsed().as_secs();
    match said {
        Said::NotBuilt(why) => {
            println!("NOT BUILT  {} ({})\n{why}", defence.what, defence.file);
            false
        }
        Said::Ran { failed, .. } => {
            let green: Vec<&String> = defence.red.iter().filter(|name| !failed.contains(*name)).collect();
            let verdict = if green.is_empty() { "red" } else { "GREEN" };
            println!("{verdict:5}  {} ({}), {seconds} s", defence.what, defence.file);
            green.iter().for_each(|name| println!("       did not notice: {name}"));
            green.is_empty()
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut defences = Defence::all();
    if args.table {
        print!("{}", table(&defences));
        return ExitCode::SUCCESS;
    }
    if let Some(words) = &args.only {
        defences.retain(|d| d.what.contains(words) || d.file.contains(words));
    }
    let root = repository().canonicalize().expect("the repository is there");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let tree = target.join("defences");
    copy(&root, &tree);
    if !args.no_control && !control(&tree, &target, &defences) {
        return ExitCode::FAILURE;
    }
    let noticed = defences.iter().filter(|d| try_without(&tree, &target, d)).count();
    println!("{noticed} of {} defences cannot go unnoticed", defences.len());
    if noticed == defences.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
