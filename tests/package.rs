//! I8: the Debian package that Cargo.toml describes: built, installed into a folder, used there, upgraded and removed.
//! It is put together by `dpkg-deb` from the list that `cargo deb` reads, because building `cargo deb` itself takes
//! longer than all other tests. Where dpkg or root is missing, this says so and passes, except under `CI=true`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "support/required.rs"]
mod required;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use toml::{Table, Value};

const PROGRAM: &str = env!("CARGO_BIN_EXE_posthaste");

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Whether packages can be built and installed here.
fn can_install() -> bool {
    let have = |program: &str| Command::new(program).arg("--version").output().is_ok();
    for (program, package) in [
        ("dpkg-deb", "dpkg"),
        ("systemd-sysusers", "systemd"),
        ("systemd-tmpfiles", "systemd"),
    ] {
        if !have(program) {
            required::missing(program, &format!("apt-get install {package}"), "not found");
            return false;
        }
    }
    if !rustix::process::geteuid().is_root() {
        required::missing("root", "dpkg changes owners; run this test as root", "not root");
        return false;
    }
    true
}

/// The files that a pattern of the asset list names; `*` stands in the last part only.
fn matching(pattern: &str, generated: &Path) -> Vec<PathBuf> {
    let path = match pattern.strip_prefix("target/package/") {
        Some(rest) => generated.join(rest),
        None if pattern == "target/release/posthaste" => return vec![PROGRAM.into()],
        None => project(pattern),
    };
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    let Some((before, after)) = name.split_once('*') else {
        return vec![path];
    };
    let mut found: Vec<_> = fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(before) && name.ends_with(after)
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{pattern} names nothing");
    found
}

