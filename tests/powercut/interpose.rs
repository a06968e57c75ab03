//! Sees every file operation of this process: the C library's functions that std and sled call are defined
//! here, and the linker takes these. Each does the real operation as a system call of its own and, once
//! [`start`] was called, records it if it concerns the store's folder.
//!
//! Syncs are recorded and not made: what the process itself reads never depends on them, and the image
//! after the power cut is made from the journal. The whole file is unsafe code in the service of a test.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{CStr, OsStr, c_char, c_int, c_uint, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use crate::expect::Note;
use crate::journal::{Entry, FileId, encode};

static RECORDER: OnceLock<Recorder> = OnceLock::new();

/// Records what happens below a folder.
struct Recorder {
    folder: PathBuf,
    journal: OwnedFd,
    /// Whether syncs are forgotten, as by a store that does not sync.
    forget_syncs: bool,
    /// Held over each operation and its entry, so that the journal has their true order.
    files: Mutex<Files>,
}

/// The files seen so far, by device and inode.
#[derive(Default)]
struct Files {
    ids: HashMap<(u64, u64), FileId>,
    last: FileId,
}

/// Starts recording what happens below `folder` into a new file `journal`, which lies outside of it.
pub fn start(folder: &Path, journal: &Path, forget_syncs: bool) -> std::io::Result<()> {
    let journal = std::fs::File::create_new(journal)?.into();
    let folder = folder.canonicalize()?;
    let recorder = Recorder {
        folder,
        journal,
        forget_syncs,
        files: Mutex::default(),
    };
    RECORDER
        .set(recorder)
        .map_err(|_| std::io::Error::other("already recording"))
}

/// Records what the process knows at this moment.
pub fn note(note: Note) {
    if let Some(recorder) = RECORDER.get() {
        let _order = recorder.lock();
        recorder.record(&Entry::Note(note), &[]);
    }
}

/// Ends this process as SIGKILL does, between two operations.
pub fn die() -> ! {
    let _order = RECORDER.get().map(Recorder::lock);
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort()
}

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an entry. A journal with a hole would prove nothing, so a failure ends the process.
    fn record(&self, entry: &Entry, bytes: &[u8]) {
        let mut whole = encode(entry);
        whole.extend_from_slice(bytes);
        let mut rest = &whole[..];
        while !rest.is_empty() {
            match rustix::io::write(&self.journal, rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) => {}
                Err(_) => std::process::abort(),
            }
        }
    }

    /// `path` below the folder.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(&self.folder).ok().map(Path::to_owned)
    }
}

fn key(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// The file behind `fd`, if it is one that is recorded.
fn recorded(files: &Files, fd: BorrowedFd<'_>) -> Option<FileId> {
    rustix::fs::fstat(fd)
        .ok()
        .and_then(|stat| files.ids.get(&key(&stat)).copied())
}

/// The path behind `fd`, if it has one.
fn path_of_fd(fd: BorrowedFd<'_>) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()
}

unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
}

/// Hands an error over as C does.
fn fail(errno: Errno) -> c_int {
    // SAFETY: the C library's own address of this thread's errno, always valid.
    unsafe { *__errno_location() = errno.raw_os_error() };
    -1
}

fn done(result: Result<(), Errno>) -> c_int {
    result.map_or_else(fail, |()| 0)
}

/// SAFETY: `path` is a C string, as the caller of a C function promises.
unsafe fn path_of<'a>(path: *const c_char) -> &'a Path {
    // SAFETY: see above.
    Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()))
}

