//! Puts the rooms together: start order and stop order, top to bottom.

pub mod activation;
pub mod adopt;
pub mod alerts;
pub mod clock;
pub mod dispatcher;
pub mod job;
pub mod live;
pub mod managed;
mod memory;
pub mod notify;
pub mod operator;
pub mod runners;
pub mod signals;
pub mod sockets;
pub mod traces;
pub mod trial;

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config, ControlConfig, Loaded, Problems};
use crate::control;
use crate::control::doors::{Door, Peer};
use crate::control::guard;
use crate::control::operator::Operator as _;
use crate::domain::access::Credentials;
use crate::ingest::listener;
use crate::ingest::spool::Spool;
use crate::observe::log;
use crate::scheduler::SchedulerConfig;
use crate::store::StoreError;
use crate::store::committer::{Committer, Notice, Queue, Upkeep};
use crate::store::sled::{OpenError, OpenOptions, SledStore};

use self::activation::Handed;
use self::clock::Clock;
use self::dispatcher::Dispatcher;
use self::operator::Daemon;
use self::signals::Wish;
use self::traces::Traces;

/// Commits that the dispatcher may be behind; past it the committer waits for it, and producers with it.
const NOTICES_MAX: usize = 64;
/// How long sessions get, when the daemon stops, to answer what they have read.
const ANSWER_BOUND: Duration = Duration::from_secs(6);
/// How long the last spans get.
const TRACES_BOUND: Duration = Duration::from_secs(2);
/// How long operators' requests get at the very end.
const CONTROL_BOUND: Duration = Duration::from_secs(1);
/// After how many tasks a worker asks again which sockets have something; tokio's own choice is 61. Asking more often
/// finds answers of endpoints sooner, so fewer places on the wire stand empty; still more often costs more than it finds.
const TASKS_BETWEEN_LOOKS: u32 = 16;

/// What `posthaste run` was told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// When the store will not open: set it aside and start with an empty one.
    pub start_empty: bool,
}

/// Why the daemon did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration has problems.
    #[error("{0}")]
    Config(Problems),
    /// Logging can't start.
    #[error("{0}")]
    Log(String),
    /// The store does not open.
    #[error("{0}")]
    Store(OpenError),
    /// A socket can't be had.
    #[error("{0}")]
    Socket(String),
    /// An endpoint, or the receiver of traces, can't be prepared.
    #[error("{}", .0.join("\n"))]
    Endpoints(Vec<String>),
    /// The operating system refuses something else.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// The store failed while running.
    #[error("{0}; nothing was accepted or delivered since")]
    Failed(StoreError),
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// [`DaemonError`]; whatever was answered before is on disk.
pub fn run(options: &Options) -> Result<(), DaemonError> {
    // Before all else. Huge pages would be filled by a few small allocations each: they made up two thirds of an idle
    // daemon's memory (measured). A kernel without the switch only costs that memory. The allocator's first pages are older
    // than this line: its feature `no_thp` keeps it from asking for huge ones.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    memory::be_frugal();
    let loaded = config::load(&options.config).map_err(DaemonError::Config)?;
    log::start(&loaded.config.log).map_err(DaemonError::Log)?;
    let handed = Handed::from_env();
    let wishes = signals::listen()?;
    let clock = Clock::start();
    let store = SledStore::open(
        &loaded.config.store,
        OpenOptions {
            start_empty: options.start_empty,
            check_only: false,
        },
    )
    .map_err(DaemonError::Store)?;
    let (told, notices) = mpsc::channel(NOTICES_MAX);
    let upkeep = Upkeep {
        dead_keep: loaded.config.store.dead_keep,
        at_rest: memory::give_back,
    };
    let (committer, queue) = Committer::start(Arc::new(store), Arc::new(Clock::wall), upkeep, told)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .event_interval(TASKS_BETWEEN_LOOKS)
        .build()?;
    let start = Start {
        loaded,
        queue,
        clock,
        notices,
        handed,
    };
    let result = runtime.block_on(serve(start, wishes));
    // Whatever still runs here has been waited for as long as it may be; its deliveries are pending.
    runtime.shutdown_timeout(Duration::from_millis(200));
    committer.stop();
    result
}

/// What the daemon is started with, once its store is open.
struct Start {
    loaded: Loaded,
    queue: Queue,
    clock: Clock,
    notices: mpsc::Receiver<Vec<Notice>>,
    handed: Handed,
}

