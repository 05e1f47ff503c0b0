//! `ringfence review`: the verdict of the cluster on manifests, before anybody applies them, without a cluster.
//!
//! Admission's own judge decides, by facts from files. Must never: judge otherwise than the webhook does, rest a verdict on what was
//! not given, or pass over what could not be read.

mod facts;
mod input;
mod judge;
mod judged;
mod kinds;
mod object;
mod ordered;
mod output;
mod places;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args as ClapArgs;
use serde_json::Value;

use self::{
    facts::{Given, Store},
    input::{Input, Unread},
    judge::{Judge, Policies},
    judged::{Totals, Trouble},
    object::Who,
    output::{Format, Printer},
    work::Work,
};
use super::{
    documents::{Document, Problem, parse},
    policies::{Demand, Loaded, PolicyFiles},
    terminal::{self, printable},
};
use crate::{
    api::is_dns_label,
    policy::{LoadError, Snapshot},
    review::Review,
    telemetry::Metrics,
    vetting::Vetting,
    webhook::admit::Admission,
};

/// Namespace of what names none, as for kubectl.
const DEFAULT_NAMESPACE: &str = "default";

/// Review manifests as the cluster would, without one.
///
/// Judges each object of the files as if it were created now: by the built-in rules, the shipped policies or those of --policies, in the
/// engine and with the words of the webhook. Takes YAML and JSON, Lists, and AdmissionReviews as an API server sends them, which are
/// judged as they are; what `helm template` and `kustomize build` print comes by standard input.
///
/// What a verdict rests on beside the object (its Namespace, AIWorkflow and class) comes from the reviewed files and from --context; the
/// class `default` is the built-in one unless another is given. Where the Namespace is not given, policies judge as in one that enforces
/// the class `default`. A rule or policy that looks at what was not given is listed as not judged.
///
/// Exit codes: 0 nothing is refused; 1 something is; 2 something could not be reviewed, or with --strict not judged.
#[derive(ClapArgs, Debug)]
#[command(after_long_help = "\
Examples:
  # What would be refused of these manifests, in this namespace, by these workflows?
  ringfence review --context platform/ deploy/

  # What Helm or Kustomize would deploy, by the account that deploys it:
  helm template chart/ | ringfence review --context platform/ --as system:serviceaccount:argocd:argocd-application-controller -

  # By policies of your own, in a pipeline:
  ringfence review --policies policies/ -o junit deploy/ > ringfence.xml

  # As annotations of a pull request on GitHub:
  ringfence review -o github deploy/")]
