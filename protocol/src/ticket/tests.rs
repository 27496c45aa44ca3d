//! Anna prints tickets, Bob pastes them.

use super::*;
use crate::{address::join, id::Peer};
use proptest::prelude::*;

fn anna() -> Ticket {
    let peer = Peer([7; 32]);
    Ticket {
        publisher: PublisherId([1; 32]),
        distro: Some("guestbook".into()),
        root: (3, Digest([2; 32])),
        floor: Head { at: Position { epoch: 1, seq: 1234 }, hash: Digest([3; 32]) },
        addresses: vec![
            join("/ip4/192.168.1.20/udp/4001/quic-v1", peer),
            join("/ip4/192.168.1.20/tcp/4001", peer),
            join("/ip4/203.0.113.9/udp/4001/quic-v1", peer),
            join("/dns4/a.example/tcp/4001", Peer([8; 32])),
        ],
        conflict: None,
        expires: None,
    }
}

fn resealed(body: &str) -> String {
    format!("{body}/{}", checksum(body))
}

#[test]
fn bob_pastes_annas_ticket_in_either_case() {
    let ticket = anna();
    let line = ticket.to_string();
    assert!(line.len() <= limits::TICKET_CHARS, "{}", line.len());
    assert!(line.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b" $%*+-./:".contains(&b)), "{line}");
    assert_eq!(line.parse(), Ok(ticket.clone()));
    assert_eq!(format!("  {}\n", line.to_lowercase()).parse(), Ok(ticket));
}

#[test]
fn a_ticket_that_warns_and_ends_says_both_and_gives_up_addresses_alone() {
    let warns = Ticket { conflict: Some(Digest([9; 32])), expires: Some(1_790_000_000), ..anna() };
    let line = warns.to_string();
    let (body, _) = line.rsplit_once('/').unwrap();
    assert!(line.len() <= limits::TICKET_CHARS && body.ends_with("/X1790000000"), "{line}");
    let read: Ticket = line.parse().unwrap();
    assert_eq!(read, Ticket { addresses: warns.carried(), ..warns.clone() });
    assert!(!read.addresses.is_empty() && anna().addresses.starts_with(&read.addresses));
    assert_eq!(read.refuse_expired(Time(1_789_999_999_999)), Ok(()));
    assert_eq!(read.refuse_expired(Time(1_790_000_000_000)), Err(TicketError::Expired { at: 1_790_000_000 }));
    assert_eq!(anna().refuse_expired(Time(u64::MAX)), Ok(()), "one without an end has none");
    // One spelling: nothing twice, nothing in another order, no number in another way.
    let refused =
        |body: &str, field| assert_eq!(resealed(body).parse::<Ticket>(), Err(TicketError::Field { field }), "{body}");
    refused(&body.replace("/X1790000000", "/X01790000000"), "spelling");
    refused(&format!("{body}/X1790000000"), "spelling");
    refused(&body.replace("/X1790000000", "/X"), "expiry");
    let (peers, conflict) =
        body.split_once("/C").map(|(peers, rest)| (peers, rest.split_once('/').unwrap().0)).unwrap();
    refused(&format!("{peers}/X1790000000/C{conflict}"), "spelling");
    refused(&format!("{peers}/C{}", &conflict[1..]), "conflict");
    refused(&format!("{peers}/C{conflict}/I7"), "peer");
}

#[test]
fn two_strangers_fit_beside_the_longest_name() {
    let mut ticket = Ticket { distro: Some("d".repeat(63)), ..anna() };
    ticket.addresses = vec![
        join("/ip4/203.0.113.9/udp/65535/quic-v1", Peer([1; 32])),
        join("/ip4/203.0.113.10/udp/65535/quic-v1", Peer([2; 32])),
    ];
    assert_eq!(ticket.to_string().parse(), Ok(ticket));
}

#[test]
fn what_does_not_fit_is_left_out_and_the_rest_stays() {
    let mut ticket = anna();
    ticket.addresses.insert(0, format!("/dns4/{}/tcp/1", "long.".repeat(40)));
    ticket.addresses.extend((0..9).map(|n| join("/ip4/10.0.0.1/tcp/1", Peer([100 + n; 32]))));
    ticket.addresses.extend(["no address".into(), String::new(), "/ip4/\u{e4}".into()]);
    let read: Ticket = ticket.to_string().parse().unwrap();
    assert_eq!(read.addresses, ticket.carried());
    assert!(read.addresses.len() >= 3 && read.addresses.len() < ticket.addresses.len(), "{:?}", read.addresses);
    assert_eq!((read.publisher, read.root, read.floor), (ticket.publisher, ticket.root, ticket.floor));
}

