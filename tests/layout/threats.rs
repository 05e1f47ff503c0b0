//! `docs/threat-model.md` comes from the attacks of `tests/bypass`: what is tried, and who answers. A guard that no attack names, or an
//! attack that names a guard that is not there, fails here.

use std::{collections::BTreeMap, fs, path::Path};

use ringfence::decisions::{Door, RULES};

/// Stored with a warning: it refuses nothing.
const WARNS: [&str; 1] = ["accepted-declaration"];

/// What no API server sends, because it refuses it itself: a second line, tried in `src/fence`.
const SECOND_LINES: [&str; 1] = ["pod-template"];

/// Who answers beside our rules and guards.
const OTHERS: [&str; 7] = [
    "RBAC",
    "definition",
    "operator",
    "API server",
    "NetworkPolicy",
    "scan",
    "egress proxy",
];

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Ending {
    HeldBy,
    OutOfScope,
    Legitimate,
}

impl Ending {
    const ALL: [(&'static str, Self); 3] = [
        ("Held by: ", Self::HeldBy),
        ("Out of scope: ", Self::OutOfScope),
        ("Legitimate: ", Self::Legitimate),
    ];
}

#[derive(Debug)]
struct Attempt {
    name: String,
    told: String,
    ending: Ending,
    why: String,
}

impl Attempt {
    fn sentence(&self) -> String {
        let words = self.name.replace('_', " ");
        let (first, rest) = words.split_at(1);
        format!("{}{rest}", first.to_uppercase())
    }
}

#[derive(Debug)]
struct Attacked {
    /// The file in `tests/bypass`, without its ending.
    file: String,
    wants: String,
    told: Vec<String>,
    attempts: Vec<Attempt>,
}

#[test]
fn the_threat_model_is_what_the_attacks_are() {
    let doors = doors();
    let template = read("tests/bypass/threat-model.md");
    let with_links = linked(&template, &doors);
    let page = with_links
        .replace(
            "{{doors}}",
            doors.iter().map(rendered).collect::<Vec<_>>().join("\n").trim_end(),
        )
        .replace("{{guards}}", guards_page(&doors).trim_end());
    super::generated::check("docs/threat-model.md", &page);
}

#[test]
fn every_guard_is_attacked_and_every_attack_names_guards_that_are_there() {
    let doors = doors();
    let named = named(&doors);
    let policies = admission_policies();
    for name in named.keys() {
        assert!(
            RULES.iter().any(|rule| rule.name == name)
                || policies.contains(name)
                || is_shipped_policy(name)
                || OTHERS.contains(&name.as_str()),
            "tests/bypass: `{name}` is no rule, no shipped policy, no admission policy of the chart, and none of {OTHERS:?}"
        );
    }
    let refusing = RULES
        .iter()
        .filter(|rule| {
            !WARNS.contains(&rule.name)
                && !SECOND_LINES.contains(&rule.name)
                && rule.doors.iter().any(|door| *door != Door::Standing)
        })
        .map(|rule| rule.name.to_owned());
    for guard in refusing.chain(policies) {
        assert!(
            named.contains_key(&guard),
            "{guard} refuses, and no attack in tests/bypass is said to be held by it"
        );
    }
}

/// `make mutants` takes away what it finds word by word, in an hour that nobody waits for at each change.
#[test]
fn what_the_mutants_take_away_is_where_they_look_for_it() {
    let script = read("tests/bypass/mutants.py");
    let literal = |name: &str| {
        let line = script.lines().find_map(|line| line.strip_prefix(&format!("{name} = ")));
        let line = line.unwrap_or_else(|| panic!("tests/bypass/mutants.py has no {name}"));
        serde_json::from_str::<String>(line).expect("a string as JSON has it")
    };
    let decides = literal("DECIDES");
    let times = read("src/webhook/admit.rs").matches(&decides).count();
    assert_eq!(
        times, 1,
        "src/webhook/admit.rs: where tests/bypass/mutants.py drops refusals"
    );
    for name in admission_policies() {
        let file = format!("{}.yaml", name.trim_start_matches("ringfence-"));
        let folders = ["charts/ringfence/guards", "charts/ringfence/templates"];
        let path = folders.map(|folder| format!("{folder}/{file}"));
        let path = path.iter().find(|path| root().join(path).is_file());
        let path = path.unwrap_or_else(|| panic!("{name} is in no file {file}"));
        let times = read(path).matches("validationActions: [Deny]").count();
        assert_eq!(times, 1, "{path}: what tests/bypass/mutants.py makes an audit");
    }
}

fn is_shipped_policy(name: &str) -> bool {
    let sets = fs::read_dir(root().join("policies")).unwrap();
    sets.into_iter()
        .any(|set| set.unwrap().path().join(name).join("policy.rego").is_file())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The doors, by file name; what has no test is not one.
fn doors() -> Vec<Attacked> {
    let declared = read("tests/bypass/main.rs");
    let mut files: Vec<String> = fs::read_dir(root().join("tests/bypass"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".rs") && name != "main.rs")
        .map(|name| name.trim_end_matches(".rs").to_owned())
        .collect();
    files.sort();
    files
        .into_iter()
        .filter_map(|file| {
            assert!(
                declared.contains(&format!("mod {file};")),
                "tests/bypass/main.rs does not run {file}"
            );
            let text = read(&format!("tests/bypass/{file}.rs"));
            text.contains("#[tokio::test").then(|| parsed(&file, &text))
        })
        .collect()
}

fn parsed(file: &str, text: &str) -> Attacked {
    let header: Vec<&str> = text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .collect();
    let mut paragraphs = header.split(|line| line.is_empty()).map(|lines| lines.join(" "));
    let wants = paragraphs
        .next()
        .and_then(|first| first.strip_prefix("Door: ").map(str::to_owned))
        .unwrap_or_else(|| panic!("tests/bypass/{file}.rs does not begin with `//! Door: `"));
    let told = paragraphs.collect();
    let mut attempts = Vec::new();
    let (mut docs, mut is_test) = (Vec::new(), false);
    for line in text.lines() {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc.trim());
        } else if line.starts_with("#[tokio::test") {
            is_test = true;
        } else if !line.starts_with("#[") {
            if let Some(name) = line.strip_prefix("async fn ").filter(|_| is_test) {
                let name = name.split('(').next().unwrap();
                attempts.push(attempt(file, name, &docs));
            }
            docs.clear();
            is_test = false;
        }
    }
    Attacked {
        file: file.to_owned(),
        wants,
        told,
        attempts,
    }
}

