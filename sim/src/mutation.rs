//! Faults put in on purpose, each of which the simulation has to report: what finds nothing when something is wrong is no test.

use clap::ValueEnum;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mutation {
    /// The log's last entry, which somebody was told of, is gone when the control plane is killed
    ForgottenEntry,
    /// The replica's last transactions, which may have been confirmed, are gone when the agent is killed
    ForgottenTransaction,
    /// The agent is told that knotd answers a zone before that is so
    EarlyReceipt,
    /// knotd goes on with RRsets that a delta deletes
    KeptRrset,
    /// knotd says that it has loaded a zone, and goes on with an older one
    OlderContent,
    /// Frames are lost on their way to a PoP, and pings don't say what it should hold
    UnnoticedLoss,
}