/// Everything between the store's opening and its closing.
async fn serve(start: Start, mut wishes: mpsc::UnboundedReceiver<Wish>) -> Result<(), DaemonError> {
    let Start {
        loaded,
        queue,
        clock,
        notices,
        mut handed,
    } = start;
    let config = Arc::new(loaded.config);
    let bounds = SchedulerConfig {
        in_flight_max: config.limits.in_flight_max,
        batch_bytes_max: config.limits.batch_bytes_max,
        ..SchedulerConfig::default()
    };
    let (dispatcher, handle) = Dispatcher::new(bounds, queue.clone(), clock, notices);
    let mut dispatching = tokio::spawn(dispatcher.run());
    let traces = Traces::start(&config).map_err(|problem| DaemonError::Endpoints(vec![problem]))?;
    let daemon = Daemon::start(
        loaded.texts,
        Arc::clone(&config),
        queue,
        handle,
        clock,
        traces.clone(),
    )
    .await
    .map_err(DaemonError::Endpoints)?;
    loaded
        .warnings
        .iter()
        .for_each(|warning| tracing::warn!("{warning}"));
    // Only who checks a configuration renders them; what is left here would stay as long as the daemon.
    drop(loaded.noted);

    let doors = Doors::open(&daemon, &config, &mut handed)?;
    announce(&daemon, &config);
    tokio::spawn(alerts::watch(Arc::clone(&daemon)));
    let watched = Arc::clone(&daemon);
    tokio::spawn(notify::watchdog(move || {
        let watched = Arc::clone(&watched);
        async move { watched.makes_progress().await }
    }));
    let result = tokio::select! {
        result = until_told_to_stop(&daemon, &mut wishes) => result,
        // The committer outlives the dispatcher unless one of the two has failed.
        _ = &mut dispatching => Err(DaemonError::Failed(StoreError::Failed("the dispatcher broke off, which is a bug".to_owned()))),
    };

    notify::stopping("no more events are taken; requests under way end");
    tracing::info!("stopping: no more events are taken");
    let control = doors.close_entrance(&daemon).await;
    if result.is_ok()
        && tokio::time::timeout(config.limits.shutdown, daemon.dispatcher().drain())
            .await
            .is_err()
    {
        tracing::warn!("requests were still under way when limits.shutdown ended; they will be repeated");
    }
    if let Some(traces) = traces {
        let _ = tokio::time::timeout(TRACES_BOUND, traces.close()).await;
    }
    control.close().await;
    result
}

/// The sockets that are served.
struct Doors {
    entrance: CancellationToken,
    intake: oneshot::Receiver<()>,
    spool: Option<JoinHandle<()>>,
    control: ControlDoor,
}

/// The operators' socket; open until the end, so that a stop can be watched.
struct ControlDoor {
    stop: CancellationToken,
    servers: Vec<JoinHandle<()>>,
    ours: Option<PathBuf>,
}

impl Doors {
    /// Operators first, so that whoever sees the producers' socket can ask how things are.
    fn open(daemon: &Arc<Daemon>, config: &Config, handed: &mut Handed) -> Result<Self, DaemonError> {
        let section = &config.control;
        let door = socket("control", handed, &section.socket, section.mode, &section.group)?;
        let listener = tokio::net::UnixListener::from_std(door.listener)?;
        let stop = CancellationToken::new();
        let doors = std::iter::once(listener.into()).chain(tcp_door(section)?);
        let serve = |door| {
            tokio::spawn(control::server::serve(
                door,
                Arc::clone(daemon) as _,
                stop.clone(),
            ))
        };
        let servers = doors.map(serve).collect();
        let control = ControlDoor {
            stop,
            servers,
            ours: door.ours,
        };

        let section = &config.ingest;
        let door = socket("ingest", handed, &section.socket, section.mode, &section.group)?;
        let entrance = CancellationToken::new();
        let intake = listener::start(
            door.listener,
            door.ours,
            section.connections_max,
            Arc::clone(daemon.intake()),
            entrance.clone(),
        )?;
        let spool = section
            .spool
            .as_deref()
            .and_then(|folder| open_spool(daemon, folder));
        let spool = spool.map(|spool| tokio::spawn(spool.serve(entrance.clone())));
        Ok(Self {
            entrance,
            intake,
            spool,
            control,
        })
    }

