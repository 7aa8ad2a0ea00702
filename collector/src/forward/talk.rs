//! Which forwarded connections wait for an answer, so that `stop` can wait for it. The meaning of the bytes
//! is unknown here. So: after bytes of the client the application owes an answer, and an answer is over when
//! the application pauses. Called by `forward`.
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Pause of the application after which its answer counts as complete.
const ANSWER_PAUSE: Duration = Duration::from_millis(200);

/// The connections of one forward.
#[derive(Debug, Default)]
pub(super) struct Talks(Mutex<Vec<Weak<Talk>>>);

/// The state of one connection.
#[derive(Debug)]
struct Talk {
    /// Whether the client sent the last bytes.
    asked: AtomicBool,
    begin: Instant,
    /// When the application last sent bytes: milliseconds since `begin`, plus one; 0: never.
    answered: AtomicU64,
}

/// The client's side of a connection, with its activity recorded.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    talk: Arc<Talk>,
}

// === impl Talks ===

impl Talks {
    /// One more connection.
    pub(super) fn watch<S>(&self, stream: S) -> Watched<S> {
        let talk = Talk { asked: AtomicBool::new(false), begin: Instant::now(), answered: AtomicU64::new(0) };
        let talk = Arc::new(talk);
        let mut talks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        talks.retain(|other| other.strong_count() > 0);
        talks.push(Arc::downgrade(&talk));
        Watched { stream, talk }
    }

    /// Connections that wait for an answer, or for the rest of one.
    pub(super) fn waiting(&self) -> usize {
        let talks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        talks.iter().filter_map(Weak::upgrade).filter(|talk| talk.is_waiting()).count()
    }
}

// === impl Talk ===

impl Talk {
    fn is_waiting(&self) -> bool {
        let pause = || match self.answered.load(Ordering::Relaxed) {
            0 => Duration::MAX,
            answered => self.begin.elapsed().saturating_sub(Duration::from_millis(answered - 1)),
        };
        self.asked.load(Ordering::Relaxed) || pause() < ANSWER_PAUSE
    }

    fn answer(&self) {
        let since = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.answered.store(since + 1, Ordering::Relaxed);
        self.asked.store(false, Ordering::Relaxed);
    }
}

// === impl Watched ===

impl<S> Watched<S> {
    /// The stream itself.
    pub(super) fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = room.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, room))?;
        if room.filled().len() > before {
            this.talk.asked.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, bytes))?;
        this.talk.answer();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test(start_paused = true)]
    async fn who_asked_waits_until_the_answer_pauses() {
        let talks = Talks::default();
        let (mut client, ours) = duplex(64);
        let mut watched = talks.watch(ours);
        assert_eq!(talks.waiting(), 0, "nothing was asked");
        client.write_all(b"ask").await.unwrap();
        watched.read_exact(&mut [0; 3]).await.unwrap();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(talks.waiting(), 1, "the answer may take its time");
        watched.write_all(b"one").await.unwrap();
        assert_eq!(talks.waiting(), 1, "more may follow");
        tokio::time::advance(ANSWER_PAUSE).await;
        assert_eq!(talks.waiting(), 0);
        client.write_all(b"ask").await.unwrap();
        watched.read_exact(&mut [0; 3]).await.unwrap();
        assert_eq!(talks.waiting(), 1);
        drop(watched);
        assert_eq!(talks.waiting(), 0);
    }
}
