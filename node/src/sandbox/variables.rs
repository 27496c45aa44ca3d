//! Variables of a program, on their way to it. Invariant: nothing that runs before the program obeys them: launcher and
//! bubblewrap may still be root and outside of every wall, and the dynamic linker runs any file that `LD_PRELOAD` names.
//!
//! They travel in the environment of what starts the program, under names that nobody knows. Refused: the task itself,
//! which may be an argument that everybody can read.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
};

/// What stands before a name on the way.
const CARRIED: &str = "SERVICE_VARIABLE_";

/// The environment that carries these variables.
pub(crate) fn carried(environment: &BTreeMap<String, String>) -> impl Iterator<Item = (String, &String)> {
    environment.iter().map(|(name, value)| (format!("{CARRIED}{name}"), value))
}

/// The variables that this process was given to carry.
pub(super) fn arrived() -> BTreeMap<OsString, OsString> {
    let own = |(name, value): (OsString, OsString)| {
        let name = name.as_bytes().strip_prefix(CARRIED.as_bytes())?;
        Some((OsStr::from_bytes(name).to_owned(), value))
    };
    std::env::vars_os().filter_map(own).collect()
}
