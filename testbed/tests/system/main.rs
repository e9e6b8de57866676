//! System tests: real daemons, real Knots, over the wire. One binary, a module a subject.

mod accounts;
mod alias;
mod api;
mod bench;
mod brakes;
mod certificate;
mod cli;
mod counts;
mod damage;
mod disk_full;
mod failover;
mod firewall;
mod geoip;
mod hostile;
mod ipv6;
mod kill;
mod notifications;
mod packaging;
mod peers;
mod pops;
mod private;
mod sessions;
mod steering;
mod steering_faults;
mod tour;
mod zone_files;
