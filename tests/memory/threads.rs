//! The count of what the process holds stays nearly right over many threads: what is wrong in the end is corrected from outside.

use std::sync::mpsc;
use std::thread;

use ringfence::policy::{count_thread, counted_memory};

use super::alone;

/// What an ended thread may leave wrong, in bytes: what it frees after it was counted. Without counting it would be all that it
/// allocated for others, up to 1 MiB.
const LEFT: u64 = 2048;

#[test]
fn what_threads_allocate_for_each_other_is_counted() {
    let _alone = alone();
    let rounds = |count: usize| {
        for _ in 0..count {
            let (give, take) = mpsc::channel::<Vec<u8>>();
            // One allocates what the other frees; both go.
            let giver = thread::spawn(move || {
                give.send(vec![0; 300_000]).expect("somebody listens");
                count_thread();
            });
            let taker = thread::spawn(move || {
                drop(take.recv().expect("something comes"));
                count_thread();
            });
            giver.join().expect("no panic");
            taker.join().expect("no panic");
        }
    };
    rounds(10);
    let before = counted_memory();
    rounds(2000);
    let wrong = counted_memory().abs_diff(before);
    assert!(wrong < 4000 * LEFT, "{wrong} bytes over 4000 threads");
}
