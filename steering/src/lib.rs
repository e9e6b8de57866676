//! Steering: which answer a client gets. The same code decides in knotd's query path, in the API's `explain` and in tests.
//!
//! Pure: a random draw, the client and the facts about its address come in; nothing here does I/O, reads a clock or spawns.

pub mod geo;
pub mod link;
