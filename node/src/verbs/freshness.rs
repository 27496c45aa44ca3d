//! How old a publisher's newest word is, and what may begin on it. Invariant: age and doubt keep new software away, never what
//! is here: what runs goes on, and is started, mended and taken back as ever.
//!
//! Stale: by hand everything, by policy nothing - what a policy would take may have been taken back meanwhile, and nobody told
//! us; so it is as well where the clock is wrong and nobody knows how old the word is. Expired: new software by its owner's consent
//! only. Frozen, which is when a publisher signed two histories: none at all, since nobody can tell which of them is meant; what
//! its owner has a backup of comes back by its owner's consent, or a device that broke would be lost with the feed. Our own word
//! is never too old for us: there is nobody to withhold it. Behind its mark, which is when this device lost entries that it had:
//! as expired, and never fresh.
//!
//! New is what would run here and does not. Storing alone starts nothing: `fetch` and `improve` warn, so that what somebody
//! wants to look at can be looked at.

use super::{
    failure::Failure,
    reference::Names,
    subscriptions::{self, Told},
};
use crate::{
    api::talk::Talk,
    context::Context,
    handle::{Catalogue, Known},
};
use serde_json::{Value, json};
use softservice_protocol::{
    feed::{Conflict, Difference, Freshness, Moment, Word},
    id::PublisherId,
    io::Step,
    root::PROTOCOL,
    time::{Time, calendar},
};

/// Who wants something new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// The owner, who may have agreed to an expired word.
    Owner { accept_expired: bool },
    /// The owner, who has a backup of it, and may have agreed to more.
    Back { accept_expired: bool, accept_frozen: bool },
    /// The policy `auto`.
    Policy,
}

/// The fields that every answer about a publisher has.
pub(super) fn describe(known: Option<&Known>, now: Moment) -> Value {
    let term = known.and_then(|k| k.term);
    let seconds = |time: Time| time.0 / 1000;
    json!({
        "freshness": known.map(|k| k.freshness(now)),
        "fresh_until": term.map(|t| seconds(t.fresh_until)),
        "stale_until": term.map(|t| seconds(t.stale_until)),
        "age_known": term.map(|t| !t.is_of_unknown_age(now)),
        "frozen": known.is_some_and(|k| k.frozen),
        "behind": known.and_then(|k| k.behind).map(|b| json!({ "sequence": b.mark.at.seq, "rival": b.rival })),
        "needs_protocol": known.and_then(|k| k.needs),
        "conflict": known.and_then(|k| k.difference.as_ref()).map(conflict),
    })
}

/// Puts them into an answer.
pub(super) fn add(answer: &mut Value, context: &Context, catalogue: &Catalogue, publisher: PublisherId) {
    let fields = describe(catalogue.get(&publisher), context.config.clock.moment());
    for (key, value) in fields.as_object().into_iter().flatten() {
        answer[key] = value.clone();
    }
}

/// Where two histories part.
pub(super) fn conflict(difference: &Difference) -> Value {
    let word = |w: &Word| json!({ "what": w.what, "digest": w.digest.to_string() });
    let (one, other) = (word(&difference.one), word(&difference.other));
    let message = difference.to_string();
    match difference.place {
        Conflict::Feed(at) => {
            json!({ "epoch": at.epoch, "sequence": at.seq, "one": one, "other": other, "message": message })
        }
        Conflict::Root(version) => json!({ "root_version": version, "one": one, "other": other, "message": message }),
    }
}

/// Whether a policy may act on this publisher's word by itself.
pub(super) fn may_act_alone(known: &Known, now: Moment) -> bool {
    !known.frozen && known.needs.is_none() && known.freshness(now) == Freshness::Fresh
}

/// Nothing new on a word that cannot be relied on; `what` is the release that is wanted.
///
/// # Errors
/// Why not, with what to do about it.
pub(super) fn refuse_new(context: &Context, publisher: PublisherId, what: &str, wish: Wish) -> Result<(), Failure> {
    let catalogue = context.handle.catalogue();
    let Some(known) = catalogue.get(&publisher) else { return Ok(()) };
    let who = Names::read(context)?.of(publisher);
    refuse_told(subscriptions::told(&context.home, publisher, known)?, &who, what, wish)?;
    judge(known, context.keys.publisher() == Some(publisher), &who, what, wish, context.config.clock.moment())?;
    if let Some(behind) = known.behind {
        let entry = behind.mark.at.seq;
        tracing::warn!(%publisher, entry, what, "taken by its owner's word, though newer entries of its feed are lost here");
    }
    Ok(())
}