/// SAFETY: `fd` stays open during the call, as the caller of a C function promises.
unsafe fn fd_of<'a>(fd: c_int) -> Option<BorrowedFd<'a>> {
    // SAFETY: see above; -1 is the one value that may not be borrowed.
    (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
}

/// In C the mode is variadic; the calling conventions of Linux hand it over like a fixed argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: as our caller promises.
    let path = unsafe { path_of(path) };
    let flags = OFlags::from_bits_retain(flags.cast_unsigned());
    let mode = Mode::from_raw_mode(mode);
    let open = || rustix::fs::openat(CWD, path, flags, mode);
    let opened = match RECORDER
        .get()
        .and_then(|recorder| Some((recorder, recorder.inside(path)?)))
    {
        Some((recorder, inside)) => open_recorded(recorder, path, inside, flags, open),
        None => open(),
    };
    opened.map_or_else(fail, IntoRawFd::into_raw_fd)
}

fn open_recorded(
    recorder: &Recorder,
    path: &Path,
    inside: PathBuf,
    flags: OFlags,
    open: impl FnOnce() -> Result<OwnedFd, Errno>,
) -> Result<OwnedFd, Errno> {
    let mut files = recorder.lock();
    let is_new = rustix::fs::lstat(path).is_err();
    let fd = open()?;
    let stat = rustix::fs::fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(fd);
    }
    if is_new || !files.ids.contains_key(&key(&stat)) {
        files.last += 1;
        let file = files.last;
        files.ids.insert(key(&stat), file);
        let entry = if is_new {
            Entry::Create { file, path: inside }
        } else {
            Entry::Known { file, path: inside }
        };
        recorder.record(&entry, &[]);
    }
    if flags.contains(OFlags::TRUNC)
        && let Some(file) = recorded(&files, fd.as_fd())
    {
        recorder.record(&Entry::Truncate { file, length: 0 }, &[]);
    }
    Ok(fd)
}

/// Writes by `write`, and records what was written where.
fn write_recorded(
    fd: BorrowedFd<'_>,
    buffer: &[u8],
    offset: impl FnOnce() -> u64,
    write: impl FnOnce() -> Result<usize, Errno>,
) -> isize {
    let order = RECORDER.get().map(|recorder| (recorder, recorder.lock()));
    let recorded = order
        .as_ref()
        .and_then(|(_, files)| recorded(files, fd))
        .map(|file| (file, offset()));
    let written = match write() {
        Ok(written) => written,
        Err(errno) => return fail(errno) as isize,
    };
    if let (Some((recorder, _)), Some((file, offset))) = (&order, recorded) {
        let bytes = u32::try_from(written).unwrap_or(u32::MAX);
        recorder.record(&Entry::Write { file, offset, bytes }, &buffer[..written]);
    }
    written.cast_signed()
}

