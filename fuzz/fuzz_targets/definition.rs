//! What authors write: definitions and locks. A stranger wrote those of a release that is looked at or improved.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softservice_protocol::definition::{self, Lock};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let problems = match definition::read(text) {
        Ok(definition) => {
            assert!(!definition.name().is_empty());
            let _ = definition::trees(&definition);
            Vec::new()
        }
        Err(problems) => {
            assert!(problems.iter().any(definition::Problem::is_error), "refused without a reason");
            problems
        }
    };
    let lines = text.lines().count().max(1) as u32 + 1;
    assert!(problems.iter().all(|p| p.line <= lines), "a problem stands behind the end");
    if let Ok(lock) = Lock::read(text) {
        assert_eq!(Lock::read(&lock.write()).as_ref(), Ok(&lock), "a lock is not what it writes");
    }
});
