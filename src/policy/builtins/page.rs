//! The page `docs/rego-support.md`: what is claimed, from the tables that decide it.

use super::{ENGINES, REFUSED, builtin_functions};

/// Markdown of the page.
pub fn render_support() -> String {
    let mut page = String::from(include_str!("page.md"));
    page.push_str("\n## Built-in functions\n\n`ours` is written for Ringfence, `engine` is the engine's own. Both are compared with OPA.\n\n");
    page.push_str("| function | by |\n|---|---|\n");
    for name in builtin_functions() {
        let by = if ENGINES.contains(&name) { "engine" } else { "ours" };
        page.push_str(&format!("| `{name}` | {by} |\n"));
    }
    page.push_str("\n## Refused by name\n\n| function | why, and what to use |\n|---|---|\n");
    for (name, _, why) in REFUSED {
        page.push_str(&format!("| `{name}` | {why} |\n"));
    }
    page.push_str(
        "\nEvery other function of OPA is refused when the policy is loaded, too: there is no such function here.\n",
    );
    page
}