#[test]
fn a_damaged_ticket_says_what_is_wrong() {
    let line = anna().to_string();
    let read = |text: &str| text.parse::<Ticket>().unwrap_err();
    assert_eq!(read("https://example.org"), TicketError::NotATicket);
    assert_eq!(read(""), TicketError::NotATicket);
    assert_eq!(read(&line.replace("SOFTDIST:1", "SOFTDIST:2")), TicketError::Version { found: "2".into() });
    assert_eq!(read(&line[..line.len() - 1]), TicketError::Checksum);
    assert_eq!(read(&line[..60]), TicketError::Checksum);
    assert_eq!(read("SOFTDIST:1"), TicketError::Missing { field: "publisher" });
    assert_eq!(read(&line.replacen("/R", "?R", 1)), TicketError::Character { character: '?', at: 74 });
    assert_eq!(read(&format!("{line}{line}")), TicketError::TooLong { characters: 2 * line.len() });
    let (body, _) = line.rsplit_once('/').unwrap();
    for (from, to, field) in [
        ("/R3.", "/R03.", "spelling"),
        ("/R3.", "/R-3.", "root"),
        ("/R3.", "/S3.", "root"),
        ("/F1.", "/F4294967296.", "floor"),
        ("GUESTBOOK", "GUEST.BOOK", "distro"),
        ("/F1.1234.", "/F1.", "floor"),
        ("/P", "/Q", "peer"),
        ("/PA", "/PC", "peer"),
    ] {
        assert_eq!(read(&resealed(&body.replacen(from, to, 1))), TicketError::Field { field }, "{from} -> {to}");
    }
    let (before, _) = body.split_once("/F").unwrap();
    assert_eq!(read(&resealed(before)), TicketError::Missing { field: "floor" });
}

proptest! {
    #[test]
    fn every_single_slip_is_noticed(at in 0usize..400, by in 1u8..36) {
        let mut line = anna().to_string().into_bytes();
        let at = at % line.len();
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        let old = alphabet.iter().position(|b| *b == line[at]).unwrap_or(0);
        let new = alphabet[(old + usize::from(by)) % 36];
        prop_assume!(new != line[at]);
        line[at] = new;
        prop_assert!(String::from_utf8(line).unwrap().parse::<Ticket>().is_err());
    }

    #[test]
    fn any_ticket_comes_back(publisher: [u8; 32], distro in proptest::option::of("[a-z0-9][a-z0-9-]{0,62}"), version: u64, root: [u8; 32],
        epoch: u32, seq: u64, hash: [u8; 32], conflict in proptest::option::of(any::<[u8; 32]>()), expires: Option<u64>, peers in proptest::collection::vec(("(/ip4/[0-9]{1,2}\\.0\\.0\\.1|/ip6/::[1-9a-f]|/dns4/[a-zA-Z.]{1,9})",
        "(/tcp/[1-9][0-9]{0,3}|/udp/[1-9][0-9]{0,3}/quic-v1|/tcp/080)", 0u8..3), 0..5)) {
        let addresses = peers.into_iter().map(|(host, port, peer)| match peer {
            0 => format!("{host}{port}"),
            peer => join(&format!("{host}{port}"), Peer([peer; 32])),
        }).collect();
        let mut ticket = Ticket { publisher: PublisherId(publisher), distro, root: (version, Digest(root)),
            floor: Head { at: Position { epoch, seq }, hash: Digest(hash) }, addresses,
            conflict: conflict.map(Digest), expires };
        let line = ticket.to_string();
        prop_assert!(line.len() <= limits::TICKET_CHARS);
        ticket.addresses = ticket.carried();
        prop_assert_eq!(line.parse(), Ok(ticket));
    }

    #[test]
    fn garbage_never_panics(text in "\\PC{0,80}", tail in "[A-Z2-7/.]{0,300}") {
        let _ = text.parse::<Ticket>();
        let _ = resealed(&format!("SOFTDIST:1/{tail}")).parse::<Ticket>();
    }
}
