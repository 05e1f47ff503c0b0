//! An engine's client, its commands and processes, on whatever cluster: no test's own cluster is known here.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use support::{eventually, unique};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// A command of an engine starts an interpreter and imports all of the engine.
const COMMAND: Duration = Duration::from_secs(120);

/// An engine's client or controller, from its registry, with a home of its own.
pub struct Client {
    /// Where its programs are.
    programs: PathBuf,
    home: PathBuf,
    settings: Vec<(String, String)>,
}

impl Client {
    /// Installs a client of Python where it is missing. Its files go below `directory`.
    pub async fn install(directory: &Path, engine: &str) -> Self {
        let environment = support::repository().join("target/engines").join(engine);
        let list = format!("engines/{engine}");
        built("tests/support/build-venv.sh", &[list.as_ref(), environment.as_ref()]).await;
        Self::at(directory, engine, environment.join("venv/bin"))
    }

    pub fn at(directory: &Path, engine: &str, programs: PathBuf) -> Self {
        let home = directory.join(unique(engine));
        std::fs::create_dir(&home).expect("a home");
        Self {
            programs,
            home,
            settings: Vec::new(),
        }
    }

    /// The same client with further settings.
    pub fn with(&self, settings: &[(&str, &str)]) -> Self {
        let more = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Self {
            programs: self.programs.clone(),
            home: self.home.clone(),
            settings: self.settings.iter().cloned().chain(more).collect(),
        }
    }

    /// A folder for its files.
    pub fn home(&self) -> &Path {
        &self.home
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.programs.display()))
            .env("HOME", &self.home)
            .envs(self.settings.iter().map(|(key, value)| (key, value)))
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = timeout(COMMAND, self.command(program, arguments).output());
        let output = output
            .await
            .with_context(|| format!("{program} {arguments:?} took too long"))??;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        ensure!(output.status.success(), "{program} {arguments:?}: {said}");
        Ok(said)
    }

    /// Starts one that stays until it is dropped. Returns it with the file that it writes to.
    pub fn start(&self, program: &str, arguments: &[&str]) -> (Started, Log) {
        let log = self.home.join(unique("log"));
        let file = std::fs::File::create(&log).expect("a log");
        let errors = file.try_clone().expect("a log");
        let mut command = self.command(program, arguments);
        let child = command.stdout(file).stderr(errors).process_group(0).spawn();
        let child = child.unwrap_or_else(|error| panic!("{program}: {error}"));
        (Started(child), Log(log))
    }
}

/// A process of an engine. Engines start more of them, which end with it.
pub struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        // Not waited for yet, so nobody else has its id.
        let group = self.0.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Runs a script of the repository, whose progress goes to our standard error.
pub async fn built(script: &str, arguments: &[&OsStr]) {
    let path = support::repository().join(script);
    let status = Command::new(path).args(arguments).stdin(Stdio::null()).status().await;
    let status = status.unwrap_or_else(|error| panic!("{script}: {error}"));
    assert!(status.success(), "{script} {arguments:?}: see above");
}

/// What a process wrote so far.
pub struct Log(PathBuf);

impl Log {
    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap_or_default()
    }

    /// Waits until it says that.
    pub async fn says(&self, words: &str) -> String {
        eventually(COMMAND, || async {
            let text = self.text();
            ensure!(text.contains(words), "not said yet: {words}\n{text}");
            Ok(text)
        })
        .await
    }
}
