//! A headless Chromium, as people would see a page. Invariant: each look has a profile of its own and asks nobody but the page.

use crate::process::bounded;
use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// Debian's program.
const CHROMIUM: &str = "chromium";

/// False, said loudly, where there is no browser.
pub fn browser_or_skip(what: &str) -> bool {
    let there = Command::new(CHROMIUM).arg("--version").output().is_ok_and(|o| o.status.success());
    if !there {
        eprintln!("SKIPPED, needs chromium: {what}");
    }
    there
}

/// What a browser in `namespace` shows at `url`: the document after its scripts ran. `scratch` is for its profile.
pub fn document(namespace: Option<&str>, url: &str, scratch: &Path) -> String {
    look(namespace, url, scratch, "--dump-dom")
}

/// Keeps a picture of the page as a PNG file.
pub fn screenshot(namespace: Option<&str>, url: &str, scratch: &Path, file: &Path) {
    fs::create_dir_all(file.parent().expect("a file stands in a folder")).expect("a folder can be made");
    let _ = fs::remove_file(file);
    look(namespace, url, scratch, &format!("--screenshot={}", file.display()));
}

fn look(namespace: Option<&str>, url: &str, scratch: &Path, how: &str) -> String {
    let profile = tempfile::Builder::new().prefix("chromium-").tempdir_in(scratch).expect("a profile can be made");
    let mut command = match namespace {
        Some(namespace) => {
            let mut c = Command::new("ip");
            c.args(["netns", "exec", namespace, CHROMIUM]);
            c
        }
        None => Command::new(CHROMIUM),
    };
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--window-size=1200,800"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args([how, url])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = bounded(command.spawn().expect("chromium starts"), "chromium");
    assert!(output.status.success(), "chromium {how}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Width, height and number of different colours of a PNG file: a blank page has one.
pub fn picture(file: &Path) -> (u32, u32, usize) {
    let file = std::io::BufReader::new(fs::File::open(file).expect("the picture is there"));
    let mut decoder = png::Decoder::new(file);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().expect("it is a PNG file");
    let mut pixels = vec![0; reader.output_buffer_size().expect("its size fits into memory")];
    let info = reader.next_frame(&mut pixels).expect("its pixels can be read");
    let colours: BTreeSet<&[u8]> = pixels[..info.buffer_size()].chunks_exact(info.color_type.samples()).collect();
    (info.width, info.height, colours.len())
}
