//! Read buffers that exist only while they hold bytes.
//!
//! Owns: a small pool of buffers per thread and [`ReadBuffer`], which takes one just before a read
//! and gives it back when there was nothing to read. An idle connection therefore holds none.
use crate::limits::{BODY_BUFFER_BYTES, HEAD_BUFFER_BYTES, POOLED_BUFFERS};
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// How much is expected to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// A head or a short body.
    Little,
    /// A long body.
    Much,
}

/// Bytes read from a stream and not yet used.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    /// Empty (and not allocated) while nothing is held.
    bytes: Box<[u8]>,
    /// First byte not yet used.
    start: usize,
    /// End of the bytes read.
    end: usize,
}

#[derive(Default)]
struct Pool {
    small: Vec<Box<[u8]>>,
    large: Vec<Box<[u8]>>,
    heads: Vec<Vec<u8>>,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// An empty vector to write a head into. See [`give_head`].
pub(crate) fn take_head() -> Vec<u8> {
    POOL.with_borrow_mut(|pool| pool.heads.pop()).unwrap_or_else(|| Vec::with_capacity(2048))
}

/// Gives a vector of [`take_head`] back.
pub(crate) fn give_head(mut head: Vec<u8>) {
    if head.capacity() > 0 && head.capacity() <= HEAD_BUFFER_BYTES {
        head.clear();
        POOL.with_borrow_mut(|pool| {
            if pool.heads.len() < POOLED_BUFFERS {
                pool.heads.push(head);
            }
        });
    }
}

// === impl Expect ===

impl Expect {
    /// What `bytes` to come call for.
    pub(crate) fn of(bytes: u64) -> Self {
        if usize::try_from(bytes).is_ok_and(|bytes| bytes <= HEAD_BUFFER_BYTES) {
            Self::Little
        } else {
            Self::Much
        }
    }

    fn size(self) -> usize {
        match self {
            Self::Little => HEAD_BUFFER_BYTES,
            Self::Much => BODY_BUFFER_BYTES,
        }
    }
}

// === impl Pool ===

impl Pool {
    fn take(&mut self, expect: Expect) -> Box<[u8]> {
        let shelf = if expect == Expect::Little { &mut self.small } else { &mut self.large };
        shelf.pop().unwrap_or_else(|| vec![0; expect.size()].into_boxed_slice())
    }

    fn give(&mut self, bytes: Box<[u8]>) {
        let shelf = match bytes.len() {
            HEAD_BUFFER_BYTES => &mut self.small,
            BODY_BUFFER_BYTES => &mut self.large,
            _ => return,
        };
        if shelf.len() < POOLED_BUFFERS {
            shelf.push(bytes);
        }
    }
}

// === impl ReadBuffer ===

impl ReadBuffer {
    /// The bytes not yet used.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Marks the first `count` bytes as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Gives the memory back when nothing is left in it.
    pub(crate) fn release(&mut self) {
        if self.is_empty() && !self.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            POOL.with_borrow_mut(|pool| pool.give(bytes));
        }
    }

    /// Reads once behind the bytes held; 0 is the end of the stream. Makes room when there is none.
    /// While it waits and holds nothing, it owns no memory.
    pub(crate) fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut (impl AsyncRead + Unpin),
        expect: Expect,
    ) -> Poll<io::Result<usize>> {
        self.make_room(expect);
        let mut room = ReadBuf::new(&mut self.bytes[self.end..]);
        let result = Pin::new(stream).poll_read(context, &mut room);
        let count = room.filled().len();
        self.end += count;
        if self.is_empty() {
            self.release();
        }
        ready!(result)?;
        Poll::Ready(Ok(count))
    }

    /// Lets `fill` write up to `most` bytes behind those held, and returns how many it wrote. While it holds nothing,
    /// it owns no memory.
    pub(crate) fn fill_with(
        &mut self,
        most: usize,
        fill: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.make_room(Expect::of(most as u64));
        let end = self.bytes.len().min(self.end + most);
        let filled = fill(&mut self.bytes[self.end..end]);
        self.end += filled.as_ref().copied().unwrap_or(0);
        if self.is_empty() {
            self.release();
        }
        filled
    }

    /// Forgets all but the first `count` bytes.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.end = self.end.min(self.start + count);
    }

    fn make_room(&mut self, expect: Expect) {
        if self.is_empty() && self.bytes.len() < expect.size() {
            self.release();
            self.bytes = POOL.with_borrow_mut(|pool| pool.take(expect));
        }
        if self.end < self.bytes.len() {
            return;
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
        } else {
            let mut larger = vec![0; (self.bytes.len() * 2).max(HEAD_BUFFER_BYTES)].into_boxed_slice();
            larger[..self.end].copy_from_slice(&self.bytes[..self.end]);
            self.bytes = larger;
        }
        self.end -= self.start;
        self.start = 0;
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if !bytes.is_empty() {
            // The thread's pool may be gone already while the thread ends; then the memory is freed.
            let _ = POOL.try_with(|pool| {
                if let Ok(mut pool) = pool.try_borrow_mut() {
                    pool.give(bytes);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    #[test]
    fn holds_no_memory_while_empty() {
        let mut buffer = ReadBuffer::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut source: &[u8] = b"hello";
        assert!(matches!(buffer.poll_fill(&mut context, &mut source, Expect::Little), Poll::Ready(Ok(5))));
        buffer.consume(2);
        assert_eq!(buffer.filled(), b"llo");
        buffer.consume(3);
        assert!(matches!(buffer.poll_fill(&mut context, &mut source, Expect::Little), Poll::Ready(Ok(0))));
        assert!(buffer.bytes.is_empty());
    }

    #[test]
    fn grows_and_keeps_what_it_holds() {
        let mut buffer = ReadBuffer::default();
        let mut context = Context::from_waker(Waker::noop());
        let bytes: Vec<u8> = (0..100_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let mut source = bytes.as_slice();
        while !matches!(buffer.poll_fill(&mut context, &mut source, Expect::Little), Poll::Ready(Ok(0))) {}
        assert_eq!(buffer.filled(), bytes);
    }
}
