//! What parts a feed that signed two histories, and what helps its publisher. Invariant: what helps follows from what parts it:
//! nothing reopens a publisher whose root documents fork, and nobody is told to try.

use crate::{handle::Known, verbs::failure::Failure};
use softservice_protocol::feed::Conflict;

/// Nothing goes on behind two histories.
pub(super) fn refusal(known: &Known) -> Failure {
    let part = known.difference.as_ref().map_or_else(|| "two histories were signed".into(), ToString::to_string);
    Failure::refused(format!("the feed is frozen, and nothing goes on behind it: {part}")).hint(way_out(known))
}

/// What helps.
pub(super) fn way_out(known: &Known) -> String {
    let Some(part) = &known.difference else {
        return "`softservice publisher recover` goes back to the last good entry".into();
    };
    let at = match part.place {
        Conflict::Root(version) => {
            return format!(
                "nothing reopens it: root document {version} was signed twice, and nobody can tell which of the two counts; begin a new \
                 publisher in another home, and hand out its ticket in a way that your users trust"
            );
        }
        Conflict::Feed(at) => at,
    };
    let back = format!("`softservice publisher recover --from {}`", at.seq.saturating_sub(1));
    match part.one.by.filter(|_| part.one.by == part.other.by) {
        Some(key) => format!(
            "`softservice publisher delegate --remove {key}` takes the right of the build machine that said both, then {back} gives both up"
        ),
        None => format!(
            "{back} gives both up and goes on; if somebody else has your keys, `softservice publisher rotate` first"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use softservice_protocol::{
        feed::{Difference, FeedState, Position, Word},
        id::{Digest, PublicKey},
    };

    fn frozen(place: Conflict, by: [Option<PublicKey>; 2]) -> Known {
        let word = |n: u8| Word { what: "hello 1.0.0".into(), digest: Digest([n; 32]), by: by[usize::from(n)] };
        Known {
            root_version: 3,
            root_digest: Digest::ZERO,
            feed: FeedState::default().into(),
            term: None,
            own: true,
            signed: true,
            behind: None,
            needs: None,
            frozen: true,
            difference: Some(Difference { place, one: word(0), other: word(1) }),
            unstated: false,
            promised: None,
            addresses: Vec::new(),
        }
    }

    #[test]
    fn what_helps_a_frozen_feed_follows_from_what_parts_it() {
        let at = Conflict::Feed(Position { epoch: 1, seq: 7 });
        let (one, two) = (Some(PublicKey([5; 32])), Some(PublicKey([6; 32])));
        for by in [[None, None], [one, None], [one, two]] {
            let entry = way_out(&frozen(at, by));
            assert!(entry.contains("recover --from 6") && !entry.contains("delegate"), "{entry}");
        }
        let machine = way_out(&frozen(at, [one, one]));
        assert!(machine.contains(&format!("delegate --remove {}", "05".repeat(32))), "{machine}");
        assert!(machine.contains("recover --from 6"), "{machine}");
        let root = frozen(Conflict::Root(3), [None, None]);
        let helps = way_out(&root);
        assert!(helps.contains("root document 3 was signed twice") && !helps.contains("recover"), "{helps}");
        let refused = refusal(&root);
        assert!(refused.message.contains("root document 3 is") && refused.kind.exit() == 4, "{refused}");
    }
}
