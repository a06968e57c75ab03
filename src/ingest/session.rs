//! One connection: reads what is there, takes every complete line in it, waits for their one commit, writes
//! their answers with one write, and only then reads on. So what a connection holds is one buffer of lines
//! and one turn's answers, whatever its producer does, and a producer that never reads stops only itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::build::Sender;
use super::intake::{Counters, Intake};
use super::lines::LineBuffer;
use super::turn::Desk;

/// How long a connection stays open when the daemon stops, so that lines which were already on their way
/// are refused with `shutting_down` rather than not answered at all.
const FAREWELL: Duration = Duration::from_millis(250);
/// How long answers may take to be read when the daemon stops; the commit they wait for is included.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Serves one connection until its producer has closed its writing side and has got every answer, until
/// it breaks, or until `stop` and a bounded time after it.
pub async fn run<S>(stream: S, sender: Sender, intake: Arc<Intake>, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let given_up = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        () = serve(stream, sender, intake, &stop) => {}
        () = given_up => tracing::info!("a producer did not read its last answers while the daemon stopped"),
    }
}

async fn serve<S>(mut stream: S, sender: Sender, intake: Arc<Intake>, stop: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut lines = LineBuffer::new(intake.limits);
    let mut desk = Desk::new(Arc::clone(&intake), sender);
    let mut answers = Vec::new();
    loop {
        let turn = desk.turn(&mut lines);
        if turn.is_empty() {
            match read(&mut stream, &mut lines, stop).await {
                Read::Bytes(bytes) => Counters::add(&intake.counters.bytes, bytes as u64),
                Read::End if lines.is_ended() => break,
                Read::End => lines.end(),
                Read::Broken => return,
            }
            continue;
        }
        answers.clear();
        if let Err(error) = desk.answer(turn, &mut answers).await {
            // No answer says "not known", which is all that can be said.
            tracing::warn!(%error, "a producer's connection is closed without answers");
            return;
        }
        if stream.write_all(&answers).await.is_err() {
            return;
        }
    }
    // The producer may have gone without waiting for the end of our side.
    let _ = stream.shutdown().await;
}

enum Read {
    Bytes(usize),
    End,
    Broken,
}

/// Reads what is there; once the daemon stops, only what comes within a short time.
async fn read<S>(stream: &mut S, lines: &mut LineBuffer, stop: &CancellationToken) -> Read
where
    S: AsyncRead + Unpin,
{
    if lines.is_ended() {
        return Read::End;
    }
    let farewell = async {
        stop.cancelled().await;
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        biased;
        read = stream.read_buf(lines.room()) => match read {
            Ok(0) => Read::End,
            Ok(bytes) => Read::Bytes(bytes),
            Err(_) => Read::Broken,
        },
        () = farewell => Read::End,
    }
}
