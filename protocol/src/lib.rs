//! What devices say to each other, what publishers sign, and every decision of a node: no clock, no socket, no file.
//!
//! Reading order: [`io`] (the outside world as two enums), [`id`], [`codec`], [`sign`], [`root`], [`feed`],
//! [`release`] (made by [`definition`]), [`tree`] and [`chunk`], [`message`], then [`machine`].

pub mod address;
pub mod archive;
pub mod bitmap;
pub mod chunk;
pub mod codec;
pub mod definition;
pub mod feed;
pub mod id;
pub mod instance;
pub mod io;
pub mod limits;
pub mod machine;
pub mod message;
pub mod name;
pub mod path;
pub mod plan;
pub mod reference;
pub mod release;
pub mod root;
pub mod secrets;
pub mod sign;
pub mod text;
pub mod ticket;
pub mod time;
pub mod tree;
pub mod words;
