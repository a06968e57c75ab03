//! Other people's packages, installed once into `target/tmp`. A test that uses this also has `support/required.rs` as
//! `mod required`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::required;

/// The folder with an npm package, such as `ajv@8.17.1`, in its `node_modules`. `None`, after saying so, where it
/// can't be had; under `CI=true` that is a failure.
pub fn npm(package: &str) -> Option<PathBuf> {
    npm_all(package, &[package])
}

/// The same for several packages in one folder called `name`.
pub fn npm_all(name: &str, packages: &[&str]) -> Option<PathBuf> {
    installed("npm", name, |folder| {
        let mut install = Command::new("npm");
        install
            .args([
                "install",
                "--no-audit",
                "--no-fund",
                "--loglevel=error",
                "--prefix",
            ])
            .arg(folder)
            .args(packages);
        install
    })
}

/// The folder with a PyPI package, such as `jsonschema==4.26.0`, for `sys.path`. `None` as for [`npm`].
pub fn pypi(package: &str) -> Option<PathBuf> {
    installed("pip", package, |folder| {
        let mut install = Command::new("python3");
        install
            .args(["-m", "pip", "install", "--quiet", "--target"])
            .arg(folder)
            .arg(package);
        install
    })
}

/// The folder with `package` in it, whatever `install` puts there. Tests that ask at once wait for the first; what is installed stays.
fn installed(manager: &str, package: &str, install: impl FnOnce(&Path) -> Command) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{manager}-{package}"));
    fs::create_dir_all(&folder).expect("target/tmp can be written");
    let lock = File::create(folder.join("lock")).expect("target/tmp can be written");
    lock.lock().expect("the file system knows locks");
    let done = folder.join("installed");
    if !done.exists() {
        if let Err(error) = run(&mut install(&folder)) {
            required::missing(
                &format!("{package}, installed by {manager}"),
                "needs the network, Debian's nodejs and npm or python3 and python3-pip",
                error,
            );
            return None;
        }
        File::create(done).expect("target/tmp can be written");
    }
    Some(folder)
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}