/// Two histories that nobody has shown yet count as shown: whoever gave the ticket knows of them, and the branch that peers show
/// may be the other one.
fn refuse_told(told: Option<Told>, who: &str, what: &str, wish: Wish) -> Result<(), Failure> {
    let Some(told) = told.filter(|_| !matches!(wish, Wish::Back { accept_frozen: true, .. })) else { return Ok(()) };
    Err(Failure::refused(format!("{}, so {what} is not taken", two_histories(&told, who)))
        .hint(format!(
            "what runs here runs on; connect peers that follow {who} (`softservice peers` lists those connected), who can show the \
             proof or a later root document; where the ticket is wrong, `unsubscribe` forgets what it told"
        ))
        .with(json!({ "refused_new": what, "told_conflict": told }))
        .by(Step::Frozen))
}

/// One line about them.
pub(super) fn two_histories(told: &Told, who: &str) -> String {
    format!(
        "a ticket tells that {who} signed two different histories under root document {}, and no peer has shown the proof",
        told.root_version
    )
}

fn judge(known: &Known, own: bool, who: &str, what: &str, wish: Wish, now: Moment) -> Result<(), Failure> {
    let refused = |message: String, hint: String| {
        let mut details = describe(Some(known), now);
        details["refused_new"] = what.into();
        let step = if known.frozen { Step::Frozen } else { Step::Stale };
        Err(Failure::refused(message).hint(hint).with(details).by(step))
    };
    let consents = matches!(wish, Wish::Back { accept_frozen: true, .. });
    if known.frozen && consents {
        return Ok(());
    }
    if known.frozen {
        let part = known.difference.as_ref().map(|d| format!(": {d}")).unwrap_or_default();
        return refused(
            format!("{who} signed two different histories, so its feed is frozen and nothing new is taken of it{part}"),
            match wish {
                Wish::Back { .. } => format!(
                    "{who} alone can reopen the feed, with a new root document; --accept-frozen (`accept_frozen` in the API) brings \
                     back what you know to have run before"
                ),
                _ => format!("what runs here runs on; {who} alone can reopen the feed, with a new root document"),
            },
        );
    }
    let insists = matches!(wish, Wish::Owner { accept_expired: true } | Wish::Back { accept_expired: true, .. });
    if let Some(behind) = known.behind.filter(|_| !insists) {
        let entry = behind.mark.at.seq;
        let shown = if behind.rival { "; a peer shows another entry in its place, which is refused" } else { "" };
        return refused(
            format!(
                "the feed of {who} is behind what this device had of it: entry {entry} is lost, and nobody here knows whether {what} still stands{shown}"
            ),
            "peers are asked for what is lost (`softservice peers` lists those connected); try again when one has brought it, or \
             --accept-expired (`accept_expired` in the API) takes it all the same, and the log remembers that"
                .into(),
        );
    }
    let since = known.term.map_or_else(|| "ever".into(), |t| date(t.fresh_until));
    match (known.freshness(now), wish) {
        (Freshness::Fresh, _) => Ok(()),
        _ if own => Ok(()),
        (Freshness::Stale, Wish::Owner { .. } | Wish::Back { .. }) => Ok(()),
        (Freshness::Expired, Wish::Owner { accept_expired: true }) => Ok(()),
        (Freshness::Expired, Wish::Back { accept_expired: true, .. }) => Ok(()),
        (Freshness::Stale, Wish::Policy) if known.term.is_some_and(|t| t.is_of_unknown_age(now)) => refused(
            format!("{}, so {what} is not taken by itself", unknown_age(who, now)),
            "set the clock; by hand, `softservice update` takes it now".into(),
        ),
        (_, Wish::Policy) => refused(
            format!("nothing has been heard of {who} since {since}, so {what} is not taken by itself"),
            "it is when a newer word comes; by hand, `softservice update` takes it now".into(),
        ),
        (Freshness::Expired, _) => refused(
            format!(
                "the word of {who} expired: nothing newer has been heard than what held until {since}, so nobody here knows whether {what} still stands"
            ),
            format!(
                "connect peers that follow {who} (`softservice peers` lists those connected), or ask {who} whether it still publishes; \
                 --accept-expired (`accept_expired` in the API) takes it all the same"
            ),
        ),
    }
}

/// What whoever is given a publisher's name should know before relying on it, whatever its age.
pub(super) fn doubts(context: &Context, known: &Known, publisher: PublisherId) -> Result<Vec<String>, Failure> {
    if !known.frozen && known.behind.is_none() && known.needs.is_none() {
        return Ok(Vec::new());
    }
    let told = sentence(known, &Names::read(context)?.of(publisher), context.config.clock.moment());
    Ok(told.into_iter().collect())
}

