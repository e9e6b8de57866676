//! Room for bodies: all requests together hold so many bytes of them, however many there are and whoever sends them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::encoding::{BodyError, PlainBody};

/// Of each body so much is not counted: there are no more of these than connections, and who sends little is never
/// turned away because others send much.
const FREE_BYTES: usize = 64 * 1024;

/// Bytes of bodies, decompressed, that are in memory.
pub(super) struct Bodies {
    bytes_max: usize,
    bytes: AtomicUsize,
}

impl Bodies {
    pub(super) fn new(bytes_max: usize) -> Arc<Bodies> {
        Arc::new(Bodies { bytes_max, bytes: AtomicUsize::new(0) })
    }

    /// The room of one request, until this is dropped.
    pub(super) fn of_request(self: &Arc<Bodies>) -> Arc<Room> {
        Arc::new(Room { bodies: Arc::clone(self), bytes: AtomicUsize::new(0) })
    }
}

/// What a request takes of it.
pub struct Room {
    bodies: Arc<Bodies>,
    bytes: AtomicUsize,
}

impl Room {
    /// Takes room for more bytes, if there is any.
    fn take(&self, bytes: usize) -> bool {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let more = self.counted(before + bytes) - self.counted(before);
        let all = self.bodies.bytes.fetch_add(more, Ordering::Relaxed) + more;
        more == 0 || all <= self.bodies.bytes_max
    }

    /// One request has half of the room at most: its own limit holds for it, and others are to have some too.
    fn counted(&self, bytes: usize) -> usize {
        bytes.saturating_sub(FREE_BYTES).min(self.bodies.bytes_max / 2)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let counted = self.counted(self.bytes.load(Ordering::Relaxed));
        self.bodies.bytes.fetch_sub(counted, Ordering::Relaxed);
    }
}

/// A body that takes room as it comes.
pub(super) struct Roomed {
    pub(super) body: PlainBody,
    pub(super) room: Arc<Room>,
}

impl Body for Roomed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let came = match &polled {
            Poll::Ready(Some(Ok(frame))) => frame.data_ref().map_or(0, Bytes::len),
            _ => 0,
        };
        if self.room.take(came) { polled } else { Poll::Ready(Some(Err(BodyError::NoRoom))) }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_so_much_together_and_each_a_little() {
        let bodies = Bodies::new(100);
        let (a, b, c) = (bodies.of_request(), bodies.of_request(), bodies.of_request());
        assert!([&a, &b, &c].iter().all(|room| room.take(FREE_BYTES)));
        // One alone has half, however much it is.
        assert!(a.take(1_000) && a.take(1_000));
        assert!(b.take(30) && c.take(20) && !c.take(1));
        assert!(bodies.of_request().take(FREE_BYTES));
        drop(b);
        assert!(c.take(1));
        drop((a, c));
        assert_eq!(bodies.bytes.load(Ordering::Relaxed), 0);
    }
}
