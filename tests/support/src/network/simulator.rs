//! The simulator of NetworkPolicies, asked who may talk to whom.

use anyhow::{Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Matrix, Open, Scene};
use crate::oracle::Oracle;

/// A running simulator. It is a whole implementation of NetworkPolicy by somebody else: cyclonus.
#[derive(Debug)]
pub struct Simulator(Oracle);

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
        Oracle::start("simulator").map(Self)
    }

    /// What NetworkPolicies, as the API server sends them, open between whom the scene holds.
    pub fn ask(&mut self, scene: &Scene, policies: &[Value]) -> Result<Matrix> {
        let mut question = serde_json::to_value(scene)?;
        question["policies"] = json!(policies);
        let answer: Answer = serde_json::from_str(&self.0.ask(&question)?)?;
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
