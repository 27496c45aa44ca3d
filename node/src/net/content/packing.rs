//! Making answers smaller, and knowing when it pays. Invariant: what is unpacked is exactly as long as the asker
//! expects from signed sizes, so no frame makes it take more memory than that; whether it is what was asked, hashes say.

use super::window;
use std::time::Duration;
use zstd::zstd_safe::{CCtx, CParameter, DCtx, get_error_name};

/// Levels of zstd from light to dense, with what one core does of each before it was measured, in bytes a second.
const LEVELS: [(i32, f64); 5] = [(1, 350e6), (3, 200e6), (6, 80e6), (9, 45e6), (12, 20e6)];
/// Where a stream begins: it costs a fast link milliseconds and saves a slow one from the beginning.
const FIRST: usize = 1;
/// What a stream takes into buffers before its writes say how fast the link is.
const BUFFERED: u64 = 6 << 20;
/// The link is measured over so much time of writing, or so many bytes: less sees bursts.
const LOOK: Duration = Duration::from_millis(50);
/// See [`LOOK`].
const LOOK_BYTES: u64 = 8 << 20;
/// A core must pack so many times faster than the link takes what is packed: others want the core as well.
const SPARE: f64 = 1.5;
/// The beginning of a span that shows whether it compresses.
const SAMPLE: usize = 64 << 10;
/// Less gain than this is not worth the work of both sides.
const WORTH: f64 = 0.95;
/// The largest window of a frame, as a power of two: a span and its base fit.
pub(super) const WINDOW_LOG: u32 = 22;
/// How much of a new measurement counts.
const NEW: f64 = 0.3;

const _: () =
    assert!(softservice_protocol::limits::SPAN_BYTES + softservice_protocol::limits::BASE_BYTES <= 1 << WINDOW_LOG);

/// What is written against a base: a level of zstd, the size of its tables as a power of two, and what one core does of it
/// before it was measured. The library's own tables are made for short inputs: half of a base is forgotten before it is
/// compared with.
const OVERS: [(i32, u32, f64); 2] = [(3, 19, 120e6), (9, 21, 30e6)];
/// What a base leaves of a byte, before it was measured.
const OVER_RATIO: f64 = 0.3;
/// What the link did not hold up leaves room: so many times more is believed of it.
const ROOM: f64 = 1.5;
/// Of spans that are sent as they are, every so-manieth is tried again: content changes.
const PROBE: u32 = 16;
/// The same where no level keeps up with the link, whatever it leaves of the content: only the cores may be idler than they were.
const RARELY: u32 = 128;

/// How a span may be packed; none of both is as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    /// By itself.
    pub(super) alone: Option<usize>,
    /// Against a base, if there is one.
    pub(super) over: Option<usize>,
}

impl Choice {
    /// Whether a core is needed.
    pub(super) fn packs(&self) -> bool {
        self.alone.is_some() || self.over.is_some()
    }
}

/// What is known of one stream's link and of what compression brings there.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes written since the stream began, as they went.
    written: u64,
    look: Look,
    /// Bytes a second that the link takes.
    link: Option<f64>,
    alone: Packer<{ LEVELS.len() }>,
    over: Packer<{ OVERS.len() }>,
}

/// Since the link was judged last: bytes, the time that writing them took, and the time that the link waited for them.
#[derive(Debug, Default)]
struct Look {
    bytes: u64,
    busy: Duration,
    idle: Duration,
}

/// What one way of packing does: bytes a second of each level, and what is left of a byte.
#[derive(Debug)]
struct Packer<const N: usize> {
    speeds: [f64; N],
    ratio: f64,
    plain: u32,
}

impl<const N: usize> Packer<N> {
    /// The level with which content moves fastest, the densest of equals; none when it moves as fast as it is.
    fn choose(&mut self, link: f64) -> Option<usize> {
        let takes = link / self.ratio;
        let rates = self.speeds.map(|speed| (speed / SPARE).min(takes));
        let (best, rate) = rates.into_iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        if rate > link {
            return Some(best);
        }
        self.plain = self.plain.wrapping_add(1);
        let fastest = self.speeds.into_iter().fold(0.0, f64::max) / SPARE;
        self.plain.is_multiple_of(if fastest > link { PROBE } else { RARELY }).then_some(0)
    }
    fn packed(&mut self, level: usize, from: usize, to: usize, took: Duration) {
        let seen = from as f64 / took.as_secs_f64().max(1e-6);
        if let Some(speed) = self.speeds.get_mut(level) {
            *speed = blend(*speed, seen);
        }
        self.tried(from, to);
    }
    fn tried(&mut self, from: usize, to: usize) {
        self.ratio = blend(self.ratio, (to as f64 / from.max(1) as f64).clamp(0.01, 1.0));
    }
}

