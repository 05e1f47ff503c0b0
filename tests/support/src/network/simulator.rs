//! The simulator as a process: built when it is missing, asked one question after another, gone when this process is.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Matrix, Open, Scene};
use crate::control_plane::repository;

const DEADLINE: Duration = Duration::from_secs(120);

/// A running simulator. It is a whole implementation of NetworkPolicy by somebody else: cyclonus.
#[derive(Debug)]
pub struct Simulator {
    process: Child,
    questions: Option<ChildStdin>,
    answers: Receiver<std::io::Result<String>>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    paths: Option<Vec<Path>>,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
struct Path {
    from: String,
    to: String,
    egress: String,
    ingress: String,
    both: String,
}

impl Simulator {
    /// Builds it where it is missing or old, and starts it.
    pub fn start() -> Result<Self> {
        let directory = repository().join("target/simulator");
        let script = repository().join("tests/simulator/build.sh");
        let status = Command::new(&script).arg(&directory).stdin(Stdio::null()).status();
        let status = status.with_context(|| format!("running {}", script.display()))?;
        ensure!(
            status.success(),
            "building the simulator failed: see above, or run {}",
            script.display()
        );
        let mut process = Command::new(directory.join("simulator"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the simulator")?;
        let questions = process.stdin.take();
        let stdout = process.stdout.take().context("the simulator has no standard output")?;
        let (send, answers) = sync_channel(1);
        // A read has no deadline, a channel has.
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            while lines.next().is_some_and(|line| send.send(line).is_ok()) {}
        });
        Ok(Self {
            process,
            questions,
            answers,
        })
    }

    /// What NetworkPolicies, as the API server sends them, open between whom the scene holds.
    pub fn ask(&mut self, scene: &Scene, policies: &[Value]) -> Result<Matrix> {
        let mut question = serde_json::to_value(scene)?;
        question["policies"] = json!(policies);
        let questions = self.questions.as_mut().context("the simulator is ending")?;
        questions.write_all(question.to_string().as_bytes())?;
        questions.flush()?;
        let line = self.answers.recv_timeout(DEADLINE);
        let line = line.context("no answer of the simulator: it said why on standard error, or took too long")??;
        let answer: Answer = serde_json::from_str(&line)?;
        let Some(paths) = answer.paths.filter(|_| answer.error.is_empty()) else {
            bail!("the simulator cannot answer: {}", answer.error);
        };
        let mut matrix = Matrix::new();
        for path in paths {
            let Path {
                from,
                to,
                egress,
                ingress,
                both,
            } = path;
            let through = egress.bytes().zip(ingress.bytes()).map(|(out, into)| out.min(into));
            ensure!(
                both.len() == scene.ports.len() && through.eq(both.bytes()),
                "{from} -> {to}: {both} gets through by {egress} and {ingress}"
            );
            matrix.insert((from, to), Open { egress, ingress });
        }
        Ok(matrix)
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        drop(self.questions.take());
        if let Err(error) = self.process.wait() {
            eprintln!("waiting for the simulator's end: {error}");
        }
    }
}
