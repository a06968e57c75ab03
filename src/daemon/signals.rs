//! Signals become messages. HUP reloads, TERM and INT stop, and a second TERM or INT ends the process at
//! once, which is safe: whatever was answered is on disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use tokio::sync::mpsc;

/// Exit status of a stop that was not waited for: 128 plus SIGTERM, as a shell would say it.
const HURRIED: i32 = 128 + SIGTERM;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Read the configuration again.
    Reload {
        /// Whose process sent the signal; `None`: the kernel does not say.
        uid: Option<u32>,
    },
    /// Stop.
    Stop,
}

/// Starts listening; the wishes come out of the receiver.
///
/// # Errors
/// When the handlers can't be installed or the operating system gives no thread.
pub fn listen() -> io::Result<mpsc::UnboundedReceiver<Wish>> {
    let stopping = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // Installed before the one that sets the flag, so that only the second signal finds it set.
        signal_hook::flag::register_conditional_shutdown(signal, HURRIED, Arc::clone(&stopping))?;
        signal_hook::flag::register(signal, Arc::clone(&stopping))?;
    }
    let mut signals = SignalsInfo::<WithOrigin>::new([SIGHUP, SIGTERM, SIGINT])?;
    let (wishes, receiver) = mpsc::unbounded_channel();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for origin in signals.forever() {
                let wish = if origin.signal == SIGHUP {
                    let uid = origin.process.map(|process| process.uid);
                    Wish::Reload { uid }
                } else {
                    Wish::Stop
                };
                if wishes.send(wish).is_err() {
                    return;
                }
            }
        })?;
    Ok(receiver)
}
