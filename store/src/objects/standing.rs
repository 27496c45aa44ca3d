//! Whether objects still stand where they were seen: asked before anybody acknowledges what it did not write. Invariant: whatever
//! is known of an object that does not stand is forgotten here. This store did not take it away, but somebody else may have.

use super::{Objects, Variant};
use crate::contract::Layout;
use rayon::prelude::*;
use softservice_protocol::id::ObjectId;
use std::collections::HashSet;

/// A listing costs for each name an eighth of what a look costs.
const CHEAPER: usize = 8;
/// Fewer objects are looked at one by one.
const MANY: usize = 1024;

impl Objects {
    /// Looks on the disk whether an object is here, whatever is known.
    pub(crate) fn stands(&self, object: ObjectId) -> bool {
        self.sizes.drop(object);
        self.has(object)
    }
    /// The same for many: what does not stand is known no more. Many of few are found by listing them all.
    pub(crate) fn look_again(&self, layouts: &[&Layout]) {
        // Ids are spread evenly.
        if layouts.len() < MANY || self.listed(0).len() * 256 > layouts.len() * CHEAPER {
            layouts.par_iter().with_min_len(64).for_each(|l| {
                self.stands(l.object);
            });
            return;
        }
        let listed: Vec<HashSet<ObjectId>> = (0..=255).into_par_iter().map(|shard| self.listed(shard)).collect();
        let stands = |object: &ObjectId| listed.get(usize::from(object.0[0])).is_some_and(|l| l.contains(object));
        layouts.iter().filter(|l| !stands(&l.object)).for_each(|l| self.sizes.drop(l.object));
    }
    /// None where the folder cannot be read: then each is looked at.
    fn listed(&self, shard: u8) -> HashSet<ObjectId> {
        let mut variants: Vec<Variant> = Vec::new();
        match self.list_shard(shard, &mut variants, &mut Vec::new()) {
            Ok(()) => variants.into_iter().map(|v| v.object).collect(),
            Err(_) => HashSet::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::Arrival;

    #[test]
    fn what_somebody_took_away_is_missed_however_many_are_looked_at() {
        for many in [10, 2 * MANY] {
            let dir = tempfile::tempdir().unwrap();
            let objects = Objects::open(dir.path()).unwrap();
            let arrivals: Vec<Arrival> = (0..many)
                .map(|n| {
                    let bytes = n.to_le_bytes();
                    let (file, mut open) = objects.create_temp(0o444).unwrap();
                    std::io::Write::write_all(&mut open, &bytes).unwrap();
                    Arrival { file, object: ObjectId::of(&bytes), executable: n % 2 == 0, since: 0 }
                })
                .collect();
            objects.admit(&arrivals).unwrap();
            assert!(arrivals.iter().all(|a| objects.has(a.object)));
            let gone: Vec<&Arrival> = arrivals.iter().step_by(3).collect();
            gone.iter().for_each(|a| std::fs::remove_file(objects.path(a.object, a.executable)).unwrap());
            assert!(arrivals.iter().all(|a| objects.has(a.object)), "what was seen is known");
            let layout = |a: &Arrival| Layout { object: a.object, size: 8, chunks: Vec::new() };
            let layouts: Vec<Layout> = arrivals.iter().map(layout).collect();
            objects.look_again(&layouts.iter().collect::<Vec<_>>());
            assert!(gone.iter().all(|a| !objects.has(a.object)));
            assert_eq!(arrivals.iter().filter(|a| objects.has(a.object)).count(), arrivals.len() - gone.len());
        }
    }
}
