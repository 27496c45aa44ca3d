//! How often somebody may knock: handshakes cost us a millisecond each and whoever asks for one next to nothing.
//! Invariant: what is refused is refused before any of it is paid; the memory of who knocked is bounded, and no address
//! is refused for what another one did, but for the share that its whole network has.

use softservice_protocol::machine::peers::group::{Host, NetworkGroup};
use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Handshakes that one address may begin at once, and then each second: a crowd behind one NAT gets in within seconds,
/// and one address costs us a hundredth of a core.
const HOST: Rate = Rate { burst: 64.0, each_second: 8.0 };
/// The same for a network of the internet: who has a thousand of its addresses gets no thousand times as much.
const GROUP: Rate = Rate { burst: 256.0, each_second: 32.0 };
/// Addresses and networks that are remembered.
const REMEMBERED: usize = 2048;
/// Knocks in vain within [`WINDOW`] that no crowd of honest devices makes, as each waits longer after each failure.
const IN_VAIN: u32 = 1024;
/// Identities of one address that were banned within [`WINDOWS`] of these.
const BANNED: u32 = 3;
/// Handshakes of one address that came to nothing within [`BROKEN_WITHIN`]: never finished, or of who is banned.
const BROKEN: u32 = 16;
/// See [`BROKEN`]. Devices that find themselves banned, or a bad line, try a few times in it.
const BROKEN_WITHIN: Duration = Duration::from_secs(60);
/// See [`IN_VAIN`].
const WINDOW: Duration = Duration::from_secs(10);
/// Bans are counted for so long.
const WINDOWS: Duration = Duration::from_secs(600);
/// How long an address is shut out at first; twice as long each further time.
const SHUT: Duration = Duration::from_secs(120);
/// And at most.
const SHUT_LONGEST: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: f64,
    each_second: f64,
}

/// One who knocks.
#[derive(Debug)]
struct Caller {
    left: f64,
    since: Instant,
    in_vain: u32,
    in_vain_since: Instant,
    banned: u32,
    banned_since: Instant,
    broken: u32,
    broken_since: Instant,
    shut: Option<Instant>,
    times: u32,
}

impl Caller {
    fn new(rate: Rate, now: Instant) -> Self {
        Self {
            left: rate.burst,
            since: now,
            in_vain: 0,
            in_vain_since: now,
            banned: 0,
            banned_since: now,
            broken: 0,
            broken_since: now,
            shut: None,
            times: 0,
        }
    }
    fn fill(&mut self, rate: Rate, now: Instant) {
        let earned = now.saturating_duration_since(self.since).as_secs_f64() * rate.each_second;
        self.left = (self.left + earned).min(rate.burst);
        self.since = now;
    }
    fn is_shut(&self, now: Instant) -> bool {
        self.shut.is_some_and(|until| until > now)
    }
    fn shut(&mut self, now: Instant) {
        let span = SHUT.saturating_mul(1 << self.times.min(8)).min(SHUT_LONGEST);
        self.shut = Some(now + span);
        self.times = self.times.saturating_add(1);
        (self.in_vain, self.banned, self.broken) = (0, 0, 0);
    }
    /// When forgetting it would make no difference.
    fn is_idle(&self, rate: Rate, now: Instant) -> bool {
        let rest = now.saturating_duration_since(self.since);
        !self.is_shut(now) && rest.as_secs_f64() * rate.each_second >= rate.burst && rest > WINDOWS
    }
}

#[derive(Debug)]
struct Callers<K>(HashMap<K, Caller>, Rate);

