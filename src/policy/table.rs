//! The table of policies in `policies/README.md`, from METADATA.

use super::compile::PolicyInfo;
use super::library::Set;

/// Markdown of the page: every set with its policies. `policies` are those of all sets.
pub fn render<'a>(sets: &[Set], policies: impl Iterator<Item = &'a PolicyInfo>) -> String {
    let mut policies: Vec<_> = policies.collect();
    policies.sort_by(|a, b| a.file.cmp(&b.file));
    let mut page = String::from(
        "# Policies\n\n\
         Generated from the policies' METADATA by `UPDATE_GENERATED=1 cargo test --test policies`. Do not edit.\n\n\
         Each folder is a set: `--policies` of `ringfence run`, `review`, `check` and `scan` takes its name, more than once.\n",
    );
    for set in sets {
        let folder = format!("policies/{}/", set.name);
        page.push_str(&format!(
            "\n## {}: {}\n\n{}\n",
            set.name, set.info.title, set.info.description
        ));
        if !set.info.includes.is_empty() {
            page.push_str(&format!(
                "It adds to {}, which comes along.\n",
                set.info.includes.join(", ")
            ));
        }
        page.push_str(
            "\n| policy | judges | severity | what it demands | parameters (default) |\n|---|---|---|---|---|\n",
        );
        let own = policies.iter().filter(|policy| policy.file.starts_with(&folder));
        own.for_each(|policy| page.push_str(&row(policy)));
    }
    page.push_str("\n## What to do when one refuses\n\n");
    for policy in &policies {
        let metadata = &policy.metadata;
        page.push_str(&format!(
            "**{}** (`{}`): {}\n",
            metadata.title, metadata.name, metadata.remediation
        ));
        if !metadata.controls.is_empty() {
            page.push_str(&format!("Controls: {}.\n", metadata.controls.join(", ")));
        }
        page.push('\n');
    }
    page.push_str(
        "## METADATA\n\n\
         Each policy starts with a block of comments right above `package`, and a `policy_test.rego` beside it holds its tests:\n\n\
         ```rego\n\
         # METADATA\n\
         # title: Approved registries\n\
         # description: Images come from the approved registries.\n\
         # custom:\n\
         #   name: approved-registries      # DNS label; named in refusals, parameters and metrics\n\
         #   severity: high                 # low, medium, high, critical\n\
         #   remediation: Use an image of an approved registry.\n\
         #   scope: pod                     # pod, namespace, object\n\
         #   match: {resourceRules: []}     # for objects: as spec.matchConstraints of a RegoPolicy\n\
         #   controls: []                   # optional\n\
         #   parameters: {allowed: []}      # optional; defaults of input.parameters\n\
         #   rego: v1                       # optional; v1, v0\n\
         package registries\n\
         ```\n",
    );
    page
}

fn row(policy: &PolicyInfo) -> String {
    let metadata = &policy.metadata;
    let parameters: Vec<_> = metadata
        .parameters
        .iter()
        .map(|(name, default)| format!("`{name}` (`{default}`)"))
        .collect();
    let resources = metadata
        .match_constraints
        .iter()
        .flat_map(|constraints| &constraints.resource_rules);
    let resources: Vec<&str> = resources.flat_map(|rule| &rule.resources).map(String::as_str).collect();
    let judged = match resources.as_slice() {
        [] => metadata.target.as_str().to_owned(),
        resources => resources.join(", "),
    };
    let link = policy.file.strip_prefix("policies/").unwrap_or(&policy.file);
    format!(
        "| [`{}`]({link}) | {} | {} | {} | {} |\n",
        cell(&metadata.name),
        cell(&judged),
        metadata.severity.as_str(),
        cell(&metadata.description),
        cell(&parameters.join(", ")),
    )
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
