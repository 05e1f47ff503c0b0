//! What of its input a policy may look at, told from its text: a verdict must not rest on what was not there to be looked at.
//!
//! Must never: miss a way to a field. Whatever is not plainly about another field counts as looking at all of them.

use super::rewrite::tokens::Tokens;

/// Fields of the input beside the object itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Looks {
    /// The Namespace.
    pub namespace: bool,
    /// The AIWorkflow.
    pub workflow: bool,
    /// The class.
    pub class: bool,
    /// Who asks.
    pub user: bool,
}

impl Looks {
    const EVERYWHERE: Self = Self {
        namespace: true,
        workflow: true,
        class: true,
        user: true,
    };

    /// What these texts may look at together.
    pub(super) fn of<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        texts.fold(Self::default(), |looks, text| looks.and(Self::of_text(text)))
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            namespace: self.namespace || other.namespace,
            workflow: self.workflow || other.workflow,
            class: self.class || other.class,
            user: self.user || other.user,
        }
    }

    fn of_text(text: &str) -> Self {
        let code = without_comments(text);
        let mut looks = Self::default();
        let mut rest = code.as_str();
        while let Some(at) = rest.find("input") {
            let ahead = rest.get(..at).unwrap_or_default();
            let before = ahead.chars().next_back();
            // `with input as …` puts another in its place, whose parts are looked at where they are taken.
            let is_replaced = ahead.trim_end().ends_with("with");
            rest = rest.get(at + "input".len()..).unwrap_or_default();
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            // `x.input` is a field of something else; `"input"` may be a way around.
            if before.is_some_and(|c| is_part(c) || c == '.') || rest.starts_with(is_part) {
                continue;
            }
            if is_replaced && rest.trim_start().starts_with("as ") {
                continue;
            }
            looks = looks.and(match field(rest) {
                Some("namespace") => Self {
                    namespace: true,
                    ..Self::default()
                },
                Some("workflow") => Self {
                    workflow: true,
                    ..Self::default()
                },
                Some("class") => Self {
                    class: true,
                    ..Self::default()
                },
                // Of the workflow's engine, what the class opens.
                Some("engine") => Self {
                    workflow: true,
                    class: true,
                    ..Self::default()
                },
                Some(_) => Self::default(),
                None => Self::EVERYWHERE,
            });
        }
        // Whatever name the request goes by.
        looks.user |= code.contains("userInfo");
        looks
    }
}

/// The field that is taken of what stands before.
fn field(rest: &str) -> Option<&str> {
    let name = |text: &'_ str| {
        text.find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(text.len())
    };
    if let Some(rest) = rest.strip_prefix('.') {
        let field = rest.get(..name(rest))?;
        return (!field.is_empty()).then_some(field);
    }
    let quoted = rest.strip_prefix("[\"")?;
    let (field, end) = quoted.split_once('"')?;
    (end.starts_with(']') && name(field) == field.len()).then_some(field)
}

/// The text without its comments: between words and signs, a `#` begins one.
fn without_comments(text: &str) -> String {
    let tokens = Tokens::read(text);
    let mut code = String::with_capacity(text.len());
    let mut end = 0;
    for token in (0..tokens.len()).filter_map(|number| tokens.get(number)) {
        let gap = text.get(end..token.start).unwrap_or_default();
        for line in gap.split_inclusive('\n') {
            code.push_str(line.split('#').next().unwrap_or_default());
            if line.contains('#') {
                code.push('\n');
            }
        }
        code.push_str(text.get(token.start..token.end).unwrap_or_default());
        end = token.end;
    }
    code
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn names(text: &str) -> Vec<&'static str> {
        let looks = Looks::of_text(text);
        let all = [
            (looks.namespace, "namespace"),
            (looks.workflow, "workflow"),
            (looks.class, "class"),
            (looks.user, "user"),
        ];
        all.into_iter()
            .filter(|(looks, _)| *looks)
            .map(|(_, name)| name)
            .collect()
    }

    const ALL: [&str; 4] = ["namespace", "workflow", "class", "user"];

    #[rstest]
    #[case::object("deny contains \"x\" if input.review.object.spec.containers[_].image", &[])]
    #[case::its_namespace_by_name("deny contains \"x\" if input.request.namespace == \"a\"", &[])]
    #[case::namespace("x := input.namespace.metadata.labels", &["namespace"])]
    #[case::quoted("x := input[\"workflow\"].spec", &["workflow"])]
    #[case::imported("import input.class as limits", &["class"])]
    #[case::engine("x := input.engine.images", &["workflow", "class"])]
    #[case::several("x := input.namespace\ny := input.class", &["namespace", "class"])]
    #[case::user("x := input.request.userInfo.username", &["user"])]
    #[case::user_by_another_name("r := input.review\nx := r[\"userInfo\"]", &["user"])]
    #[case::replaced("x := data.p.violation with input as {\"review\": input.review}", &[])]
    #[case::replaced_by_all("x := data.p.violation with input as input", &ALL)]
    #[case::bare("x := input", &ALL)]
    #[case::walked("walk(input, [path, value])", &ALL)]
    #[case::by_a_variable("x := input[field]", &ALL)]
    #[case::by_a_longer_text("x := input[concat(\"\", [\"name\", \"space\"])]", &ALL)]
    #[case::spelt_apart("x := input\n.namespace", &ALL)]
    #[case::in_a_comment("x := 1 # input.namespace, \"input\n# input", &[])]
    #[case::sign_in_a_text("x := \"#\"; y := input.namespace", &["namespace"])]
    #[case::sign_in_a_raw_text("x := `#`; y := input.namespace", &["namespace"])]
    #[case::other_names("x := my_input.namespace; y := inputs; z := data.input.namespace", &[])]
    fn what_a_text_looks_at(#[case] text: &str, #[case] expected: &[&str]) {
        assert_eq!(names(text), expected);
    }
}
