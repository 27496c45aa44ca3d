//! The Big List of Naughty Strings (crate `naughty-strings`) through every name and every text that strangers fill in:
//! taken as what it is or refused, and whatever is printed of it stands on one line and hides nothing.

use crate::cast::{NOW, Publisher, listing};
use naughty_strings::BLNS;
use softservice_protocol::{
    address, codec, definition,
    feed::{Action, Entry, Listing, Revocation, RevokeLevel},
    id::{PublisherId, ReleaseId},
    instance::param,
    limits, name, path,
    reference::{self, Reference},
    release::{Param, ParamKind},
    text::{Foreign, is_hidden, is_plain},
    ticket::Ticket,
};

/// The list, and each of its strings with something in it that moves a terminal.
fn strings() -> impl Iterator<Item = String> {
    let armed = |s: &&str| format!("\u{1b}]0;{s}\u{7}\u{202e}\u{200b}\u{9b}31m");
    BLNS.iter().map(|s| (*s).to_owned()).chain(BLNS.iter().map(armed)).chain(["\u{3164}\u{ffa0}".to_owned()])
}

fn plain(text: impl ToString, of: &str) {
    let text = text.to_string();
    assert!(is_plain(&text), "{text:?}, said of {of:?}");
}

#[test]
fn naughty_names_are_refused_and_their_refusals_can_be_read() {
    assert!(BLNS.len() >= 500, "{} strings", BLNS.len());
    let mut names = 0;
    for s in strings() {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let is_name = (1..=limits::NAME_BYTES).contains(&s.len()) && !s.starts_with('-') && s.bytes().all(allowed);
        match name::check(&s) {
            Ok(()) => assert!(is_name, "{s:?}"),
            Err(error) => {
                assert!(!is_name, "{s:?}");
                plain(error, &s);
            }
        }
        names += usize::from(is_name);
        match s.parse::<Reference>() {
            Ok(reference) => plain(reference, &s),
            Err(error) => plain(error, &s),
        }
        match s.parse::<reference::Publisher>() {
            Ok(publisher) => plain(publisher, &s),
            Err(error) => plain(error, &s),
        }
        if let Err(error) = s.parse::<Ticket>() {
            plain(error, &s);
        }
        if let Err(error) = format!("SOFTDIST:1/{s}").parse::<Ticket>() {
            plain(error, &s);
        }
        if let Err(error) = s.parse::<PublisherId>() {
            plain(error, &s);
        }
        assert!(!address::is_plausible(&s) || is_plain(&s), "{s:?}");
        assert!(path::check_path(&s).is_err() || !s.chars().any(char::is_control), "{s:?}");
    }
    assert!(names > 10, "some are names all the same: {names}");
}

#[test]
fn naughty_texts_that_are_signed_are_plain_or_refused_by_everybody() {
    let mut anna = Publisher::named(b'a');
    anna.publish(listing("guestbook", "1.0.0", 1));
    let (mut taken, mut refused) = (0, 0);
    let mut judge = |s: &str, action: Action, fits: bool| {
        let drafted = anna.feed.draft(&anna.trusted, action.clone(), NOW);
        assert_eq!(drafted.is_ok(), fits, "{s:?}: {drafted:?}");
        // Somebody who signs it all the same is refused by whoever reads it.
        let mut entry: Entry = anna.draft(Action::Release(listing("guestbook", "2.0.0", 2)));
        entry.action = action;
        if let Ok(good) = drafted {
            entry = good;
            taken += 1;
        } else {
            refused += 1;
        }
        let heard = anna.feed.accept(&anna.trusted, &anna.sealed(&entry));
        assert_eq!(heard.is_ok(), fits, "{s:?}");
        if let Err(error) = heard {
            plain(error, s);
        }
    };
    for s in strings() {
        let release = |change: &dyn Fn(&mut Listing)| {
            let mut listing = listing("guestbook", "2.0.0", 2);
            change(&mut listing);
            Action::Release(listing)
        };
        judge(&s, release(&|l| l.summary = s.clone()), s.len() <= limits::SUMMARY_BYTES && is_plain(&s));
        judge(&s, release(&|l| l.distro = s.clone()), name::check(&s).is_ok());
        judge(&s, release(&|l| l.channel = s.clone()), name::check(&s).is_ok());
        let is_version = s.len() <= limits::VERSION_BYTES && semver::Version::parse(&s).is_ok();
        judge(&s, release(&|l| l.version = s.clone()), is_version);
        let reason = Action::Revoke {
            release: ReleaseId([1; 32]),
            revocation: Revocation { level: RevokeLevel::Unsafe, replaced_by: None, reason: s.clone() },
        };
        judge(&s, reason, s.len() <= limits::REASON_BYTES && is_plain(&s));
    }
    assert!(taken > 400 && refused > 2000, "{taken} taken, {refused} refused");
}

