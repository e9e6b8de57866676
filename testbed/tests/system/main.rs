//! System tests: real daemons, real Knots, over the wire. One binary, a module a subject.

mod peers;
