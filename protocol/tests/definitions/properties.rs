//! What holds for every text.

use crate::shelf::{Folder, good, shelf};
use proptest::prelude::*;
use softservice_protocol::{
    codec,
    definition::{self, Lock},
};

/// The sections of a definition, in another order.
fn reordered(text: &str, seed: u64) -> String {
    let mut parts: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') || parts.is_empty() {
            parts.push(String::new());
        }
        parts.last_mut().unwrap().push_str(&format!("{line}\n"));
    }
    let head = parts.remove(0);
    parts.sort_by_key(|p| *blake3::keyed_hash(&[seed as u8; 32], p.as_bytes()).as_bytes());
    head + &parts.concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_reading_panic(text in "\\PC{0,200}|([a-z.\\[\\]{}=\"$ \\n0-9]){0,200}") {
        let _ = definition::read(&text);
        let _ = Lock::read(&text);
    }

    #[test]
    fn no_slip_of_the_pen_makes_reading_panic(at in 0usize..4000, cut in 0usize..60, put in "[\\[\\]{}=\".$a-z0-9\\n\u{202e}-]{0,8}") {
        let text: Vec<char> = good("photo-shelf").chars().collect();
        let at = at.min(text.len());
        let rest = text.iter().skip(at + cut);
        let slipped: String = text.iter().take(at).chain(put.chars().collect::<Vec<_>>().iter()).chain(rest).collect();
        match definition::read(&slipped) {
            Ok(d) => {
                let folder = Folder::for_all_of(&d);
                let _ = definition::check(&d, None, &folder);
                let _ = shelf().compile_in("me", &d, &folder);
            }
            Err(problems) => {
                prop_assert!(!problems.is_empty());
                let lines = slipped.lines().count() as u32 + 1;
                prop_assert!(problems.iter().all(|p| (1..=lines).contains(&p.line) && p.column >= 1));
            }
        }
    }

    #[test]
    fn the_order_of_sections_means_nothing(seed in any::<u64>()) {
        let text = good("photo-shelf");
        let (one, other) = (shelf().compile("me", &text), shelf().compile("me", &reordered(&text, seed)));
        prop_assert_eq!(codec::encode(&one.unwrap()).unwrap(), codec::encode(&other.unwrap()).unwrap());
    }

    #[test]
    fn templates_read_whole_or_not_at_all(text in "([$]|[{]|[}]|[.]|param|import|x|files| ){0,12}") {
        // Devices and authors read with this one function: what it gives, written again, is the text.
        use softservice_protocol::definition::substitution::{self, Part};
        if let Ok(parts) = substitution::parse(&text) {
            let written: String = parts.iter().map(|p| match p {
                Part::Text(t) => t.replace("${", "$${"),
                Part::Reference(r) => r.to_string(),
            }).collect();
            prop_assert_eq!(substitution::parse(&written), Ok(parts));
        }
    }
}
