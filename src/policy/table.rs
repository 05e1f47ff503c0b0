//! The table of policies in `policies/README.md`, from METADATA.

use super::compile::PolicyInfo;

/// Markdown of the page.
pub fn render<'a>(policies: impl Iterator<Item = &'a PolicyInfo>) -> String {
    let mut policies: Vec<_> = policies.collect();
    policies.sort_by(|a, b| a.file.cmp(&b.file));
    let mut page = String::from(
        "# Policies\n\n\
         Generated from the policies' METADATA by `UPDATE_GENERATED=1 cargo test --test policies`. Do not edit.\n\n\
         | policy | judges | severity | what it demands | parameters (default) |\n|---|---|---|---|---|\n",
    );
    for policy in &policies {
        let metadata = &policy.metadata;
        let parameters: Vec<_> = metadata
            .parameters
            .iter()
            .map(|(name, default)| format!("`{name}` (`{default}`)"))
            .collect();
        let link = policy.file.strip_prefix("policies/").unwrap_or(&policy.file);
        page.push_str(&format!(
            "| [`{}`]({link}) | {} | {} | {} | {} |\n",
            cell(&metadata.name),
            metadata.target.as_str(),
            metadata.severity.as_str(),
            cell(&metadata.description),
            cell(&parameters.join(", ")),
        ));
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
         #   scope: pod                     # pod, namespace\n\
         #   controls: []                   # optional\n\
         #   parameters: {allowed: []}      # optional; defaults of input.parameters\n\
         #   rego: v1                       # optional; v1, v0\n\
         package registries\n\
         ```\n",
    );
    page
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