/// Tells whoever is about to look at or install something how old the word for it is, when it is not fresh.
///
/// # Errors
/// When the list of subscriptions cannot be read.
pub(super) async fn warn(context: &Context, publisher: PublisherId, talk: &Talk) -> Result<(), Failure> {
    let catalogue = context.handle.catalogue();
    let Some(known) = catalogue.get(&publisher) else { return Ok(()) };
    let who = Names::read(context)?.of(publisher);
    if let Some(told) = sentence(known, &who, context.config.clock.moment()) {
        talk.note(format!("warning: {told}")).await;
    }
    if let Some(told) = subscriptions::told(&context.home, publisher, known)? {
        talk.note(format!("warning: {}", two_histories(&told, &who))).await;
    }
    Ok(())
}

/// One line about what is not fresh; when, and what of it.
fn sentence(known: &Known, who: &str, now: Moment) -> Option<String> {
    if known.frozen {
        return Some(format!("{who} signed two different histories; its feed is frozen"));
    }
    if let Some(needed) = known.needs {
        return Some(format!("{who} needs protocol {needed}, this program speaks {PROTOCOL}: update softservice"));
    }
    if let Some(behind) = known.behind {
        let entry = behind.mark.at.seq;
        return Some(format!("the feed of {who} is behind what this device had of it: entry {entry} is lost"));
    }
    if let Some(told) = promised(known, who) {
        return Some(told);
    }
    let term = known.term?;
    match known.freshness(now) {
        Freshness::Fresh => None,
        Freshness::Stale if term.is_of_unknown_age(now) => Some(unknown_age(who, now)),
        Freshness::Stale => Some(format!(
            "the word of {who} is stale since {}, and expires {}",
            date(term.fresh_until),
            date(term.stale_until)
        )),
        Freshness::Expired => {
            let since = if term.stale_until > now.time() { term.fresh_until } else { term.stale_until };
            Some(format!("the word of {who} expired {}", date(since)))
        }
    }
}

/// What a wrong clock hides.
fn unknown_age(who: &str, now: Moment) -> String {
    format!(
        "nobody here knows how old the word of {who} is: the clock of this device shows {}, which is wrong",
        date(now.clock)
    )
}

/// What a ticket tells of and nobody has shown.
pub(super) fn promised(known: &Known, who: &str) -> Option<String> {
    let (version, at) = known.promised?;
    Some(format!(
        "a ticket tells of root document {version} and entry {} of {who}, and no peer has shown them: {who} may have said something \
         newer, or the ticket is wrong; `unsubscribe` forgets what it told, and `subscribe` with a good one follows {who} again",
        at.seq
    ))
}