impl Default for Pace {
    fn default() -> Self {
        let alone = Packer { speeds: LEVELS.map(|(_, speed)| speed), ratio: 1.0, plain: 0 };
        let over = Packer { speeds: OVERS.map(|(_, _, speed)| speed), ratio: OVER_RATIO, plain: 0 };
        Self { written: 0, look: Look::default(), link: None, alone, over }
    }
}

impl Pace {
    /// So many bytes went in this time, waits for the link included; before them the link waited for this device.
    pub(super) fn wrote(&mut self, bytes: u64, took: Duration, waited: Duration) {
        self.written += bytes;
        if self.written < BUFFERED {
            return;
        }
        let look = &mut self.look;
        (look.bytes, look.busy, look.idle) = (look.bytes + bytes, look.busy + took, look.idle + waited);
        if look.busy + look.idle < LOOK && look.bytes < LOOK_BYTES {
            return;
        }
        let look = std::mem::take(look);
        let rate = |time: Duration| look.bytes as f64 / time.as_secs_f64().max(1e-6);
        if look.busy >= look.idle {
            let seen = rate(look.busy);
            self.link = Some(self.link.map_or(seen, |known| blend(known, seen)));
        } else {
            // Not the link is slow, we are; how fast it is shows when it is asked for more. Small answers that vanish in
            // buffers say no more than that.
            let least = rate(look.busy + look.idle) * ROOM;
            self.link = Some(self.link.map_or(least, |known| known.max(least)));
        }
    }
    /// Bytes a second that the link takes, once that is known.
    pub(super) fn link(&self) -> Option<f64> {
        self.link
    }
    /// A span was packed so.
    pub(super) fn packed(&mut self, level: usize, from: usize, to: usize, took: Duration) {
        self.alone.packed(level, from, to, took);
    }
    /// A span was packed so, against a base.
    pub(super) fn packed_over(&mut self, level: usize, from: usize, to: usize, took: Duration) {
        self.over.packed(level, from, to, took);
    }
    /// A span does not shrink.
    pub(super) fn in_vain(&mut self) {
        self.alone.tried(1, 1);
    }
    /// How to pack the next span.
    pub(super) fn choose(&mut self) -> Choice {
        match self.link {
            None => Choice { alone: Some(FIRST), over: Some(0) },
            Some(link) => Choice { alone: self.alone.choose(link), over: self.over.choose(link) },
        }
    }
}

fn blend(known: f64, seen: f64) -> f64 {
    known * (1.0 - NEW) + seen * NEW
}

fn failed(code: usize) -> &'static str {
    get_error_name(code)
}

/// Whether the beginning of this shrinks.
pub(super) fn shrinks(content: &[u8]) -> bool {
    let sample = content.get(..SAMPLE).unwrap_or(content);
    compress(sample, &[], 1, None).is_ok_and(|packed| worth(sample.len(), packed.len()))
}

fn worth(from: usize, to: usize) -> bool {
    (to as f64) < from as f64 * WORTH
}

/// One frame with this content; none when that is hardly smaller.
pub(super) fn pack(content: &[u8], level: usize) -> Option<Vec<u8>> {
    let level = LEVELS.get(level).map_or(1, |(level, _)| *level);
    kept(content, compress(content, &[], level, None))
}

/// One frame with this content, written against `base`; none when that is hardly smaller.
pub(super) fn pack_over(content: &[u8], base: &[u8], level: usize) -> Option<Vec<u8>> {
    let (level, tables, _) = OVERS.get(level).copied().unwrap_or(OVERS[0]);
    kept(content, compress(content, base, level, Some(tables)))
}

fn kept(content: &[u8], packed: Result<Vec<u8>, &'static str>) -> Option<Vec<u8>> {
    match packed {
        Ok(packed) => worth(content.len(), packed.len()).then_some(packed),
        Err(why) => {
            tracing::warn!("content is sent as it is: zstd says {why}");
            None
        }
    }
}