impl<K: Hash + Eq + Copy> Callers<K> {
    fn of(&mut self, key: K, now: Instant) -> &mut Caller {
        if self.0.len() >= REMEMBERED && !self.0.contains_key(&key) {
            let rate = self.1;
            self.0.retain(|_, caller| !caller.is_idle(rate, now));
            // Who is shut out stays on the list before who is not, then who knocked last.
            let first = self.0.iter().min_by_key(|(_, c)| (c.is_shut(now), c.since)).map(|(k, _)| *k);
            if let Some(first) = first.filter(|_| self.0.len() >= REMEMBERED) {
                self.0.remove(&first);
            }
        }
        let caller = self.0.entry(key).or_insert_with(|| Caller::new(self.1, now));
        caller.fill(self.1, now);
        caller
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Knocks {
    hosts: Callers<Host>,
    groups: Callers<NetworkGroup>,
}

impl Default for Knocks {
    fn default() -> Self {
        Self { hosts: Callers(HashMap::new(), HOST), groups: Callers(HashMap::new(), GROUP) }
    }
}

impl Knocks {
    /// Whether this address may begin a handshake now; counts it.
    pub(super) fn may(&mut self, now: Instant, from: IpAddr) -> Result<(), &'static str> {
        let host = self.hosts.of(Host::of(from), now);
        if host.is_shut(now) {
            return Err("its address is shut out for a while");
        }
        let group = NetworkGroup::of_ip(from);
        let of_group = if group.is_public() { Some(self.groups.of(group, now)) } else { None };
        if host.left >= 1.0 && of_group.as_ref().is_none_or(|g| g.left >= 1.0) {
            host.left -= 1.0;
            if let Some(of_group) = of_group {
                of_group.left -= 1.0;
            }
            return Ok(());
        }
        if now.saturating_duration_since(host.in_vain_since) > WINDOW {
            (host.in_vain, host.in_vain_since) = (0, now);
        }
        host.in_vain += 1;
        if host.in_vain >= IN_VAIN {
            host.shut(now);
        }
        Err("its address or network knocks too often")
    }

    /// A handshake of this address was paid for and came to nothing.
    pub(super) fn broken(&mut self, now: Instant, from: IpAddr) {
        let host = self.hosts.of(Host::of(from), now);
        if now.saturating_duration_since(host.broken_since) > BROKEN_WITHIN {
            (host.broken, host.broken_since) = (0, now);
        }
        host.broken += 1;
        if host.broken >= BROKEN && !host.is_shut(now) {
            host.shut(now);
        }
    }

    /// An identity behind this address was banned: one says nothing of its neighbours, several in a row do.
    pub(super) fn banned(&mut self, now: Instant, from: IpAddr) {
        let host = self.hosts.of(Host::of(from), now);
        if now.saturating_duration_since(host.banned_since) > WINDOWS {
            (host.banned, host.banned_since) = (0, now);
        }
        host.banned += 1;
        if host.banned >= BANNED && !host.is_shut(now) {
            host.shut(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }
    fn let_in(knocks: &mut Knocks, now: Instant, from: impl Fn(u32) -> IpAddr, count: u32) -> usize {
        (0..count).filter(|n| knocks.may(now, from(*n)).is_ok()).count()
    }

    #[test]
    fn one_address_gets_its_burst_and_then_its_rate_and_takes_nothing_from_its_neighbour() {
        let (mut knocks, now) = (Knocks::default(), Instant::now());
        assert_eq!(let_in(&mut knocks, now, |_| ip("127.0.0.1"), 64), 64);
        assert_eq!(let_in(&mut knocks, now, |_| ip("127.0.0.1"), 100), 0);
        assert_eq!(let_in(&mut knocks, now, |_| ip("127.0.0.2"), 64), 64);
        let later = now + Duration::from_secs(3);
        assert_eq!(let_in(&mut knocks, later, |_| ip("127.0.0.1"), 100), 24);
    }

    #[test]
    fn a_network_of_the_internet_has_one_share_and_a_subscriber_with_a_whole_64_one_address() {
        let (mut knocks, now) = (Knocks::default(), Instant::now());
        let rented = |n: u32| ip(&format!("9.8.{}.{}", n / 250, n % 250));
        assert_eq!(let_in(&mut knocks, now, rented, 1000), 256);
        assert!(knocks.may(now, ip("9.9.0.1")).is_ok());
        assert_eq!(let_in(&mut knocks, now, |n| ip(&format!("2a01:4f8::{n:x}")), 100), 64);
    }

    #[test]
    fn who_knocks_on_regardless_is_shut_out_for_ever_longer_and_then_heard_again() {
        let (mut knocks, mut now) = (Knocks::default(), Instant::now());
        let mallory = |_| ip("127.6.6.6");
        for span in [SHUT, SHUT * 2, SHUT * 4, SHUT_LONGEST] {
            let_in(&mut knocks, now, mallory, 64 + IN_VAIN);
            assert!(knocks.may(now + span - Duration::from_secs(1), mallory(0)).is_err());
            assert!(knocks.may(now, ip("127.0.0.1")).is_ok());
            now += span + Duration::from_secs(1);
            assert!(knocks.may(now, mallory(0)).is_ok(), "after {span:?}");
        }
    }

    #[test]
    fn an_address_whose_identities_are_banned_one_after_the_other_is_shut_out() {
        let (mut knocks, now) = (Knocks::default(), Instant::now());
        for _ in 0..BANNED - 1 {
            knocks.banned(now, ip("127.6.6.6"));
            assert!(knocks.may(now, ip("127.6.6.6")).is_ok(), "a few neighbours that lie are no reason");
        }
        knocks.banned(now, ip("127.6.6.6"));
        assert!(knocks.may(now, ip("127.6.6.6")).is_err());
        // Long ago is forgotten.
        for n in 0..10 {
            let then = now + WINDOWS.mul_f64(1.1 * f64::from(n));
            knocks.banned(then, ip("127.7.7.7"));
            assert!(knocks.may(then, ip("127.7.7.7")).is_ok());
        }
    }

    #[test]
    fn an_address_whose_handshakes_come_to_nothing_is_shut_out_and_one_that_tries_now_and_then_is_not() {
        let (mut knocks, now) = (Knocks::default(), Instant::now());
        for _ in 0..BROKEN {
            assert!(knocks.may(now, ip("127.6.6.6")).is_ok());
            knocks.broken(now, ip("127.6.6.6"));
        }
        assert!(knocks.may(now, ip("127.6.6.6")).is_err());
        for n in 0..200 {
            let then = now + Duration::from_secs(n * 10);
            assert!(knocks.may(then, ip("127.7.7.7")).is_ok());
            knocks.broken(then, ip("127.7.7.7"));
        }
    }

    #[test]
    fn the_memory_of_who_knocked_is_bounded_and_keeps_who_is_shut_out() {
        let (mut knocks, now) = (Knocks::default(), Instant::now());
        let_in(&mut knocks, now, |_| ip("127.6.6.6"), 64 + IN_VAIN);
        for n in 0..10_000_u32 {
            let [_, b, c, d] = n.to_be_bytes();
            let _ = knocks.may(now + Duration::from_millis(u64::from(n)), IpAddr::from([10, b, c, d]));
        }
        assert!(knocks.hosts.0.len() <= REMEMBERED);
        assert!(knocks.may(now + Duration::from_secs(10), ip("127.6.6.6")).is_err());
    }
}