/// The ending goes on until the documentation ends.
fn attempt(file: &str, name: &str, docs: &[&str]) -> Attempt {
    let endings: Vec<_> = docs
        .iter()
        .enumerate()
        .filter_map(|(at, doc)| Some((at, Ending::ALL.iter().find(|(word, _)| doc.starts_with(word))?)))
        .collect();
    let [(at, (word, ending))] = endings[..] else {
        panic!(
            "tests/bypass/{file}.rs: {name} says {} times who holds it, why it is out of scope, or that it is legitimate: say it once",
            endings.len()
        );
    };
    let why = docs[at..].join(" ");
    Attempt {
        name: name.to_owned(),
        told: docs[..at].join(" ").trim().to_owned(),
        ending: *ending,
        why: why.strip_prefix(word).unwrap().trim().to_owned(),
    }
}

fn rendered(door: &Attacked) -> String {
    // What only works is no door.
    let wants = door.wants.strip_prefix("none. ").unwrap_or(&door.wants);
    let mut page = format!("### {}\n\n", upper(wants.trim_end_matches('.')));
    for paragraph in door.told.iter().filter(|paragraph| !paragraph.is_empty()) {
        page += &format!("{paragraph}\n\n");
    }
    for (ending, title) in [
        (Ending::HeldBy, "Held by"),
        (Ending::OutOfScope, "Out of scope"),
        (Ending::Legitimate, "Works"),
    ] {
        for attempt in door.attempts.iter().filter(|attempt| attempt.ending == ending) {
            let told = if attempt.told.is_empty() {
                String::new()
            } else {
                format!(" {}", attempt.told)
            };
            page += &format!(
                "- **{}.**{told} {title}: {} ([{file}](../tests/bypass/{file}.rs))\n",
                attempt.sentence(),
                attempt.why,
                file = door.file,
            );
        }
    }
    page
}

fn upper(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// `{{attack:FILE/NAME}}` becomes a link to that test.
fn linked(template: &str, doors: &[Attacked]) -> String {
    let mut page = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{attack:") {
        let (path, after) = after.split_once("}}").expect("a reference ends with }}");
        let (file, name) = path.split_once('/').expect("FILE/NAME");
        let attempt = doors
            .iter()
            .filter(|door| door.file == file)
            .flat_map(|door| &door.attempts)
            .find(|attempt| attempt.name == name)
            .unwrap_or_else(|| panic!("tests/bypass/threat-model.md names {path}, and no such test is there"));
        page += &format!(
            "{before}[{}](../tests/bypass/{file}.rs)",
            attempt.sentence().to_lowercase()
        );
        rest = after;
    }
    page + rest
}

/// Each rule or admission policy, and the tests that say that it holds them.
fn named(doors: &[Attacked]) -> BTreeMap<String, Vec<(&str, &Attempt)>> {
    let mut named = BTreeMap::<String, Vec<_>>::new();
    for door in doors {
        for attempt in door.attempts.iter().filter(|attempt| attempt.ending == Ending::HeldBy) {
            let guards: Vec<&str> = attempt.why.split('`').skip(1).step_by(2).collect();
            assert!(
                !guards.is_empty(),
                "{}/{} is held by nobody: name a guard in backticks",
                door.file,
                attempt.name
            );
            for guard in guards {
                named
                    .entry(guard.to_owned())
                    .or_default()
                    .push((door.file.as_str(), attempt));
            }
        }
    }
    named
}

fn guards_page(doors: &[Attacked]) -> String {
    let mut page = String::from("| guard | attacks that end there |\n|---|---|\n");
    for (guard, attacks) in named(doors) {
        let links: Vec<String> = attacks
            .iter()
            .map(|(file, attempt)| format!("[{}](../tests/bypass/{file}.rs)", attempt.sentence().to_lowercase()))
            .collect();
        page += &format!("| `{guard}` | {} |\n", links.join("; "));
    }
    page
}

/// The ValidatingAdmissionPolicies of the chart.
fn admission_policies() -> Vec<String> {
    let mut names = Vec::new();
    let guards = fs::read_dir(root().join("charts/ringfence/guards")).unwrap();
    // And the one that holds Ringfence itself, which is not Ringfence's to write.
    let own = root().join("charts/ringfence/templates/own-cluster-network-policies.yaml");
    for path in guards.map(|entry| entry.unwrap().path()).chain([own]) {
        let text = fs::read_to_string(path).unwrap();
        for document in text.split("\n---") {
            if document.contains("kind: ValidatingAdmissionPolicy\n") {
                let (_, after) = document.split_once("\n  name: ").expect("a policy has a name");
                names.push(after.lines().next().unwrap().trim().to_owned());
            }
        }
    }
    assert!(!names.is_empty());
    names
}