fn compress(content: &[u8], base: &[u8], level: i32, tables: Option<u32>) -> Result<Vec<u8>, &'static str> {
    let mut context = CCtx::create();
    let set = |context: &mut CCtx<'_>, parameter| context.set_parameter(parameter).map(drop).map_err(failed);
    set(&mut context, CParameter::CompressionLevel(level))?;
    // Sizes are signed, hashes are checked: neither has to be in the frame.
    set(&mut context, CParameter::ContentSizeFlag(false))?;
    set(&mut context, CParameter::ChecksumFlag(false))?;
    if let Some(tables) = tables {
        set(&mut context, CParameter::WindowLog(WINDOW_LOG))?;
        set(&mut context, CParameter::HashLog(tables))?;
        set(&mut context, CParameter::ChainLog(tables))?;
        context.ref_prefix(base).map_err(failed)?;
    }
    let mut packed = Vec::with_capacity(zstd::zstd_safe::compress_bound(content.len()));
    context.compress2(&mut packed, content).map_err(failed)?;
    Ok(packed)
}

/// The content of one frame that was written against `base`: exactly `len` bytes.
///
/// # Errors
/// What is wrong with the frame, for people.
pub(super) fn unpack(packed: &[u8], base: &[u8], len: usize) -> Result<Vec<u8>, &'static str> {
    window::check(packed)?;
    let mut context = DCtx::create();
    context.ref_prefix(base).map_err(failed)?;
    // The capacity is the bound: zstd writes no further and says so.
    let mut content = Vec::with_capacity(len);
    context.decompress(&mut content, packed).map_err(failed)?;
    if content.len() == len { Ok(content) } else { Err("a frame holds fewer bytes than were promised") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(len: usize, seed: u8) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes
    }
    fn text(len: usize) -> Vec<u8> {
        (0_u64..).flat_map(|n| format!("line {} of {}\n", n * 7919 % 1000, n % 13).into_bytes()).take(len).collect()
    }

    #[test]
    fn text_shrinks_and_noise_does_not() {
        assert!(shrinks(&text(1 << 20)) && shrinks(&text(300)));
        assert!(!shrinks(&noise(1 << 20, 1)) && !shrinks(&[]));
        for level in 0..LEVELS.len() {
            let packed = pack(&text(1 << 20), level).unwrap();
            assert!(packed.len() < 1 << 19);
            assert_eq!(unpack(&packed, &[], 1 << 20).unwrap(), text(1 << 20));
            assert_eq!(pack(&noise(1 << 20, 1), level), None);
        }
    }

    #[test]
    fn what_the_asker_has_is_not_sent_again() {
        let base = noise(1 << 20, 1);
        let mut new = base.clone();
        new.splice(300_000..300_000, noise(16 << 10, 2));
        new.truncate(1 << 20);
        for level in 0..OVERS.len() {
            let packed = pack_over(&new, &base, level).unwrap();
            assert!(packed.len() < 20 << 10, "{}", packed.len());
            assert_eq!(unpack(&packed, &base, new.len()).unwrap(), new);
            // Against another base something else comes, or nothing: the hash would tell.
            let wrong = noise(1 << 20, 9);
            assert!(unpack(&packed, &wrong, new.len()).map_or(true, |got| got != new));
        }
    }

    #[test]
    fn a_base_and_a_span_of_full_size_reach_each_other() {
        let base = noise(softservice_protocol::limits::BASE_BYTES, 1);
        let new = base[..softservice_protocol::limits::SPAN_BYTES].to_vec();
        let packed = pack_over(&new, &base, 0).unwrap();
        assert!(packed.len() < 4 << 10, "{}", packed.len());
        assert_eq!(unpack(&packed, &base, new.len()).unwrap(), new);
    }

    #[test]
    fn a_frame_unpacks_to_what_was_promised_or_not_at_all() {
        let bomb = pack(&vec![0; 1 << 20], 0).unwrap();
        assert!(bomb.len() < 200);
        assert!(unpack(&bomb, &[], 1000).is_err());
        assert!(unpack(&bomb, &[], (1 << 20) + 1).is_err());
        assert!(unpack(&[], &[], 5).is_err());
        assert_eq!(unpack(&bomb, &[], 1 << 20).unwrap().len(), 1 << 20);
        // The same content as two frames, which the library by itself takes.
        let halves = [pack(&vec![0; 1 << 19], 0).unwrap(), pack(&vec![0; 1 << 19], 0).unwrap()].concat();
        assert!(unpack(&halves, &[], 1 << 20).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_unpack_to_the_promised_length_or_are_refused(
            packed in prop::collection::vec(any::<u8>(), 0..400),
            base in prop::collection::vec(any::<u8>(), 0..400),
            len in 0usize..5000,
        ) {
            if let Ok(content) = unpack(&packed, &base, len) {
                prop_assert_eq!(content.len(), len);
            }
        }
        #[test]
        fn a_damaged_frame_is_refused_or_has_the_promised_length(at in 0usize..2000, flip in 1u8..) {
            let base = text(5000);
            let mut packed = compress(&text(9000)[3000..], &base, 3, Some(19)).unwrap();
            let at = at % packed.len();
            packed[at] ^= flip;
            if let Ok(content) = unpack(&packed, &base, 6000) {
                prop_assert_eq!(content.len(), 6000);
            }
        }
    }

    /// A link of so many bytes a second, on which content shrinks to this.
    fn paced(link: f64, ratio: f64) -> Pace {
        let mut pace = Pace::default();
        for _ in 0..40 {
            pace.wrote(1 << 20, Duration::from_secs_f64(f64::from(1 << 20) / link), Duration::ZERO);
            pace.alone.tried(1000, (1000.0 * ratio) as usize);
        }
        pace
    }

    #[test]
    fn slow_links_pack_densely_and_fast_ones_not_at_all() {
        let first = Choice { alone: Some(FIRST), over: Some(0) };
        assert_eq!(Pace::default().choose(), first);
        assert_eq!(paced(1e6, 0.5).choose().alone, Some(LEVELS.len() - 1));
        assert_eq!(paced(14e6, 0.5).choose().alone, Some(LEVELS.len() - 2));
        assert_eq!(paced(100e6, 0.5).choose().alone, Some(0));
        // What shrinks to nearly nothing is packed also where no level keeps up with the link.
        assert!(paced(12.5e6, 0.03).choose().alone.is_some());
        let fast = paced(600e6, 0.3).choose();
        assert_eq!((fast.alone, fast.over), (None, None));
    }

    #[test]
    fn buffers_do_not_pass_for_a_fast_link() {
        let mut pace = Pace::default();
        for _ in 0..5 {
            pace.wrote(1 << 20, Duration::from_micros(300), Duration::ZERO);
        }
        assert_eq!(pace.link(), None);
        let mut pace = paced(6e6, 0.5);
        let before = pace.link().unwrap();
        // Answers of a few kilobytes that are gone at once, one every 5 ms.
        for _ in 0..1000 {
            pace.wrote(10_000, Duration::from_micros(20), Duration::from_millis(5));
        }
        assert!(pace.link().unwrap() < before * 1.01);
        assert!(pace.choose().packs());
    }

    #[test]
    fn a_link_that_waits_for_us_is_found_to_be_faster() {
        let mut pace = paced(6e6, 0.5);
        for _ in 0..200 {
            pace.wrote(1 << 20, Duration::from_micros(500), Duration::from_millis(5));
        }
        assert!(pace.link().unwrap() > 200e6);
    }

    #[test]
    fn a_core_that_is_slower_than_thought_packs_more_lightly() {
        let mut pace = paced(6e6, 0.5);
        let before = pace.choose().alone.unwrap();
        for _ in 0..10 {
            pace.packed(before, 1 << 20, 1 << 19, Duration::from_millis(200));
        }
        assert_eq!(pace.choose().alone, Some(before - 1));
    }

    #[test]
    fn what_did_not_shrink_is_tried_again() {
        let mut pace = paced(6e6, 1.0);
        let tried = (0..64).filter(|_| pace.choose().alone.is_some()).count();
        assert_eq!(tried, 4);
    }

    #[test]
    fn a_link_that_no_level_keeps_up_with_is_hardly_held_up_by_trying() {
        let mut pace = paced(600e6, 0.3);
        assert_eq!((0..1024).filter(|_| pace.choose().alone.is_some()).count(), 8);
        // The cores turn out to be faster than that.
        (0..20).for_each(|_| pace.packed(0, 1 << 20, 1 << 18, Duration::from_micros(500)));
        assert_eq!(pace.choose().alone, Some(0));
    }
}