/// Copies everything that the list names to where it belongs beneath `root`.
fn stage(deb: &Table, generated: &Path, root: &Path) {
    for asset in deb["assets"].as_array().unwrap() {
        let words: Vec<&str> = asset
            .as_array()
            .unwrap()
            .iter()
            .map(|word| word.as_str().unwrap())
            .collect();
        let [pattern, target, mode] = words[..] else {
            panic!("{asset}: three words")
        };
        for file in matching(pattern, generated) {
            let place = match target.ends_with('/') {
                true => root.join(target).join(file.file_name().unwrap()),
                false => root.join(target),
            };
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::copy(&file, &place).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let mode = u32::from_str_radix(mode, 8).unwrap();
            fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

/// Builds the package as `cargo deb` would, of the binary under test.
fn build(folder: &Path, version: &str) -> PathBuf {
    let manifest: Table = fs::read_to_string(project("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let package = manifest["package"].as_table().unwrap();
    let deb = package["metadata"]["deb"].as_table().unwrap();
    let generated = folder.join("generated");
    run(Command::new(project("packaging/generate"))
        .args([PROGRAM])
        .arg(&generated));
    let root = folder.join(format!("root-{version}"));
    stage(deb, &generated, &root);
    let control = root.join("DEBIAN");
    fs::create_dir_all(&control).unwrap();
    let text = |key: &str| deb[key].as_str().unwrap();
    let architecture = run(Command::new("dpkg").arg("--print-architecture"));
    fs::write(
        control.join("control"),
        format!(
            "Package: posthaste\nVersion: {version}\nArchitecture: {}Maintainer: {}\nSection: {}\nPriority: {}\n\
             Depends: {}\nDescription: {}\n",
            String::from_utf8_lossy(&architecture.stdout),
            text("maintainer"),
            text("section"),
            text("priority"),
            text("depends").replace("$auto", "libc6"),
            package["description"].as_str().unwrap(),
        ),
    )
    .unwrap();
    let conffiles: Vec<&str> = deb["conf-files"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    fs::write(control.join("conffiles"), conffiles.join("\n") + "\n").unwrap();
    for script in ["postinst", "prerm", "postrm"] {
        fs::copy(
            project(text("maintainer-scripts")).join(script),
            control.join(script),
        )
        .unwrap();
    }
    let package = folder.join(format!("posthaste-{version}.deb"));
    // Compressing a debug build would take longer than everything else here.
    run(Command::new("dpkg-deb")
        .args(["--root-owner-group", "-Znone", "--build"])
        .args([&root, &package]));
    fs::remove_dir_all(&root).unwrap();
    package
}

/// A system of its own, as far as dpkg is concerned.
struct System(PathBuf);

impl System {
    fn new(root: PathBuf) -> Self {
        for folder in [
            "var/lib/dpkg/info",
            "var/lib/dpkg/updates",
            "var/lib/dpkg/triggers",
            "etc",
            "run",
        ] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
        Self(root)
    }

    fn dpkg(&self, arguments: &[&str]) -> Output {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", self.0.display()));
        // Its scripts run with the tools of this machine, on the other root.
        dpkg.args(["--force-script-chrootless", "--force-depends", "--force-confold"]);
        run(dpkg.args(arguments))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// The number of a group there.
    fn gid(&self, name: &str) -> u32 {
        let groups = fs::read_to_string(self.path("etc/group")).unwrap();
        let line = groups.lines().find(|line| line.starts_with(&format!("{name}:")));
        let line = line.unwrap_or_else(|| panic!("no group {name}:\n{groups}"));
        line.split(':').nth(2).unwrap().parse().unwrap()
    }

    fn is(&self, path: &str, mode: u32, group: &str) {
        let metadata = fs::metadata(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(metadata.mode() & 0o7777, mode, "{path}");
        let gid = if group == "root" { 0 } else { self.gid(group) };
        assert_eq!(metadata.gid(), gid, "{path}");
    }
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The installed daemon takes an event; its configuration is the installed one with every path beneath the root.
fn works(system: &System) {
    let program = system.path("usr/bin/posthaste");
    let installed = system.path("etc/posthaste/config.toml");
    run(Command::new(&program)
        .arg("check")
        .arg("--config")
        .arg(&installed));
    let root = system.0.display();
    let config = system.path("etc/posthaste/beneath.toml");
    let text = fs::read_to_string(&installed).unwrap();
    let text = text
        .replace("= \"/", &format!("= \"{root}/"))
        .replace("\ngroup = \"", "\n#group = \"");
    fs::write(
        &config,
        text.replace("[ingest]\n", "[ingest]\ngroup = \"\"\n")
            .replace("[control]\n", "[control]\ngroup = \"\"\n"),
    )
    .unwrap();
    let config = config.to_str().unwrap();
    // Left in the spool first, because nobody listens yet.
    let sent = run(Command::new(&program).args(["send", "package.installed", "--config", config]));
    assert!(
        String::from_utf8_lossy(&sent.stdout).contains("spooled"),
        "{sent:?}"
    );
    let daemon = Daemon(
        Command::new(&program)
            .args(["run", "--config", config])
            .spawn()
            .unwrap(),
    );
    let started = Instant::now();
    while UnixStream::connect(system.path("run/posthaste/ingest.sock")).is_err() {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "the installed daemon does not start"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    while fs::read_dir(system.path("var/spool/posthaste")).unwrap().count() > 0 {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "the spool is not emptied"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let status = run(Command::new(&program).args(["status", "--config", config]));
    assert!(
        String::from_utf8_lossy(&status.stdout).contains("posthaste "),
        "{status:?}"
    );
    drop(daemon);
    fs::remove_file(config).unwrap();
}

#[test]
fn i8_the_package_is_installed_used_upgraded_and_removed() {
    if !can_install() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (build(folder.path(), "0.0.1"), build(folder.path(), "0.0.2"));
    let listed = run(Command::new("dpkg-deb").arg("--contents").arg(&first));
    let listed = String::from_utf8_lossy(&listed.stdout);
    for file in [
        "./usr/bin/posthaste",
        "./usr/share/man/man1/posthaste.1",
        "./usr/share/man/man1/posthaste-dead-replay.1",
        "./usr/share/doc/posthaste/docs/OPERATIONS.md",
    ] {
        assert!(
            listed.lines().any(|line| line.ends_with(file)),
            "{file} is missing:\n{listed}"
        );
    }

    let system = System::new(folder.path().join("system"));
    system.dpkg(&["--install", first.to_str().unwrap()]);
    system.is("etc/posthaste/config.toml", 0o640, "posthaste");
    system.is("var/spool/posthaste", 0o3770, "posthaste");
    system.is("run/posthaste", 0o755, "root");
    assert_ne!(system.gid("posthaste"), system.gid("posthaste-admin"));
    works(&system);

    // What an administrator has changed survives an upgrade, and so does the queue.
    let config = system.path("etc/posthaste/config.toml");
    let changed = fs::read_to_string(&config).unwrap() + "\n# changed\n";
    fs::write(&config, &changed).unwrap();
    system.dpkg(&["--install", second.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&config).unwrap(), changed);
    works(&system);

    system.dpkg(&["--remove", "posthaste"]);
    assert!(!system.path("usr/bin/posthaste").exists() && config.exists());
    let purged = system.dpkg(&["--purge", "posthaste"]);
    assert!(!config.exists());
    assert!(
        system.path("var/lib/posthaste/CURRENT").exists(),
        "the queue is not the package's to remove"
    );
    assert!(
        String::from_utf8_lossy(&purged.stderr).contains("/var/lib/posthaste is kept"),
        "{purged:?}"
    );
}

/// Nothing that the list names is missing from the repository, and no unit is missing from the list.
#[test]
fn i8_the_list_is_whole() {
    let manifest: Table = fs::read_to_string(project("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let assets = manifest["package"]["metadata"]["deb"]["assets"].to_string();
    let units = fs::read_dir(project("systemd"))
        .unwrap()
        .map(|entry| entry.unwrap());
    for unit in units.filter(|entry| entry.file_type().unwrap().is_file()) {
        let name = unit.file_name().into_string().unwrap();
        assert!(
            assets.contains(&format!("systemd/{name}")),
            "{name} is not packaged"
        );
    }
}
