//! `posthaste top`: the endpoints on a live screen, the one in most trouble first, with keys to pause, resume and
//! flush. What is on the screen, and what a key does, is decided in [`screen`]; here are the terminal and the daemon.

mod screen;

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use self::screen::{Screen, Wish};
use super::client::{Client, Connect, encoded};
use super::failure::{Done, Failure};
use crate::control::types::{EndpointRow, Moved, PauseRequest, Status};

/// Between two readings.
const REFRESH: Duration = Duration::from_secs(1);
/// Keys that wait to be taken; whoever types faster than that loses some.
const KEYS_MAX: usize = 64;

/// Arguments of `top`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  posthaste top
  posthaste top --socket /run/posthaste/control.sock

Keys: up and down choose, p pauses, r resumes, f flushes, q leaves")]
pub struct TopArgs {
    #[command(flatten)]
    connect: Connect,
}

/// Shows the screen until `q`.
///
/// # Errors
/// When there is no terminal, or the daemon can't be reached at the start; later that is said on the screen.
pub async fn run(args: TopArgs) -> Done {
    let client = args.connect.client()?;
    if args.connect.json || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(
            "top needs a terminal; for scripts and pipes there is: posthaste status --json, or: posthaste status \
             --watch"
                .to_owned(),
        ));
    }
    let first: Status = client.get("/v1/status").await?;
    let mut screen = Screen::default();
    screen.read(Ok(first));
    let mut terminal =
        ratatui::try_init().map_err(|error| Failure::Wrong(format!("the terminal won't: {error}")))?;
    let done = live(&client, &mut screen, &mut terminal).await;
    ratatui::restore();
    done
}

async fn live(client: &Client, screen: &mut Screen, terminal: &mut DefaultTerminal) -> Done {
    let mut keys = keys();
    let mut tick = tokio::time::interval(REFRESH);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        terminal
            .draw(|frame| screen.draw(frame))
            .map_err(|error| Failure::Wrong(format!("the terminal is gone: {error}")))?;
        tokio::select! {
            event = keys.recv() => match event {
                Some(Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. })) => {
                    match screen.press(code, modifiers) {
                        Some(Wish::Leave) => return Ok(()),
                        Some(wish) => {
                            let told = grant(client, wish).await;
                            screen.tell(told);
                            screen.read(client.get("/v1/status").await);
                        }
                        None => {}
                    }
                }
                // Another size: it is drawn anew.
                Some(_) => {}
                None => return Err(Failure::Wrong("the terminal is gone".to_owned())),
            },
            _ = tick.tick() => screen.read(client.get("/v1/status").await),
        }
    }
}

/// What is typed. The terminal is read in a thread of its own, which ends with the process: a read can't be called off.
fn keys() -> mpsc::Receiver<Event> {
    let (to, keys) = mpsc::channel(KEYS_MAX);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if to.blocking_send(event).is_err() {
                return;
            }
        }
    });
    keys
}

/// Does what was asked for, and says what came of it.
async fn grant(client: &Client, wish: Wish) -> Result<String, Failure> {
    let path = |name: &str, verb: &str| format!("/v1/endpoints/{}/{verb}", encoded(name));
    Ok(match wish {
        Wish::Leave => String::new(),
        Wish::Pause(name) => {
            let request = PauseRequest {
                reason: Some("from posthaste top".to_owned()),
                pause_for: None,
            };
            let row: EndpointRow = client.post(&path(&name, "pause"), &request).await?;
            format!("{name} is {}", row.state.name())
        }
        Wish::Resume(name) => {
            let row: EndpointRow = client
                .post(&path(&name, "resume"), &serde_json::json!({}))
                .await?;
            format!("{name} is {}", row.state.name())
        }
        Wish::Flush(name) => {
            let moved: Moved = client.post(&path(&name, "flush"), &serde_json::json!({})).await?;
            format!("{name}: {} due now", moved.deliveries)
        }
    })
}
