//! The bytes of one connection, both ways. A Unix socket is watched for bytes to read only: watched for room to write as
//! well, which is what tokio's own streams do, it would report every line that the other side takes, and both sides
//! would pay for news that nobody waits for. Refuses to know what the bytes mean.

use std::future::poll_fn;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Room for a read that was given none.
const ROOM_LEAST: usize = 4 << 10;

/// Something that is read and written in turns.
pub trait Wire {
    /// Appends what is there to `room`, at most its spare capacity, and waits for it if nothing is; returns how many
    /// bytes that were, 0 at the end. Given up half way, it has taken nothing.
    fn receive(&mut self, room: &mut Vec<u8>) -> impl Future<Output = io::Result<usize>> + Send;

    /// Writes all of `bytes`, and waits for room if there is none.
    fn send(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// Lets the other side know that nothing more is written.
    fn finish(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

/// Registers a socket for one kind of news.
#[expect(
    deprecated,
    reason = "its successor is unsafe, for the sake of types whose descriptor changes; that of a socket never does"
)]
fn watch(stream: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    AsyncFd::with_interest(stream, interest)
}

/// A Unix stream socket.
#[derive(Debug)]
pub struct Socket {
    watched: AsyncFd<UnixStream>,
}

impl Socket {
    /// Takes over a connection. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// When it can't be registered anew.
    pub fn new(stream: tokio::net::UnixStream) -> io::Result<Self> {
        let watched = watch(stream.into_std()?, Interest::READABLE)?;
        Ok(Self { watched })
    }

    /// Waits until there is room to write, by a registration that lasts so long.
    async fn writable(&self) -> io::Result<()> {
        let stream = self.watched.get_ref().try_clone()?;
        let room = watch(stream, Interest::WRITABLE)?;
        room.writable().await?.retain_ready();
        Ok(())
    }
}

impl Wire for Socket {
    async fn receive(&mut self, room: &mut Vec<u8>) -> io::Result<usize> {
        if room.len() == room.capacity() {
            room.reserve(ROOM_LEAST);
        }
        let wanted = room.capacity() - room.len();
        let watched = &self.watched;
        loop {
            let mut ready = poll_fn(|cx| watched.poll_read_ready(cx)).await?;
            let read = |socket: &AsyncFd<UnixStream>| {
                // Not `read`, which takes the long way through files to the same bytes.
                let received = recv(socket.get_ref(), spare_capacity(room), RecvFlags::empty())?;
                Ok(received.0)
            };
            match ready.try_io(read) {
                Ok(Ok(bytes)) => {
                    // Fewer than could be: nothing is left, and more will be reported. Saves asking once more.
                    if 0 < bytes && bytes < wanted {
                        ready.clear_ready();
                    }
                    return Ok(bytes);
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_nothing_there) => {}
            }
        }
    }

    async fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.watched.get_ref().write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.watched.get_ref().shutdown(Shutdown::Write)
    }
}

#[cfg(test)]
impl Wire for tokio::io::DuplexStream {
    async fn receive(&mut self, room: &mut Vec<u8>) -> io::Result<usize> {
        tokio::io::AsyncReadExt::read_buf(self, room).await
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        tokio::io::AsyncWriteExt::write_all(self, bytes).await
    }

    async fn finish(&mut self) -> io::Result<()> {
        tokio::io::AsyncWriteExt::shutdown(self).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// More than a socket's buffers take.
    const MUCH: usize = 4 << 20;

    fn pair() -> (Socket, tokio::net::UnixStream) {
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        (Socket::new(ours).unwrap(), theirs)
    }

    #[tokio::test]
    async fn what_is_there_is_read_as_far_as_there_is_room_until_the_end() {
        let (mut ours, mut theirs) = pair();
        let mut room = Vec::with_capacity(5);
        theirs.write_all(b"one and two").await.unwrap();
        assert_eq!(ours.receive(&mut room).await.unwrap(), 5);
        room.reserve_exact(100);
        assert_eq!(ours.receive(&mut room).await.unwrap(), 6);
        assert_eq!(room, b"one and two");
        let later = tokio::spawn(async move {
            let read = ours.receive(&mut room).await.unwrap();
            (read, ours.receive(&mut room).await.unwrap(), room)
        });
        tokio::task::yield_now().await;
        theirs.write_all(b"!").await.unwrap();
        theirs.shutdown().await.unwrap();
        assert_eq!(later.await.unwrap(), (1, 0, b"one and two!".to_vec()));
    }

    #[tokio::test]
    async fn a_full_socket_is_waited_for() {
        let (mut ours, mut theirs) = pair();
        let much: Vec<u8> = (0..MUCH).map(|n| (n % 251) as u8).collect();
        let expected = much.clone();
        let writing = tokio::spawn(async move {
            ours.send(&much).await.unwrap();
            ours.finish().await.unwrap();
        });
        tokio::task::yield_now().await;
        assert!(!writing.is_finished());
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).await.unwrap();
        assert!(read == expected);
        writing.await.unwrap();
    }

    #[tokio::test]
    async fn who_has_gone_is_an_error_and_no_signal() {
        let (mut ours, theirs) = pair();
        drop(theirs);
        assert_eq!(
            ours.send(b"x").await.unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }
}