    /// Takes no more events; waits until sessions have answered what they had read.
    async fn close_entrance(self, daemon: &Daemon) -> ControlDoor {
        daemon.intake().drain();
        self.entrance.cancel();
        let _ = tokio::time::timeout(ANSWER_BOUND, self.intake).await;
        if let Some(spool) = self.spool {
            // What it has not finished stays in the folder.
            let _ = tokio::time::timeout(ANSWER_BOUND, spool).await;
        }
        self.control
    }
}

impl ControlDoor {
    async fn close(self) {
        self.stop.cancel();
        let ended = async {
            for server in self.servers {
                // One that broke off has ended as well.
                let _ = server.await;
            }
        };
        let _ = tokio::time::timeout(CONTROL_BOUND, ended).await;
        if let Some(path) = self.ours {
            // Gone already is as good as removed; left over, the next start takes it over.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Waits for signals and for the store's failure; reloads on the way.
async fn until_told_to_stop(
    daemon: &Arc<Daemon>,
    wishes: &mut mpsc::UnboundedReceiver<Wish>,
) -> Result<(), DaemonError> {
    let mut failure = daemon.queue_failure();
    loop {
        tokio::select! {
            wish = wishes.recv() => match wish {
                Some(Wish::Reload { uid }) => reload_by_signal(daemon, uid).await,
                Some(Wish::Stop) | None => return Ok(()),
            },
            failed = failure.wait_for(Option::is_some) => {
                let error = failed.ok().and_then(|error| error.clone());
                return Err(DaemonError::Failed(error.unwrap_or_else(|| StoreError::Failed("the committer ended".into()))));
            }
        }
    }
}

/// Whoever sent the signal reads the outcome in the log; the API's caller gets it as an answer. Both changes are audited.
async fn reload_by_signal(daemon: &Daemon, uid: Option<u32>) {
    let credentials = Credentials { uid, gid: None };
    let peer = Peer {
        credentials,
        address: None,
    };
    let reloaded = daemon.reload_config().await;
    guard::audit_reload(peer, "by SIGHUP, ", &reloaded);
}

/// The spool, if its folder is there. A daemon without one works; only `posthaste send` has nothing to fall back to.
fn open_spool(daemon: &Daemon, folder: &Path) -> Option<Spool> {
    match Spool::open(folder, Arc::clone(daemon.intake())) {
        Ok(spool) => Some(spool),
        Err(error) => {
            tracing::info!(
                folder = %folder.display(), %error,
                "no spool: `posthaste send` needs a running daemon, unless you make this folder and start again"
            );
            None
        }
    }
}

/// A listening socket, and the path to remove at the end if it is our own.
struct Bound {
    listener: UnixListener,
    ours: Option<PathBuf>,
}

/// The control API's TCP listener, if there is to be one.
fn tcp_door(section: &ControlConfig) -> Result<Option<Door>, DaemonError> {
    let Some(address) = section.listen else {
        return Ok(None);
    };
    let bind = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let listening = listener.local_addr()?;
        Ok::<_, std::io::Error>((tokio::net::TcpListener::from_std(listener)?, listening))
    };
    let (listener, listening) = bind().map_err(|error| {
        DaemonError::Socket(format!(
            "control.listen: {address} can't be listened on: {error}; another process may have it"
        ))
    })?;
    tracing::info!(address = %listening, "the control API is served over TCP, to those who show its token");
    Ok(Some(listener.into()))
}

/// A socket handed over by systemd under `name`, or one of our own.
fn socket(
    name: &str,
    handed: &mut Handed,
    path: &Path,
    mode: u32,
    group: &str,
) -> Result<Bound, DaemonError> {
    if let Some(listener) = handed.take(name)? {
        return Ok(Bound { listener, ours: None });
    }
    let listener = sockets::bind_unix(path, mode, group)
        .map_err(|error| DaemonError::Socket(format!("{name}.socket: {error}")))?;
    listener.set_nonblocking(true)?;
    Ok(Bound {
        listener,
        ours: Some(path.to_owned()),
    })
}

fn announce(daemon: &Daemon, config: &Config) {
    let (endpoints, pending) = (config.endpoints.len(), daemon.pending());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = config.hash,
        endpoints,
        pending,
        ingest = %config.ingest.socket.display(),
        "ready"
    );
    notify::ready(&format!("{endpoints} endpoints, {pending} deliveries pending"));
}