#[test]
fn naughty_definitions_are_read_or_refused_and_compile_to_nothing_hidden() {
    let quoted = |s: &str| toml::Value::String(s.to_owned()).to_string();
    for s in strings() {
        let text = format!(
            "format = 1\n[distro]\nname = \"hello\"\nversion = \"1.0.0\"\nsummary = {0}\n[param.title]\nask = {0}\ndefault = {0}\n\
             [role.main.service.web]\ncommand = [\"/bin/true\", {0}]\n",
            quoted(&s)
        );
        match definition::read(&text) {
            // Questions and summaries are shown to owners before they trust anything.
            Ok(_) => assert!(is_plain(&s), "{s:?}"),
            Err(problems) => assert!(problems.iter().all(|p| p.line >= 1), "{s:?}"),
        }
        let named = format!(
            "format = 1\n[distro]\nname = {0}\nversion = {0}\n[role.{0}.service.{0}]\ncommand = [\"x\"]\n",
            quoted(&s)
        );
        assert!(definition::read(&named).is_err(), "no string is a name and a version");
    }
}

#[test]
fn naughty_answers_are_one_line_or_refused() {
    let kinds =
        [ParamKind::Text, ParamKind::Hostname, ParamKind::Url, ParamKind::Path, ParamKind::Size, ParamKind::Int];
    for s in strings() {
        for kind in kinds.clone() {
            let question =
                Param { name: "title".into(), kind, ask: String::new(), default: None, min: None, max: None };
            if let Ok(answer) = param::canonical(&question, &s) {
                assert!(!answer.chars().any(char::is_control), "{s:?}");
            }
        }
    }
}

#[test]
fn naughty_strings_can_be_printed_logged_and_put_into_json() {
    for s in strings() {
        let (shown, quoted) = (Foreign(&s).to_string(), format!("{:?}", Foreign(&s)));
        plain(&shown, &s);
        plain(&quoted, &s);
        assert_eq!(shown == s, is_plain(&s), "what can be seen stands as it is: {s:?}");
        // As a log line or an error would carry it.
        plain(format_args!("peer said {}", Foreign(&s)), &s);
        let json = softservice_protocol::text::json(&serde_json::json!({ "summary": s, &*s: [&s] }));
        assert!(!json.chars().any(is_hidden), "{json}");
        let back: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
        assert_eq!(back["summary"], serde_json::Value::String(s.clone()), "programs read what was written");
        assert!(back.get(&s).is_some());
    }
}

/// Signed bytes keep a text as it came: what is escaped is its picture only.
#[test]
fn naughty_texts_come_back_from_the_wire_byte_by_byte() {
    let blank = Publisher::named(b'a').draft(Action::Release(listing("guestbook", "1.0.0", 1)));
    for s in strings().filter(|s| s.len() <= limits::SUMMARY_BYTES) {
        let listing = Listing { summary: s.clone(), ..listing("guestbook", "1.0.0", 1) };
        let entry = Entry { action: Action::Release(listing), ..blank.clone() };
        let back: Entry = codec::decode(&codec::encode(&entry).expect("it fits")).expect("one spelling");
        assert_eq!(back, entry);
    }
}
