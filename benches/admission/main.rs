//! `make bench`: what a review costs with the shipped policies, beside the bare limit of the same server.
//!
//! Servers are processes of their own, measured in turn in one run: machines differ, and change while they measure, so the
//! ratios of neighbours say more than any time. Must never: count an answer that was not checked, or leave a process behind.

mod client;
mod generated;
mod guards;
mod live;
mod manifests;
mod measure;
mod policies;
mod process;
mod report;
mod review;
mod server;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use client::Connection;
use measure::{Growth, Pace, Probe, Row};
use process::Process;
use report::Report;
use review::{Expected, Pod};
use ringfence::vetting;
use server::Spec;

/// The pod of the main table: about what Airflow or a Job of three containers sends.
const USUAL: Pod = Pod {
    containers: 3,
    variables: 10,
    bytes: 0,
    sound: true,
};

const HELP: &str = "\
usage: cargo bench [-- --json] [-- --quick]
  --json    print one JSON object instead of tables
  --quick   short rounds: tells that everything works, not how fast it is";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some(vetting::SUBCOMMAND) => return vetting::answer(),
        Some("serve") => server::main(arguments.get(1).map_or("", String::as_str)),
        _ => bench(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &[String]) -> Result<()> {
    let mut json = false;
    // Without that argument cargo runs us as a test.
    let mut quick = !arguments.iter().any(|argument| argument == "--bench");
    for argument in arguments {
        match argument.as_str() {
            "--bench" => {}
            "--json" => json = true,
            "--quick" => quick = true,
            other => bail!("no such argument: {other}\n{HELP}"),
        }
    }
    let pace = if quick { Pace::quick() } else { Pace::full() };
    // One thread asks, so that the client takes no more than one core from the server that is measured.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(measure(&pace))?;
    if json {
        println!("{:#}", report.json());
    } else {
        println!("{}", report.text());
    }
    Ok(())
}

fn say(started: Instant, what: &str) {
    eprintln!("bench: {:>4.0} s  {what}", started.elapsed().as_secs_f64());
}

async fn measure(pace: &Pace) -> Result<Report> {
    let started = Instant::now();
    let machine = report::Machine::read();
    say(started, &format!("starting the servers; {machine}"));
    let live = live::start().await?;
    let bare = Process::start(&Spec::Bare, None)?;
    let once = Process::start(&Spec::Ringfence { copies: 1 }, None)?;
    let asking = match &live {
        Some(world) => Some(Process::start(&Spec::Live, Some(world.kubeconfig()))?),
        None => None,
    };
    let to_bare = Connection::open(&bare).await?;
    let to_once = Connection::open(&once).await?;

    let job = review::JOB_UID;
    let usual = review::bytes(&USUAL, job);
    let bad = review::bytes(&Pod { sound: false, ..USUAL }, job);
    let mut probes = vec![
        Probe::new("bare", &bare, to_bare.prepare(&usual, Expected::Allowed).await?),
        Probe::new(
            "ringfence, admitted",
            &once,
            to_once.prepare(&usual, Expected::Allowed).await?,
        ),
        Probe::new(
            "ringfence, refused",
            &once,
            to_once.prepare(&bad, Expected::Refused).await?,
        ),
    ];
    if let (Some(world), Some(asking)) = (&live, &asking) {
        let connection = Connection::open(asking).await?;
        let review = review::bytes(&USUAL, world.job_uid());
        let prepared = connection.prepare(&review, Expected::Allowed).await?;
        probes.push(Probe::new(report::LIVE, asking, prepared));
    }
    say(started, "warming up");
    measure::warm_up(&mut probes, pace).await?;
    for round in 1..=pace.rounds {
        say(started, &format!("servers in turn, round {round} of {}", pace.rounds));
        measure::round(&mut probes, pace).await?;
    }
    measure::memory(&mut probes)?;
    drop((asking, live));

    say(started, "what grows with the number of containers");
    let mut containers = Growth::new("containers", &["bare", "ringfence"]);
    for count in [1, 4, 16] {
        let pod = Pod {
            containers: count,
            ..USUAL
        };
        let review = review::bytes(&pod, job);
        let targets = vec![
            to_bare.prepare(&review, Expected::Allowed).await?,
            to_once.prepare(&review, Expected::Allowed).await?,
        ];
        containers.rows.push(Row::new(count.to_string(), review.len(), targets));
    }
    containers.measure(pace).await?;

    say(started, "what grows with the size of the review");
    let mut size = Growth::new("size", &["bare", "ringfence"]);
    for kib in [2, 10, 100] {
        let pod = Pod {
            containers: 1,
            variables: 0,
            bytes: kib << 10,
            sound: true,
        };
        let review = review::bytes(&pod, job);
        let targets = vec![
            to_bare.prepare(&review, Expected::Allowed).await?,
            to_once.prepare(&review, Expected::Allowed).await?,
        ];
        size.rows.push(Row::new(format!("{kib} KiB"), review.len(), targets));
    }
    size.measure(pace).await?;

    say(started, "what grows with the number of policies");
    let copies = [1, 4, 16].map(|copies| Spec::Ringfence { copies });
    let policies = of_policies("policies", &copies, &usual, pace).await?;
    say(started, "what grows with the number of small policies");
    let small = [0, 1, 50, 100, 200].map(|count| Spec::Small { count });
    let small = of_policies("small ones", &small, &usual, pace).await?;
    drop((to_bare, to_once, bare, once));
    say(started, "what each policy takes");
    let each = policies::each(&usual, pace)?;
    say(started, "what it takes to trust policies");
    let loading = policies::vetting(pace)?;
    say(started, "what reviewing manifests takes");
    let manifests = manifests::review(pace)?;
    say(started, "what registrations and guards cost through the API server");
    let guards = Box::pin(guards::measure(pace)).await?;
    let took = started.elapsed();
    say(started, "done");
    Ok(Report {
        machine,
        probes,
        growths: vec![containers, size, policies, small],
        each,
        loading,
        manifests,
        guards,
        quick: pace.quick,
        reviews: (usual.len(), bad.len()),
        took: Duration::from_secs(took.as_secs()),
    })
}

/// Servers that differ in their policies alone.
async fn of_policies(by: &'static str, specs: &[Spec], review: &[u8], pace: &Pace) -> Result<Growth> {
    let mut growth = Growth::new(by, &["ringfence"]);
    let mut servers = Vec::new();
    for spec in specs {
        let server = Process::start(spec, None)?;
        let connection = Connection::open(&server).await?;
        let targets = vec![connection.prepare(review, Expected::Allowed).await?];
        let row = Row::new(server.policies().to_string(), review.len(), targets);
        growth.rows.push(row.of_policies(server.policies()));
        servers.push(server);
    }
    growth.measure(pace).await?;
    for (row, server) in growth.rows.iter_mut().zip(&servers) {
        row.resident = Some(server.resident()?);
    }
    Ok(growth)
}