pub(super) struct Args {
    /// Manifests: files, folders, or `-` for standard input.
    #[arg(required = true, value_name = "FILE|DIR|-")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    policies: PolicyFiles,
    /// What stands in the cluster: Namespaces, AIWorkflows, classes, exceptions, owners. Not reviewed. May be given more than once.
    #[arg(long, value_name = "FILE|DIR")]
    context: Vec<PathBuf>,
    /// Objects that policies see as data.inventory, beside those of --context. May be given more than once.
    #[arg(long, value_name = "FILE|DIR")]
    inventory: Vec<PathBuf>,
    /// Who applies the manifests: a user, or system:serviceaccount:<namespace>:<name>. Without it nobody asks whether that is a launcher.
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
    /// Groups of --as.
    #[arg(long = "as-group", value_name = "GROUP", requires = "user")]
    groups: Vec<String>,
    /// Namespace of what names none.
    #[arg(long, short, default_value = DEFAULT_NAMESPACE)]
    namespace: String,
    /// Exit code 2 where a rule or policy could not be judged for want of a fact, or a file of policies judges nothing.
    #[arg(long)]
    strict: bool,
    /// How to print it.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

pub(super) fn main(args: &Args) -> ExitCode {
    run(args).unwrap_or_else(|error| terminal::fail(&error))
}

fn run(args: &Args) -> Result<ExitCode> {
    ensure!(
        is_dns_label(&args.namespace),
        "no namespace can be called {:?}",
        args.namespace
    );
    let is_stdin = |path: &&PathBuf| path.as_path() == Path::new("-");
    let all = args.files.iter().chain(&args.context).chain(&args.inventory);
    ensure!(
        all.filter(is_stdin).count() <= 1,
        "standard input can be read once: name files for the others"
    );
    let loaded = args.policies.load_as(Demand::Any)?;
    let mut troubles: Vec<Trouble> = loaded.problems.iter().map(of_policy).collect();
    let mut store = Store::default();
    let files = inputs(&args.files, &mut troubles);
    for (paths, given) in [(&args.context, Given::Context), (&args.inventory, Given::Inventory)] {
        let given_inputs = inputs(paths, &mut troubles);
        // What is reviewed is newer than what stands.
        if given == Given::Context {
            learn(&files, Given::Reviewed, &mut store, &args.namespace, &mut Vec::new())?;
        }
        learn(&given_inputs, given, &mut store, &args.namespace, &mut troubles)?;
    }
    for note in loaded.notes.iter().chain(&loaded.idle).chain(&store.notes) {
        eprintln!("ringfence: {}", printable(note));
    }
    let is_idle = !loaded.idle.is_empty();
    let about = about(&loaded);
    let judge = judge(loaded, store)?;
    let who = Who {
        user: args.user.clone(),
        groups: args.groups.clone(),
    };
    let mut printing = Printing::new(args.output.printer(terminal::has_colour(&io::stdout()), about));
    printing.print(|printer| printer.begin())?;
    for trouble in troubles {
        printing.trouble(&trouble)?;
    }
    let work = Work {
        judge: &judge.0,
        store: &judge.1,
        who: &who,
        namespace: &args.namespace,
    };
    work::review(&files, &work, &mut |outcome| match outcome {
        judged::Outcome::Judged(judged) => printing.judged(&judged),
        judged::Outcome::Trouble(trouble) => printing.trouble(&trouble),
        judged::Outcome::LeftAside(what) => {
            eprintln!(
                "ringfence: {}",
                printable(&format!("left aside, for it is no object: {what}"))
            );
            Ok(())
        }
    })?;
    printing.totals.files = files.len();
    if printing.totals.objects == 0 && printing.totals.problems == 0 {
        let all: Vec<_> = args.files.iter().map(|path| path.display().to_string()).collect();
        printing.trouble(&Trouble::of(
            &all.join(", "),
            &Problem::at(1, "there is no object in it to review"),
        ))?;
    }
    let totals = printing.end()?;
    Ok(ExitCode::from(
        if totals.problems > 0 || args.strict && (totals.not_judged > 0 || is_idle) {
            2
        } else {
            u8::from(totals.denied > 0)
        },
    ))
}

/// The requests that a document stands for, where nobody is known to ask.
pub(super) fn requests(document: Value) -> Result<Vec<Review>, String> {
    let parts = object::parts(document)?.into_iter();
    let objects = parts.filter(|part| !object::is_instruction(&part.value));
    objects
        .map(|part| {
            let asked = object::asked(part, &kinds::Kinds::default(), &Who::default(), DEFAULT_NAMESPACE)?;
            Ok(asked.review)
        })
        .collect()
}

/// What policies demand, by their names.
fn about(loaded: &Loaded) -> BTreeMap<String, String> {
    let of_set = loaded
        .set
        .policies()
        .map(|info| (info.metadata.name.clone(), info.metadata.description.clone()));
    let objects = loaded.registered.iter().filter_map(|policy| {
        let description = policy.spec().description.clone()?;
        Some((policy.name().to_owned(), description))
    });
    of_set.chain(objects).collect()
}

/// What judges, and the facts that it judges by.
fn judge(loaded: Loaded, store: Store) -> Result<(Judge, Arc<Store>)> {
    let vetting = Vetting::new().context("cannot tell which file this binary is, to vet policies with it")?;
    let metrics = Arc::new(Metrics::new());
    let store = Arc::new(store);
    let snapshot = Arc::new(Snapshot::new(loaded.registered.into_iter().map(Arc::new).collect()));
    let taken: BTreeSet<String> = loaded.set.policies().map(|info| info.metadata.name.clone()).collect();
    let set = Arc::new(loaded.set);
    let pool = PolicyFiles::threads(Arc::clone(&set), &metrics);
    let evaluator = pool.evaluator();
    let nothing = Arc::new(facts::Asking::new(Arc::clone(&store), None));
    let policies = Policies {
        snapshot: Arc::clone(&snapshot),
        store: Arc::clone(&store),
        vetting,
    };
    // Which namespace Ringfence is installed in is not known offline.
    let admission = Admission::new(nothing, pool, "", metrics).with_objects(Arc::new(policies), evaluator, taken);
    Ok((Judge::new(admission, Arc::clone(&store), snapshot, &set), store))
}

fn of_policy(error: &LoadError) -> Trouble {
    Trouble {
        file: error.file.clone(),
        line: error.line,
        column: error.column,
        message: error.message.clone(),
    }
}

fn inputs(paths: &[PathBuf], troubles: &mut Vec<Trouble>) -> Vec<Input> {
    let mut found = Vec::new();
    for path in paths {
        if let Err(Unread { name, why }) = input::inputs(path, &mut found) {
            troubles.push(Trouble {
                file: name,
                line: None,
                column: None,
                message: why,
            });
        }
    }
    found
}

/// Takes in the facts of every document. What cannot be read is trouble where nobody reads it again.
fn learn(
    inputs: &[Input],
    given: Given,
    store: &mut Store,
    namespace: &str,
    troubles: &mut Vec<Trouble>,
) -> Result<()> {
    let reading = || {
        |_: &Arc<str>, document: &Document| {
            let parts = object::parts(parse(document)?);
            let parts = parts.map_err(|why| Problem::at(document.line, why))?;
            Ok((document.line, parts))
        }
    };
    ordered::each(inputs, reading, |file, parsed| {
        match parsed {
            Ok((line, parts)) => {
                for part in parts {
                    store
                        .add(&part.value, given, namespace)
                        .map_err(|why| anyhow::anyhow!("{file}:{line}: {why}"))?;
                }
            }
            Err(problem) => troubles.push(Trouble::of(&file, &problem)),
        }
        Ok(())
    })
}

/// Prints as things become known, and counts them.
struct Printing {
    printer: Box<dyn Printer>,
    totals: Totals,
    shows: bool,
}

impl Printing {
    fn new(printer: Box<dyn Printer>) -> Self {
        Self {
            printer,
            totals: Totals::default(),
            // Where both are seen at one terminal, what is printed tells of progress itself.
            shows: io::stderr().is_terminal() && !io::stdout().is_terminal(),
        }
    }

    fn print(&mut self, text: impl FnOnce(&mut dyn Printer) -> Result<String>) -> Result<()> {
        let text = text(self.printer.as_mut())?;
        if text.is_empty() {
            Ok(())
        } else {
            terminal::print(&text)
        }
    }

    fn judged(&mut self, judged: &judged::Judged) -> Result<()> {
        self.totals.add(judged);
        if self.shows && self.totals.objects.is_multiple_of(50) {
            let _ = write!(io::stderr(), "\r\u{1b}[Kreviewed {} objects", self.totals.objects);
        }
        self.print(|printer| printer.judged(judged))
    }

    fn trouble(&mut self, trouble: &Trouble) -> Result<()> {
        self.totals.problems = self.totals.problems.saturating_add(1);
        self.print(|printer| printer.trouble(trouble))
    }

    fn end(mut self) -> Result<Totals> {
        if self.shows {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
        let totals = std::mem::take(&mut self.totals);
        self.print(|printer| printer.end(&totals))?;
        Ok(totals)
    }
}