/// SAFETY: `buffer` holds `length` bytes, as the caller of a C function promises.
unsafe fn buffer_of<'a>(buffer: *const c_void, length: usize) -> &'a [u8] {
    if length == 0 {
        return &[];
    }
    // SAFETY: see above.
    unsafe { std::slice::from_raw_parts(buffer.cast(), length) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(fd: c_int, buffer: *const c_void, length: usize, offset: i64) -> isize {
    // SAFETY: as our caller promises.
    let (Some(fd), buffer) = (unsafe { (fd_of(fd), buffer_of(buffer, length)) }) else {
        return fail(Errno::BADF) as isize;
    };
    let offset = offset.cast_unsigned();
    write_recorded(fd, buffer, || offset, || rustix::io::pwrite(fd, buffer, offset))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, buffer: *const c_void, length: usize) -> isize {
    // SAFETY: as our caller promises.
    let (Some(fd), buffer) = (unsafe { (fd_of(fd), buffer_of(buffer, length)) }) else {
        return fail(Errno::BADF) as isize;
    };
    let offset = || {
        let appends = rustix::fs::fcntl_getfl(fd).is_ok_and(|flags| flags.contains(OFlags::APPEND));
        let end = rustix::fs::fstat(fd).map_or(0, |stat| stat.st_size.cast_unsigned());
        if appends {
            end
        } else {
            rustix::fs::tell(fd).unwrap_or(end)
        }
    };
    write_recorded(fd, buffer, offset, || rustix::io::write(fd, buffer))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, length: i64) -> c_int {
    // SAFETY: as our caller promises.
    let Some(fd) = (unsafe { fd_of(fd) }) else {
        return fail(Errno::BADF);
    };
    let order = RECORDER.get().map(|recorder| (recorder, recorder.lock()));
    let result = rustix::fs::ftruncate(fd, length.cast_unsigned());
    if let (Some((recorder, files)), Ok(())) = (&order, result)
        && let Some(file) = recorded(files, fd)
    {
        recorder.record(
            &Entry::Truncate {
                file,
                length: length.cast_unsigned(),
            },
            &[],
        );
    }
    done(result)
}

/// Records a sync of a file or folder, or makes it if the file is none of ours.
fn sync(fd: c_int, real: impl FnOnce(BorrowedFd<'_>) -> Result<(), Errno>) -> c_int {
    // SAFETY: as the caller of our caller promises.
    let Some(fd) = (unsafe { fd_of(fd) }) else {
        return fail(Errno::BADF);
    };
    let Some(recorder) = RECORDER.get() else {
        return done(real(fd));
    };
    let files = recorder.lock();
    let entry = match recorded(&files, fd) {
        Some(file) => Some(Entry::Synced { file }),
        None => path_of_fd(fd)
            .and_then(|path| recorder.inside(&path))
            .map(|path| Entry::FolderSynced { path }),
    };
    match entry {
        Some(_) if recorder.forget_syncs => 0,
        Some(entry) => {
            recorder.record(&entry, &[]);
            0
        }
        None => done(real(fd)),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn fsync(fd: c_int) -> c_int {
    sync(fd, |fd| rustix::fs::fsync(fd))
}

#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(fd: c_int) -> c_int {
    sync(fd, |fd| rustix::fs::fdatasync(fd))
}

/// Does something to names and records it if it took effect.
fn change_names(
    change: impl FnOnce() -> Result<(), Errno>,
    entry: impl FnOnce(&Recorder) -> Option<Entry>,
) -> c_int {
    let order = RECORDER.get().map(|recorder| (recorder, recorder.lock()));
    let result = change();
    if let (Some((recorder, _)), Ok(())) = (&order, result)
        && let Some(entry) = entry(recorder)
    {
        recorder.record(&entry, &[]);
    }
    done(result)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: as our caller promises.
    let (from, to) = unsafe { (path_of(from), path_of(to)) };
    change_names(
        || rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::empty()),
        |recorder| {
            Some(Entry::Rename {
                from: recorder.inside(from)?,
                to: recorder.inside(to)?,
            })
        },
    )
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: as our caller promises.
    let path = unsafe { path_of(path) };
    change_names(
        || rustix::fs::unlinkat(CWD, path, AtFlags::empty()),
        |recorder| {
            Some(Entry::Unlink {
                path: recorder.inside(path)?,
            })
        },
    )
}

/// How std empties a folder that it removes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(folder: c_int, name: *const c_char, flags: c_int) -> c_int {
    // SAFETY: as our caller promises.
    let name = unsafe { path_of(name) };
    // SAFETY: as our caller promises; a negative number stands for the current folder.
    let folder = unsafe { fd_of(folder) }.unwrap_or(CWD);
    let path = path_of_fd(folder).unwrap_or_default().join(name);
    let flags = AtFlags::from_bits_retain(flags.cast_unsigned());
    change_names(
        || rustix::fs::unlinkat(folder, name, flags),
        |recorder| {
            Some(Entry::Unlink {
                path: recorder.inside(&path)?,
            })
        },
    )
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    // SAFETY: as our caller promises.
    let path = unsafe { path_of(path) };
    change_names(
        || rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR),
        |recorder| {
            Some(Entry::Unlink {
                path: recorder.inside(path)?,
            })
        },
    )
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: c_uint) -> c_int {
    // SAFETY: as our caller promises.
    let path = unsafe { path_of(path) };
    change_names(
        || rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(mode)),
        |recorder| {
            Some(Entry::MakeFolder {
                path: recorder.inside(path)?,
            })
        },
    )
}
