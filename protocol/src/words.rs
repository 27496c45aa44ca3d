//! Key words: a publisher's id as people can read it aloud. Invariant: the words of an id never change; eight of them say
//! its first 64 bits, so that nobody makes a second publisher with the same ones by trying.

use crate::id::PublisherId;

/// How many words are read.
pub const COUNT: usize = 8;

/// 256 words, one for each byte, told apart by their first four letters.
const WORDS: &str = "acid amber anchor angel apple apron arrow atlas attic autumn axis bacon badge bagel bamboo banjo barrel basket \
     beacon beaver bicycle birch bishop blanket bonus bottle breeze bridge broom bubble bucket buffalo butter cabin \
     cactus camel candle canoe canyon caramel carpet carrot castle cedar cellar cherry chimney cinema circus citrus \
     clover cobalt coconut comet copper coral cotton cradle crater cricket crystal curtain cypress dagger daisy \
     dancer dentist desert diamond dinner doctor dolphin domino donkey dragon drummer eagle echo eclipse elbow \
     elephant ember engine envelope escape fabric falcon farmer feather fender fiddle finger flannel flute fossil \
     fountain fox freckle galaxy garden garlic gazelle geyser giant ginger giraffe glacier glove goblin granite \
     gravel guitar hammer harbor harvest hazel helmet hermit hickory honey horizon hotel husky iceberg igloo indigo \
     insect island ivory jacket jaguar jasmine jelly jigsaw jockey jungle kangaroo kayak kernel kettle kitchen kiwi \
     ladder lagoon lantern laptop lava lemon lentil library lizard lobster locket lumber magnet mammoth mango maple \
     marble market meadow melon mercury meteor mineral mirror molecule monkey mosaic motor muffin museum napkin \
     nectar needle nickel noodle nutmeg oasis ocean octopus olive onion opera orange orchid otter oyster paddle \
     panda paper parrot pebble pencil pepper piano pickle pigeon pillow pirate planet plaza pocket polar pollen \
     pumpkin puzzle quartz quilt rabbit radar raven ribbon river robin rocket saddle salmon sandal satin scarf \
     shadow shovel silver singer spider sponge squirrel stadium sugar summit sunset swallow tailor tango teapot \
     temple tiger timber tomato tornado towel tractor trumpet tulip tunnel turtle umbrella velvet village violin \
     volcano waffle walnut walrus wizard";

/// The key words of a publisher, joined by hyphens.
pub fn of(publisher: PublisherId) -> String {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let said = publisher.0.iter().take(COUNT).filter_map(|byte| words.get(usize::from(*byte)).copied());
    said.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_byte_has_a_word_of_its_own() {
        let words: Vec<&str> = WORDS.split_whitespace().collect();
        assert_eq!(words.len(), 256);
        assert!(words.is_sorted() && words.iter().all(|w| w.bytes().all(|b| b.is_ascii_lowercase())));
        let heard: BTreeSet<&str> = words.iter().map(|w| w.get(..4).unwrap_or(w)).collect();
        assert_eq!(heard.len(), 256);
    }

    #[test]
    fn the_words_of_an_id_are_frozen() {
        let mut id = [0; 32];
        (id[1], id[6], id[7], id[8]) = (1, 254, 255, 77);
        assert_eq!(of(PublisherId(id)), "acid-amber-acid-acid-acid-acid-walrus-wizard");
    }
}
