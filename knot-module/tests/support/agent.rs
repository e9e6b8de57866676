//! What an agent would say.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use herald_core::Generation;
use steering::link::{SNAPSHOT_MAGIC, ToAgent, ToModule, decode_frame, encode_frame};

use super::{Knot, TestZone, WITHIN};

/// A connection with the module.
pub struct Agent {
    stream: UnixStream,
    read: Vec<u8>,
    pub hello: ToAgent,
}

impl Agent {
    pub fn connect(socket: &Path, knot: &Knot) -> Agent {
        let mut stream = None;
        knot.wait("the module to listen", || {
            stream = UnixStream::connect(socket).ok();
            stream.is_some()
        });
        let stream = stream.unwrap();
        stream.set_read_timeout(Some(WITHIN)).unwrap();
        let mut agent = Agent { stream, read: Vec::new(), hello: ToAgent::Status(Default::default()) };
        agent.hello = agent.receive();
        agent
    }

    /// Says it, without waiting for an answer.
    pub fn say(&mut self, message: &ToModule) {
        let mut frame = Vec::new();
        encode_frame(message, &mut frame);
        self.stream.write_all(&frame).unwrap();
    }

    pub fn say_octets(&mut self, octets: &[u8]) {
        // Whoever is left in the midst can't write to the end.
        let _ = self.stream.write_all(octets);
    }

    pub fn receive(&mut self) -> ToAgent {
        loop {
            if let Some((bytes, message)) = decode_frame(&self.read).unwrap() {
                self.read.drain(..bytes);
                return message;
            }
            let mut octets = [0; 65_536];
            let bytes = self.stream.read(&mut octets).expect("an answer of the module");
            assert!(bytes > 0, "the module closed the connection");
            self.read.extend_from_slice(&octets[..bytes]);
        }
    }

    /// What it says next within this time.
    pub fn try_receive(&mut self, within: std::time::Duration) -> Option<ToAgent> {
        let until = std::time::Instant::now() + within;
        loop {
            if let Some((bytes, message)) = decode_frame(&self.read).unwrap() {
                self.read.drain(..bytes);
                return Some(message);
            }
            let left = until.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return None;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut octets = [0; 65_536];
            match self.stream.read(&mut octets) {
                Ok(0) => return None,
                Ok(bytes) => self.read.extend_from_slice(&octets[..bytes]),
                Err(_) => return None,
            }
        }
    }

    /// Whether the module closes the connection.
    pub fn is_left(&mut self) -> bool {
        let mut octets = [0; 65_536];
        loop {
            match self.stream.read(&mut octets) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }

    /// Tells of a zone as it is, and waits until it is prepared.
    pub fn prepare(&mut self, zone: &TestZone) {
        for message in zone.messages() {
            self.say(&message);
        }
        let prepared = self.receive();
        assert_eq!(prepared, ToAgent::Prepared { zone: zone.id, generation: zone.generation() });
    }

    pub fn settle(&mut self, zone: &TestZone) {
        self.say(&ToModule::Settle { zone: zone.id, generation: zone.generation() });
    }

    /// Tells of a zone whose records knotd has already.
    pub fn put(&mut self, zone: &TestZone) {
        self.prepare(zone);
        self.settle(zone);
        self.synchronize();
    }

    /// Waits until all that was said has come to pass; what else is told meanwhile is `other`'s.
    pub fn synchronize_past(&mut self, mut other: impl FnMut(ToAgent)) -> steering::link::ModuleStatus {
        self.say(&ToModule::Ask);
        loop {
            match self.receive() {
                ToAgent::Status(status) => return status,
                message => other(message),
            }
        }
    }

    /// Waits until all that was said has come to pass.
    pub fn synchronize(&mut self) -> steering::link::ModuleStatus {
        self.say(&ToModule::Ask);
        match self.receive() {
            ToAgent::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }
}

/// A snapshot of these zones, as the agent writes it.
pub fn snapshot(zones: &[&TestZone]) -> Vec<u8> {
    let mut octets = SNAPSHOT_MAGIC.to_vec();
    for zone in zones {
        for message in zone.messages() {
            encode_frame(&message, &mut octets);
        }
    }
    encode_frame(&ToModule::SnapshotEnd, &mut octets);
    octets
}

pub fn generation(counter: u32) -> Generation {
    Generation { epoch: 1, counter: counter.into() }
}
