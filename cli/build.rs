//! Builds the two servers of `examples/guestbook`, which `softservice demo` carries inside, so that the one binary can
//! show the whole story on any machine. They use the standard library alone: one `rustc` call each, no second cargo.

use std::{env, path::PathBuf, process::Command};

fn main() {
    let example = PathBuf::from("../examples/guestbook");
    let variable = |name: &str| env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"));
    println!("cargo::rerun-if-changed={}", example.join("http.rs").display());
    for part in ["data", "web"] {
        let source = example.join(part).join("server/src/main.rs");
        println!("cargo::rerun-if-changed={}", source.display());
        let name = format!("guestbook-{part}");
        let mut rustc = Command::new(variable("RUSTC"));
        rustc.args(["--edition", "2024", "-C", "opt-level=2", "-C", "strip=symbols", "--crate-name"]);
        rustc.arg(name.replace('-', "_")).arg("--target").arg(variable("TARGET"));
        if let Some(linker) = env::var_os("RUSTC_LINKER") {
            rustc.arg("-C").arg(format!("linker={}", linker.display()));
        }
        rustc.arg("-o").arg(PathBuf::from(variable("OUT_DIR")).join(&name)).arg(&source);
        let status = rustc.status().unwrap_or_else(|e| panic!("rustc: {e}"));
        assert!(status.success(), "rustc could not build {}", source.display());
    }
}
