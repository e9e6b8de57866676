//! System tests: real daemons, real Knots, over the wire. One binary, a module a subject.

mod accounts;
mod api;
mod cli;
mod peers;
