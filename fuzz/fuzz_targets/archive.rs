//! Backups: whatever is read to its end is a walk below its own parts and is written again to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softservice_protocol::archive::{Item, Reader, Writer};

fuzz_target!(|bytes: &[u8]| {
    let (mut reader, mut rest, mut items) = (Reader::new(), bytes, Vec::new());
    while reader.wants() > 0 {
        let Some((next, after)) = rest.split_at_checked(reader.wants()) else { return };
        rest = after;
        match reader.take(next) {
            Ok(item) => items.extend(item),
            Err(_) => return,
        }
    }
    let mut items = items.into_iter();
    let Some(Item::Header(header)) = items.next() else { panic!("an archive without a header") };
    let (mut writer, mut again) = Writer::begin(header).expect("what is read is written");
    let mut ended = Vec::new();
    for item in items {
        let frame = match item {
            Item::Header(_) => panic!("a second header"),
            Item::Entry(entry) => {
                assert!(!entry.path.split(|b| *b == b'/').any(|c| c == b".." || c == b"."));
                assert!(!entry.path.starts_with(b"/"));
                writer.entry(entry)
            }
            Item::Data(piece) => writer.data(&piece),
            Item::Hole(length) => writer.hole(length),
            Item::Whole(_) => writer.end_file(),
            Item::End => {
                ended = writer.end().expect("what is read is written");
                break;
            }
        };
        again.extend(frame.expect("what is read is written"));
    }
    again.extend(ended);
    assert_eq!(again, bytes.get(..bytes.len() - rest.len()).unwrap_or_default(), "an archive has two spellings");
});
