//! Another implementation as a process: built when it is missing, asked one question after another, gone when this process is.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::control_plane::repository;

const DEADLINE: Duration = Duration::from_secs(120);

/// A running program that answers each JSON value with one line. Its source is in `tests/NAME`.
#[derive(Debug)]
pub(crate) struct Oracle {
    name: &'static str,
    process: Child,
    questions: Option<ChildStdin>,
    answers: Receiver<std::io::Result<String>>,
}

impl Oracle {
    /// Builds it where it is missing or old, and starts it.
    pub(crate) fn start(name: &'static str) -> Result<Self> {
        let mut process = Command::new(built(name)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let questions = process.stdin.take();
        let stdout = process.stdout.take().context("it has no standard output")?;
        let (send, answers) = sync_channel(1);
        // A read has no deadline, a channel has.
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            while lines.next().is_some_and(|line| send.send(line).is_ok()) {}
        });
        Ok(Self {
            name,
            process,
            questions,
            answers,
        })
    }

    /// The line that it answers.
    pub(crate) fn ask(&mut self, question: &Value) -> Result<String> {
        let name = self.name;
        let questions = self.questions.as_mut().with_context(|| format!("{name} is ending"))?;
        questions.write_all(question.to_string().as_bytes())?;
        questions.flush()?;
        let line = self.answers.recv_timeout(DEADLINE);
        Ok(line.with_context(|| format!("no answer of {name}: it said why on standard error, or took too long"))??)
    }
}

/// The program of `tests/NAME`, built where it is missing or old.
///
/// # Errors
/// When it cannot be built; the compiler has said why.
pub fn built(name: &str) -> Result<PathBuf> {
    let directory = repository().join("target").join(name);
    let script = repository().join("tests/support/build-oracle.sh");
    let building = Command::new(&script)
        .arg(name)
        .arg(&directory)
        .stdin(Stdio::null())
        .status();
    let status = building.with_context(|| format!("running {}", script.display()))?;
    ensure!(
        status.success(),
        "building {name} failed: see above, or run {} {name}",
        script.display()
    );
    Ok(directory.join(name))
}

/// Where the source of a Go module is, in the version that `tests/NAME` pins. Fetched where it is missing.
pub(crate) fn source_of(name: &str, module: &str) -> Result<PathBuf> {
    let go = Command::new("go")
        .args(["mod", "download", "-json", module])
        .current_dir(repository().join("tests").join(name))
        .envs([("GOFLAGS", ""), ("GOWORK", "off"), ("GOTOOLCHAIN", "local")])
        .stderr(Stdio::inherit())
        .output()
        .context("running go")?;
    let said: Value = serde_json::from_slice(&go.stdout).unwrap_or_default();
    let directory = said["Dir"].as_str();
    let directory = directory.with_context(|| format!("go mod download {module} failed: {}", said["Error"]))?;
    Ok(PathBuf::from(directory))
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.questions.take());
        if let Err(error) = self.process.wait() {
            eprintln!("waiting for the end of {}: {error}", self.name);
        }
    }
}
