//! Text, piece after piece. Invariant: what begins in one piece and ends in another is judged once, with all that its
//! judgement needs of both; no more is kept of the pieces before than that.

use super::{AFTER, BEFORE, FINDINGS, Finding, Hit, MORE, NEEDLES, Place, Weight, assigned, form, holder};
use std::ops::Range;

/// One text.
#[derive(Debug)]
pub(super) struct Text {
    file: String,
    place: Place,
    /// The end of the piece before.
    carry: Vec<u8>,
    /// Where in `carry` what has not been judged begins.
    fresh: usize,
    /// The line in which `carry` begins.
    line: u32,
    /// There were more findings than are listed.
    full: bool,
    found: Vec<Finding>,
}

impl Text {
    pub(super) fn new(file: &str, place: Place) -> Self {
        Self { file: file.into(), place, carry: Vec::new(), fresh: 0, line: 1, full: false, found: Vec::new() }
    }

    /// The whole of it at once.
    pub(super) fn whole(mut self, bytes: &[u8]) -> Vec<Finding> {
        self.look(bytes, 0..bytes.len());
        self.found
    }

    /// The next bytes.
    pub(super) fn push(&mut self, piece: &[u8]) {
        if self.full {
            return;
        }
        self.carry.extend_from_slice(piece);
        self.advance(self.carry.len().saturating_sub(AFTER).max(self.fresh));
    }

    /// What was found.
    pub(super) fn finish(mut self) -> Vec<Finding> {
        if !self.full {
            self.advance(self.carry.len());
        }
        self.found
    }

    /// Judges what begins before `limit`, and keeps what the judgement of the rest needs.
    fn advance(&mut self, limit: usize) {
        let bytes = std::mem::take(&mut self.carry);
        let judged = self.look(&bytes, self.fresh..limit).max(limit);
        let keep = limit.saturating_sub(BEFORE);
        self.line = self.line.saturating_add(newlines(bytes.get(..keep).unwrap_or_default()));
        self.carry = bytes.get(keep..).unwrap_or_default().to_vec();
        self.fresh = judged - keep;
    }

    /// Findings that begin in `range`. Answers where the last one ends.
    fn look(&mut self, bytes: &[u8], range: Range<usize>) -> usize {
        let Some(needles) = NEEDLES.as_ref() else { return range.start };
        let needles = match self.place {
            Place::Netrc | Place::Pgpass | Place::Registry => &needles.held,
            place if place.has_names() => &needles.all,
            _ => &needles.forms,
        };
        let (mut line, mut counted, mut from) = (self.line, 0, range.start);
        let input = aho_corasick::Input::new(bytes).range(range.start..bytes.len());
        for needle in needles.find_iter(input) {
            if needle.start() >= range.end {
                break;
            }
            if needle.start() < from {
                continue;
            }
            let number = needle.pattern().as_usize();
            let hit = match form::FORMS.get(number) {
                Some(form) => form.judge(bytes, needle.start(), self.place),
                None => {
                    let at = needle.start()..needle.end();
                    holder::judge(bytes, at.clone(), self.place).or_else(|| assigned::judge(bytes, at, self.place))
                }
            };
            let Some(hit) = hit else { continue };
            line = line.saturating_add(newlines(bytes.get(counted..hit.at).unwrap_or_default()));
            (counted, from) = (hit.at.max(counted), hit.end.max(needle.end()));
            if self.found.len() >= FINDINGS {
                self.found.push(more(&self.file));
                self.full = true;
                break;
            }
            self.found.push(Finding::new(&self.file, line, &hit));
        }
        from
    }
}

/// That there are more than can be listed.
pub(super) fn more(file: &str) -> Finding {
    Finding::new(file, 0, &Hit { at: 0, end: 0, what: MORE, secret: b"", weight: Weight::Refused })
}

fn newlines(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.iter().filter(|b| **b == b'\n').count()).unwrap_or(u32::MAX)
}
