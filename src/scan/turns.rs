//! How long the background scan looks at one namespace, and which come first: one whose objects take long to judge keeps nobody else waiting.
//!
//! Must never: leave a namespace out for good, or let what was not looked at pass for what fits.

use std::time::Duration;

use tokio::time::Instant;

/// Longest look at one namespace, half of which is rest: some ten thousand pods.
const OF_ONE: Duration = Duration::from_secs(120);

/// The turns of a scan after the other.
pub(super) struct Turns {
    of_one: Duration,
    of_late: Duration,
    /// Namespaces that the last scans did not come to the end of, in the order in which they are looked at next.
    late: Vec<String>,
}

impl Turns {
    /// Late namespaces, all together, hold up the others for no longer than the pause between two scans.
    pub(super) fn new(period: Duration) -> Self {
        Self::of(OF_ONE, period)
    }

    pub(super) fn of(of_one: Duration, of_late: Duration) -> Self {
        Self {
            of_one,
            of_late,
            late: Vec::new(),
        }
    }

    /// Those that were late come last, each by itself in its turn.
    pub(super) fn sort<T>(&mut self, namespaces: &mut [T], name: impl Fn(&T) -> &str) {
        self.late
            .retain(|late| namespaces.iter().any(|namespace| name(namespace) == late));
        let place = |namespace: &T| self.late.iter().position(|late| late == name(namespace));
        // Whatever has no place is less than whatever has one.
        namespaces.sort_by_key(place);
    }

    pub(super) fn is_late(&self, namespace: &str) -> bool {
        self.late.iter().any(|late| late == namespace)
    }

    /// When the look at late namespaces that begins now ends: none starts after that.
    pub(super) fn late_until(&self) -> Instant {
        Instant::now() + self.of_late
    }

    /// When a look that begins now ends.
    pub(super) fn until(&self) -> Instant {
        Instant::now() + self.of_one
    }

    /// What became of a look: one that came to no end has its next turn after all others.
    pub(super) fn looked(&mut self, namespace: &str, is_cut: bool) {
        self.late.retain(|late| late != namespace);
        if is_cut {
            self.late.push(namespace.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(turns: &mut Turns, names: &[&'static str]) -> Vec<&'static str> {
        let mut names = names.to_vec();
        turns.sort(&mut names, |name| name);
        names
    }

    #[test]
    fn who_was_late_comes_last_and_takes_turns() {
        let mut turns = Turns::new(Duration::from_secs(300));
        assert_eq!(sorted(&mut turns, &["a", "b", "c"]), ["a", "b", "c"]);
        turns.looked("a", true);
        turns.looked("b", true);
        turns.looked("c", false);
        assert_eq!(sorted(&mut turns, &["a", "b", "c", "d"]), ["c", "d", "a", "b"]);
        // Time was enough for one of the two.
        turns.looked("a", true);
        assert_eq!(sorted(&mut turns, &["a", "b", "c", "d"]), ["c", "d", "b", "a"]);
        turns.looked("b", false);
        assert_eq!(sorted(&mut turns, &["a", "b", "c"]), ["b", "c", "a"]);
        assert!(turns.is_late("a") && !turns.is_late("b"));
    }

    #[test]
    fn namespaces_that_are_gone_are_forgotten() {
        let mut turns = Turns::new(Duration::from_secs(300));
        turns.looked("a", true);
        assert_eq!(sorted(&mut turns, &["b"]), ["b"]);
        assert!(!turns.is_late("a"));
    }
}
