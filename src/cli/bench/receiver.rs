//! The receiver of what is delivered and of what the limits send: a process of its own, so that it takes its share
//! of the processors as in life. It only counts.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::cli::receive::behaviour::Behaviour;
use crate::cli::receive::server::{Options, Receiver};

/// What the child does: prints its address, then the count of requests for every line it reads; ends with its input.
///
/// # Errors
/// When no port can be had.
pub async fn be() -> io::Result<()> {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let options = Options {
        otherwise: Behaviour::Status(200),
        keep: 0,
    };
    let receiver = Receiver::bind(any_port, options).await?;
    println!("{}", receiver.addr());
    tokio::task::spawn_blocking(move || {
        for line in io::stdin().lock().lines() {
            line?;
            println!("{}", receiver.counts().requests);
        }
        Ok(())
    })
    .await
    .map_err(io::Error::other)?
}

/// The running child.
#[derive(Debug)]
pub struct Counter {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Counter {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bench", "--be-receiver"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(questions), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the receiver has no pipes"));
        };
        let mut answers = BufReader::new(answers);
        let address = answer(&mut answers)?;
        Ok(Self {
            child,
            questions,
            answers,
            address,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests so far. Takes some microseconds.
    ///
    /// # Errors
    /// When it is gone.
    pub fn count(&mut self) -> io::Result<u64> {
        self.questions.write_all(b"\n")?;
        answer(&mut self.answers)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        // It would end with its input as well; waiting for that leaves no process behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer<T: std::str::FromStr>(from: &mut impl BufRead) -> io::Result<T> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    line.trim()
        .parse()
        .map_err(|_| io::Error::other(format!("the receiver answered {line:?}")))
}
