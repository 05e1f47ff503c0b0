//! What memory there is for policies at request time.
//!
//! The engine's allocator counts what the process has allocated and not freed, whoever did. The engine looks at that between its own
//! steps, and our functions look at it too: beyond the limit, each evaluation that looks ends with an error, and lets go of what it
//! holds. So one that eats all there is may take innocent ones along, and the process lives.
//!
//! Must never: blame a policy for what others hold, or let one step take so much that the next look comes too late: functions
//! bound what they make.

use regorus::LimitError;

use super::error::EvalError;

/// Environment of a process whose memory is limited: its allocator takes memory as it is needed and gives it back as it is freed, so
/// that the system counts about what is counted here. By itself it was seen to hold two and a half times as much.
pub const ALLOCATOR: [(&str, &str); 4] = [
    ("MIMALLOC_ALLOW_THP", "0"),
    ("MIMALLOC_ARENA_EAGER_COMMIT", "0"),
    ("MIMALLOC_EAGER_COMMIT", "0"),
    ("MIMALLOC_PURGE_DELAY", "0"),
];

/// What an evaluation may have taken and still not be the one that used up the memory. A usual one takes a few MiB.
const HARMLESS: i64 = 32 << 20;

/// How the engine begins to say that there is no memory left, where nothing but its words is left of an error.
const WORDS: &str = "execution exceeded memory limit (usage=";

/// Ends evaluations while the process holds more than that, in bytes, until another limit is set.
pub fn limit_memory(bytes: u64) {
    regorus::set_global_memory_limit(Some(bytes));
}

/// What is counted for the whole process, in bytes.
pub fn counted_memory() -> u64 {
    regorus_mimalloc::global_allocation_stats_snapshot().allocated
}

/// Counts in what this thread has allocated and freed. A thread that ends without it takes up to 1 MiB of that along. What it frees
/// after that, some hundred bytes, is never counted as freed.
pub fn count_thread() {
    regorus::flush_thread_memory_counters();
}

/// Whether there is memory left; the error names no values.
pub(super) fn room() -> anyhow::Result<()> {
    Ok(regorus::enforce_memory_limit()?)
}

/// Whether that is what the engine says when no memory is left.
pub(super) fn is_shortage(cause: &LimitError) -> bool {
    matches!(cause, LimitError::MemoryLimitExceeded { .. })
}

/// The same of the words in which it passes on what a function of ours says.
pub(super) fn says_shortage(message: &str) -> bool {
    message.starts_with(WORDS)
}

/// What this thread holds, to tell what an evaluation on it takes.
pub(super) struct Before {
    live: i64,
    peak: i64,
}

impl Before {
    pub(super) fn now() -> Self {
        let (live, peak) = held();
        Self { live, peak }
    }

    /// Says whose fault a shortage is, where that is known.
    pub(super) fn blame(&self, error: EvalError) -> EvalError {
        let taken = self.taken();
        match error {
            EvalError::NoMemory if taken > HARMLESS => EvalError::Memory {
                mebibytes: taken.unsigned_abs() >> 20,
            },
            other => other,
        }
    }

    /// The most that was taken since, as far as it can be told: a peak that an earlier evaluation reached hides lower ones.
    fn taken(&self) -> i64 {
        let (live, peak) = held();
        let most = if peak > self.peak { peak } else { live };
        most - self.live
    }
}

fn held() -> (i64, i64) {
    let stats = regorus_mimalloc::current_thread_allocation_stats();
    (stats.allocated, stats.peak)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_blamed_on_who_took_much_alone() {
        let before = Before::now();
        assert_eq!(before.blame(EvalError::NoMemory), EvalError::NoMemory);
        let taken = vec![0_u8; 40 << 20];
        assert_eq!(before.blame(EvalError::Timeout), EvalError::Timeout);
        let blamed = before.blame(EvalError::NoMemory);
        assert!(matches!(blamed, EvalError::Memory { mebibytes: 40.. }), "{blamed:?}");
        drop(taken);
        let blamed = before.blame(EvalError::NoMemory);
        assert!(
            matches!(blamed, EvalError::Memory { .. }),
            "what was let go counts: {blamed:?}"
        );
        assert_eq!(Before::now().blame(EvalError::NoMemory), EvalError::NoMemory);
    }

    #[test]
    fn the_engine_says_it_in_these_words() {
        let error = LimitError::MemoryLimitExceeded { usage: 2, limit: 1 };
        assert!(is_shortage(&error) && says_shortage(&error.to_string()), "{error}");
    }
}
