//! Looking at files while they are read anyway. Invariant: a file is either shown whole, in order, or known to have been
//! found clean by the same rule when it was what it is; and what is not let in leaves nothing behind.

use crate::{contract::StoreError, walk};
use rayon::prelude::*;
use std::path::Path;

/// Somebody who looks at what an ingest reads.
pub trait Look: Sync {
    /// By what rule the file at this path is looked at; never 0. One that the same rule found clean, and that has not changed
    /// since, is not shown again.
    fn rule(&self, path: &str) -> u32;
    /// Begins to look at a file.
    fn open<'a>(&'a self, path: &str) -> Box<dyn Looking + 'a>;
    /// Whether a file need not even be read by somebody who only looks.
    fn passes_over(&self, _path: &str) -> bool {
        false
    }
    /// Whether what was read may come in: asked when all of it was, before any of it can be seen in the store.
    fn lets_in(&self) -> bool;
}

/// A file that is being looked at.
pub trait Looking: Send {
    /// The next bytes of a file that is shown in pieces.
    fn take(&mut self, piece: &[u8]);
    /// It is over: whether the file is clean.
    fn end(self: Box<Self>) -> bool;
    /// A file that is shown at once: whether it is clean.
    fn whole(self: Box<Self>, bytes: &[u8]) -> bool;
}

/// Shows every file of a directory, and keeps nothing.
///
/// # Errors
/// What a tree cannot say, and what cannot be read, as in an ingest.
pub fn look_through(dir: &Path, exclude: &[String], look: &dyn Look) -> Result<(), StoreError> {
    walk::walk(dir, exclude)?.into_par_iter().try_for_each(|found| match found.kind {
        walk::Kind::File { .. } if !look.passes_over(&found.path) => {
            walk::show_file(&found.place, look.open(&found.path))
        }
        _ => Ok(()),
    })
}