/// For people.
fn date(time: Time) -> String {
    let mut text = calendar(time.0 / 1000);
    text.truncate("2026-01-01 00:00".len());
    text + " UTC"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::failure::Kind;
    use softservice_protocol::{
        feed::{Behind, Head, Position, Term},
        id::Digest,
        time::Span,
    };
    use std::sync::Arc;

    const SAID: Time = Time(1_790_000_000_000);
    const OWNER: Wish = Wish::Owner { accept_expired: false };

    fn known(frozen: bool) -> Known {
        let term = Term { said: SAID, fresh_until: SAID + Span::days(7), stale_until: SAID + Span::days(37) };
        Known {
            root_version: 1,
            root_digest: Digest::ZERO,
            feed: Arc::default(),
            term: Some(term),
            own: false,
            signed: true,
            behind: None,
            needs: None,
            frozen,
            difference: None,
            unstated: false,
            promised: None,
            addresses: Vec::new(),
        }
    }
    fn after(days: u64) -> Moment {
        Moment { clock: SAID + Span::days(days), built: SAID }
    }

    #[test]
    fn what_is_old_waits_for_its_owner_and_what_is_frozen_for_its_publisher() {
        let wish = |accept_expired| Wish::Owner { accept_expired };
        let asked = |frozen, days, wish| judge(&known(frozen), false, "anna", "hello 1.0.0", wish, after(days));
        for (days, by_hand, by_consent, alone) in
            [(6, true, true, true), (7, true, true, false), (36, true, true, false), (37, false, true, false)]
        {
            assert_eq!(asked(false, days, OWNER).is_ok(), by_hand, "by hand after {days} days");
            assert_eq!(asked(false, days, wish(true)).is_ok(), by_consent, "by consent after {days} days");
            assert_eq!(asked(false, days, Wish::Policy).is_ok(), alone, "by policy after {days} days");
            assert_eq!(may_act_alone(&known(false), after(days)), alone);
            for wish in [OWNER, wish(true), Wish::Policy] {
                assert_eq!(asked(true, days, wish).unwrap_err().kind, Kind::Refused, "frozen after {days} days");
            }
        }
        let expired = asked(false, 40, OWNER).unwrap_err();
        assert!(expired.hint.as_deref().is_some_and(|h| h.contains("--accept-expired")), "{expired:?}");
        assert_eq!(expired.details["freshness"], "expired");
        // A backup of what ran is its owner's: old or frozen, it comes back when its owner says so.
        let back = |accept_expired, accept_frozen| Wish::Back { accept_expired, accept_frozen };
        for (frozen, days, consent, good) in [
            (false, 36, back(false, false), true),
            (false, 37, back(false, false), false),
            (false, 37, back(true, false), true),
            (false, 37, back(false, true), false),
            (true, 1, back(true, false), false),
            (true, 99, back(false, true), true),
        ] {
            assert_eq!(asked(frozen, days, consent).is_ok(), good, "{frozen} {days} {consent:?}");
        }
        let hint = asked(true, 1, back(false, false)).unwrap_err().hint;
        assert!(hint.is_some_and(|h| h.contains("--accept-frozen")));
        // Our own word is withheld by nobody; our own two histories are two all the same.
        assert!(judge(&known(false), true, "self", "hello 1.0.0", OWNER, after(99)).is_ok());
        assert!(judge(&known(true), true, "self", "hello 1.0.0", OWNER, after(1)).is_err());
    }

    #[test]
    fn two_histories_that_a_ticket_tells_of_keep_everything_new_away() {
        let told = Told { root_version: 2, proof: "00".into() };
        let asked = |wish| refuse_told(Some(told.clone()), "anna", "hello 1.0.0", wish);
        for wish in [OWNER, Wish::Owner { accept_expired: true }, Wish::Policy] {
            let refused = asked(wish).unwrap_err();
            assert_eq!((refused.kind, &refused.details["told_conflict"]["root_version"]), (Kind::Refused, &json!(2)));
        }
        assert!(asked(Wish::Back { accept_expired: false, accept_frozen: true }).is_ok(), "a backup is its owner's");
        assert!(refuse_told(None, "anna", "hello 1.0.0", Wish::Policy).is_ok());
    }

    #[test]
    fn no_policy_acts_by_a_wrong_clock_and_its_owner_may() {
        let built = Time(SAID.0 - Span::days(300).0);
        for clock in [Time(5_000), built, built + Span::days(200)] {
            let now = Moment { clock, built };
            let asked = |wish| judge(&known(false), false, "anna", "hello 1.0.0", wish, now);
            assert!(!may_act_alone(&known(false), now), "{clock:?}");
            let refused = asked(Wish::Policy).unwrap_err();
            assert!(refused.message.contains("how old") && refused.hint.is_some_and(|h| h.contains("clock")));
            assert!(asked(OWNER).is_ok(), "wrong clocks brick nothing");
            let told = describe(Some(&known(false)), now);
            assert_eq!((&told["freshness"], &told["age_known"]), (&json!("stale"), &json!(false)));
        }
        let told = sentence(&known(false), "anna", Moment { clock: Time(5_000), built });
        let wanted = "nobody here knows how old the word of anna is: the clock of this device shows 1970-01-01 00:00 UTC, which is wrong";
        assert_eq!(told.as_deref(), Some(wanted));
        assert_eq!(describe(Some(&known(false)), after(1))["age_known"], true);
    }

    #[test]
    fn what_is_behind_its_mark_or_cannot_be_read_is_taken_by_nobody_unasked() {
        let mark = Head { at: Position { epoch: 1, seq: 48 }, hash: Digest::ZERO };
        let lost = Known { behind: Some(Behind { mark, rival: false }), ..known(false) };
        assert_eq!(lost.freshness(after(1)), Freshness::Stale);
        assert!(!may_act_alone(&lost, after(1)));
        for (wish, taken) in [(OWNER, false), (Wish::Policy, false), (Wish::Owner { accept_expired: true }, true)] {
            assert_eq!(judge(&lost, false, "anna", "hello 1.0.0", wish, after(1)).is_ok(), taken, "{wish:?}");
        }
        let told = judge(&lost, false, "anna", "hello 1.0.0", OWNER, after(1)).unwrap_err();
        assert!(told.message.contains("entry 48 is lost") && told.details["behind"]["sequence"] == 48, "{told:?}");
        let newer = Known { needs: Some(PROTOCOL + 1), ..known(false) };
        assert!(!may_act_alone(&newer, after(1)));
        assert!(judge(&newer, false, "anna", "hello 1.0.0", OWNER, after(1)).is_ok(), "by hand as ever");
        assert!(sentence(&newer, "anna", after(1)).is_some_and(|told| told.contains("update softservice")));
    }

    #[test]
    fn a_date_says_what_it_is_of() {
        let told = |days| sentence(&known(false), "anna", after(days));
        assert_eq!(told(6), None);
        let stale = "the word of anna is stale since 2026-09-28 14:13 UTC, and expires 2026-10-28 14:13 UTC";
        assert_eq!(told(8).as_deref(), Some(stale));
        assert_eq!(told(38).as_deref(), Some("the word of anna expired 2026-10-28 14:13 UTC"));
    }
}
