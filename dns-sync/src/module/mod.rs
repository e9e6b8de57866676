//! The module in knotd, which decides what steered names are answered with: what it is told, and in which order.
//!
//! - [`zone`]: a zone as the module gets it.
//! - [`desk`]: what the module has and what it is being told; decides, and does no I/O.
//! - [`link`]: the connection to it.
//! - [`snapshot`]: the file that it starts with.
//!
//! Who drives knotd ([`crate::knot::driver`]) keeps the order of one change: the module prepares the new steering, knotd
//! commits the records (placeholders among them) under the serial that the module was told, the module is told that this has
//! come about.

pub mod desk;
pub mod link;
pub mod snapshot;
pub mod zone;
