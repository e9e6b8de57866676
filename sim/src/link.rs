//! Connections: each direction is a stream of bytes that comes late, in pieces, and may end at any byte.
//!
//! A frame may be lost on its way to a PoP while the connection stands, and in a hostile run frames of both directions are lost,
//! come twice and change places all the time, which TCP never does: then nothing that is wrong may be accepted, and what is lost
//! has to be found.

use crate::random::Random;

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From the control plane.
    ToPop,
    /// To the control plane.
    ToHerald,
}

/// A connection.
pub struct Link {
    /// Index of the PoP.
    pub pop: usize,
    /// Of which life of the PoP.
    pub pop_life: u64,
    pipes: [Pipe; 2],
    latency_us: u64,
    /// Whether frames are lost, repeated and reordered.
    pub is_hostile: bool,
}

#[derive(Default)]
struct Pipe {
    /// When the last bytes arrive that were sent: what follows can't come before.
    last_at: u64,
    /// From when on nothing arrives.
    dead_at: Option<u64>,
    is_dead: bool,
    /// What arrived and is no whole frame yet.
    buffer: Vec<u8>,
    /// A frame that is to come after the next one.
    held: Option<Vec<u8>>,
    /// What comes again later.
    repeated: Option<Vec<u8>>,
    /// Whether the next frame is lost.
    loses_one: bool,
}

impl Link {
    /// A connection of a PoP in one of its lives.
    pub fn new(pop: usize, pop_life: u64, latency_us: u64) -> Link {
        Link { pop, pop_life, pipes: Default::default(), latency_us, is_hostile: false }
    }

    fn pipe(&mut self, way: Way) -> &mut Pipe {
        &mut self.pipes[way as usize]
    }

    /// Bytes of whole frames are sent: the pieces, and when they arrive.
    pub fn send(
        &mut self,
        way: Way,
        bytes: Vec<u8>,
        now_us: u64,
        random: &mut Random,
    ) -> Vec<(u64, Vec<u8>)> {
        let mut bytes = if self.is_hostile { self.mangle(way, &bytes, random) } else { bytes };
        if std::mem::take(&mut self.pipe(way).loses_one)
            && let Some(header) = bytes.first_chunk::<4>()
        {
            bytes.drain(..4 + u32::from_be_bytes(*header) as usize);
        }
        if bytes.is_empty() || self.pipe(way).dead_at.is_some() {
            return Vec::new();
        }
        let mut pieces = vec![bytes];
        if random.permille(200) {
            let at = random.below(pieces[0].len() as u64) as usize;
            let rest = pieces[0].split_off(at);
            pieces.push(rest);
        }
        let (least, most) = (self.latency_us, self.latency_us * 3 / 2 + 500);
        let pipe = self.pipe(way);
        let mut at = pipe.last_at;
        let mut arrivals = Vec::new();
        for piece in pieces {
            at = at.max(now_us + random.between(least, most));
            arrivals.push((at, piece));
        }
        pipe.last_at = at;
        arrivals
    }

    fn mangle(&mut self, way: Way, bytes: &[u8], random: &mut Random) -> Vec<u8> {
        let pipe = self.pipe(way);
        let mut out = Vec::new();
        // All that was sent at once comes again much later: whole zones of old, say.
        match &pipe.repeated {
            None if random.permille(50) => pipe.repeated = Some(bytes.to_vec()),
            Some(_) if random.permille(50) => out.extend(pipe.repeated.take().unwrap_or_default()),
            _ => {}
        }
        let mut rest = bytes;
        while let Some(header) = rest.first_chunk::<4>() {
            let (frame, after) = rest.split_at(4 + u32::from_be_bytes(*header) as usize);
            rest = after;
            match random.below(100) {
                0..4 => {}
                4..7 => out.extend_from_slice(&[frame, frame].concat()),
                7..10 if pipe.held.is_none() => {
                    pipe.held = Some(frame.to_vec());
                    continue;
                }
                _ => out.extend_from_slice(frame),
            }
            if let Some(held) = pipe.held.take() {
                out.extend_from_slice(&held);
            }
        }
        out
    }

    /// The next frame of this direction is lost, and nobody notices.
    pub fn lose_one(&mut self, way: Way) {
        self.pipe(way).loses_one = true;
    }

    /// The connection breaks: in each direction nothing arrives from some moment on.
    pub fn break_down(&mut self, now_us: u64, random: &mut Random) {
        for pipe in &mut self.pipes {
            let after = random.between(0, 2 * self.latency_us);
            pipe.dead_at.get_or_insert(now_us + after);
        }
    }

    /// One side closes it: what is on its way still arrives. Gives when the other side knows.
    pub fn close(&mut self, from: Way, now_us: u64) -> u64 {
        let latency_us = self.latency_us;
        let pipe = self.pipe(from);
        pipe.last_at = pipe.last_at.max(now_us + latency_us);
        pipe.last_at
    }

    /// Bytes arrive; gives what is there of that direction, to be cut into frames.
    pub fn arrive(
        &mut self,
        way: Way,
        bytes: &[u8],
        now_us: u64,
        random: &mut Random,
    ) -> Option<&mut Vec<u8>> {
        let pipe = self.pipe(way);
        if pipe.is_dead {
            return None;
        }
        let mut count = bytes.len();
        if pipe.dead_at.is_some_and(|dead_at| dead_at <= now_us) {
            pipe.is_dead = true;
            count = random.below(bytes.len() as u64 + 1) as usize;
        }
        pipe.buffer.extend_from_slice(&bytes[..count]);
        Some(&mut pipe.buffer)
    }
}
