//! Real processes, real sockets, real services. One file a story; each cleans up behind itself.

mod asked;
mod backup;
mod care;
mod company;
mod crash;
mod debian;
mod demo;
mod drill;
mod escape;
mod full;
mod guestbook;
mod lan;
mod lineage;
mod link;
mod postgres;
mod power;
mod quota;
mod reduced;
mod revoked;
mod stop;
mod survival;
mod tongues;
mod trials;
mod units;
mod upgrade;
mod webapp;
