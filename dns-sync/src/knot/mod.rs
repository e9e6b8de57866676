//! Driving Knot DNS: its configuration, its process, and what it serves.
//!
//! - [`config`]: the configuration file and the folders.
//! - [`process`]: starts knotd and starts it again, never but from files that were just written.
//! - [`driver`]: applies changes of zones to a running knotd.
//! - [`placeholder`]: what it has of content with steering.
//! - [`ctl`], [`probe`], [`zonefile`], [`catalog`], [`text`]: what these speak and write.
//!
//! What knotd really does, where its manual is silent, is in `KNOT-NOTES.md` beside this crate.

pub mod catalog;
pub mod config;
pub mod ctl;
pub mod driver;
pub mod placeholder;
pub mod probe;
pub mod process;
pub mod text;
pub mod zonefile;

#[cfg(test)]
mod tests;
