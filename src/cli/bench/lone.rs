//! The least that a daemon on the store's engine can do for one producer: a thread that reads a line, puts its bytes into
//! sled as the store does, makes them durable and answers. It looks at nothing and finds nothing again, so nobody who
//! stores with that engine answers much sooner.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use super::producers::{Answers, Crew, Until, work};
use crate::store::sled::SledLimit;

const ANSWER: &[u8] = b"{\"status\":\"accepted\"}\n";

/// What one producer for `target` gets from such a daemon in `folder`.
///
/// # Errors
/// When something does not work at all.
pub async fn answers(folder: &Path, target: &'static str, until: Until) -> io::Result<Answers> {
    let (socket, store) = (folder.join("lone.sock"), folder.join("lone"));
    let sled = SledLimit::open(&store).map_err(io::Error::other)?;
    let listener = UnixListener::bind(&socket)?;
    let daemon = tokio::task::spawn_blocking(move || serve(listener.accept()?.0, sled));
    let crew = Crew {
        socket: socket.clone(),
        producers: 1,
        burst: 1,
        target,
    };
    let answers = work(crew, until).await?;
    daemon.await.map_err(io::Error::other)??;
    fs::remove_file(&socket)?;
    fs::remove_dir_all(&store)?;
    Ok(answers)
}

/// Answers line by line until the producer goes.
fn serve(producer: UnixStream, mut sled: SledLimit) -> io::Result<()> {
    let mut answers = producer.try_clone()?;
    let mut lines = BufReader::new(producer);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        sled.commit(line.len()).map_err(io::Error::other)?;
        answers.write_all(ANSWER)?;
        line.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_written_is_answered() {
        let folder = tempfile::tempdir().unwrap();
        let got = answers(folder.path(), "live", Until::Accepted(20)).await.unwrap();
        assert_eq!((got.accepted, got.waits_us.len()), (20, 20));
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            0,
            "it leaves nothing"
        );
    }
}
