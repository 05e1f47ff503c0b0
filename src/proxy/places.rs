//! How many there may be at a time: in all, of one address, of one namespace, and of those whom nobody knows.
//!
//! A namespace has at most as many as are still free: alone it gets half of them, and the next one half of the rest. That ends somewhere, so of the last
//! eighth one that has none gets one, and no other more than an eighth of what is left. Must never: make somebody wait, or count one that is gone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::egress::Workflow;

/// The part of all that is kept for those who have none.
const FOR_THE_FIRST: usize = 8;
/// Of what those have whom nobody knows, one address may have this part: the others of them may be pods that are new.
const OF_ONE_STRANGER: usize = 8;

/// The most that there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    pub(super) all: usize,
    /// Of one address.
    pub(super) of_one: usize,
    /// Of all addresses that are no workflow's: whoever cannot be told apart shares.
    pub(super) of_strangers: usize,
}

#[derive(Debug)]
pub(super) struct Places {
    most: Most,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    strangers: usize,
    of_address: HashMap<IpAddr, usize>,
    of_namespace: HashMap<String, usize>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    address: IpAddr,
    /// Empty: a stranger's.
    whose: OnceLock<Arc<Workflow>>,
}

/// Whether a namespace that has so many may have one more, where there are so many in all.
pub(super) fn has_room_for_one(of_namespace: usize, all: usize, most: usize) -> bool {
    let free = most.saturating_sub(all);
    match of_namespace {
        0 => free > 0,
        // Who comes late has a part of that, too: it is kept from those who took the rest.
        some => some < free && (free > most / FOR_THE_FIRST || some < free / FOR_THE_FIRST),
    }
}

impl Places {
    pub(super) fn new(most: Most) -> Arc<Self> {
        Arc::new(Self {
            most,
            taken: Mutex::default(),
        })
    }

    /// `whose`: whose pod has the address, where that is known.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr, whose: Option<&Arc<Workflow>>) -> Option<Place> {
        let address = address.to_canonical();
        let mut taken = self.lock();
        let of_one = taken.of_address.get(&address).copied().unwrap_or_default();
        let most_of_one = match whose {
            Some(_) => self.most.of_one,
            None => self.most.of_strangers.div_ceil(OF_ONE_STRANGER).min(self.most.of_one),
        };
        if of_one >= most_of_one || !taken.has_room_for(whose, &self.most) {
            return None;
        }
        taken.all += 1;
        taken.of_address.insert(address, of_one + 1);
        taken.add(whose);
        Some(Place {
            places: Arc::clone(self),
            address,
            whose: whose
                .map(|workflow| OnceLock::from(Arc::clone(workflow)))
                .unwrap_or_default(),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().all == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn has_room_for(&self, whose: Option<&Arc<Workflow>>, most: &Most) -> bool {
        match whose {
            Some(workflow) => has_room_for_one(self.of(&workflow.namespace), self.all, most.all),
            // They may be many namespaces', and one's. None of them is the first of any.
            None => {
                let free = most.all.saturating_sub(self.all);
                self.strangers < free.min(most.of_strangers) && free > most.all / FOR_THE_FIRST
            }
        }
    }

    fn of(&self, namespace: &str) -> usize {
        self.of_namespace.get(namespace).copied().unwrap_or_default()
    }

    fn add(&mut self, whose: Option<&Arc<Workflow>>) {
        let Some(workflow) = whose else {
            self.strangers += 1;
            return;
        };
        match self.of_namespace.get_mut(&workflow.namespace) {
            Some(of_namespace) => *of_namespace += 1,
            None => drop(self.of_namespace.insert(workflow.namespace.clone(), 1)),
        }
    }
}

impl Place {
    /// That it is this workflow's, where it was a stranger's. `false`: its namespace may have no more.
    pub(super) fn is_of(&self, workflow: &Arc<Workflow>) -> bool {
        let mut taken = self.places.lock();
        if self.whose.get().is_some() {
            return true;
        }
        // Where it is the first, it has it already.
        let is_first = taken.of(&workflow.namespace) == 0;
        let has_room = is_first || taken.has_room_for(Some(workflow), &self.places.most);
        if has_room && self.whose.set(Arc::clone(workflow)).is_ok() {
            taken.strangers = taken.strangers.saturating_sub(1);
            taken.add(Some(workflow));
        }
        has_room
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all = taken.all.saturating_sub(1);
        let of_one = taken.of_address.get(&self.address).copied().unwrap_or_default();
        match of_one {
            0 | 1 => drop(taken.of_address.remove(&self.address)),
            more => drop(taken.of_address.insert(self.address, more - 1)),
        }
        let Some(workflow) = self.whose.get() else {
            taken.strangers = taken.strangers.saturating_sub(1);
            return;
        };
        match taken.of_namespace.get_mut(&workflow.namespace) {
            Some(more) if *more > 1 => *more -= 1,
            _ => drop(taken.of_namespace.remove(&workflow.namespace)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most(all: usize, of_one: usize, of_strangers: usize) -> Most {
        Most {
            all,
            of_one,
            of_strangers,
        }
    }

    fn of(namespace: &str) -> Arc<Workflow> {
        Arc::new(Workflow {
            namespace: namespace.to_owned(),
            name: "triage".to_owned(),
        })
    }

    fn address(last: usize) -> IpAddr {
        [10, 0, (last / 256) as u8, (last % 256) as u8].into()
    }

    /// So many as there are, of an address for each.
    fn all(places: &Arc<Places>, whose: Option<&Arc<Workflow>>) -> Vec<Place> {
        (0..1_000).map_while(|last| places.take(address(last), whose)).collect()
    }

    fn is_empty(places: &Places) -> bool {
        let taken = places.lock();
        (taken.all, taken.strangers) == (0, 0) && taken.of_address.is_empty() && taken.of_namespace.is_empty()
    }

    #[test]
    fn there_are_so_many_of_one_address() {
        let places = Places::new(most(100, 2, 100));
        let one = Some(of("a"));
        let taken = [(); 2].map(|()| places.take(address(1), one.as_ref()).unwrap());
        assert!(places.take(address(1), one.as_ref()).is_none());
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        assert!(
            places.take(mapped, one.as_ref()).is_none(),
            "written in another way it is the same"
        );
        drop(places.take(address(2), one.as_ref()).unwrap());
        drop(taken);
        assert!(is_empty(&places));
    }

    #[test]
    fn there_are_so_many_in_all() {
        let places = Places::new(most(3, 2, 2));
        let namespaces = ["a", "b", "c", "d"].map(of);
        let held = [0, 1, 2].map(|at| places.take(address(at), Some(&namespaces[at])).unwrap());
        assert!(places.take(address(3), Some(&namespaces[3])).is_none());
        assert!(places.take(address(3), None).is_none());
        drop(held);
        assert!(is_empty(&places));
    }

    #[test]
    fn namespaces_that_take_all_they_can_leave_something() {
        let places = Places::new(most(120, 120, 0));
        let alone = all(&places, Some(&of("a")));
        assert_eq!(alone.len(), 60, "half");
        drop(alone);
        let greedy: Vec<_> = (0..5).map(|number| of(&format!("greedy-{number}"))).collect();
        let mut held = Vec::new();
        // Each in its turn, until nobody gets one.
        loop {
            let more: Vec<_> = greedy
                .iter()
                .filter_map(|namespace| places.take(address(held.len()), Some(namespace)))
                .collect();
            if more.is_empty() {
                break;
            }
            held.extend(more);
        }
        assert_eq!(held.len(), 100, "a sixth each");
        assert!(!all(&places, Some(&of("victim"))).is_empty());
        drop(held);
        assert!(is_empty(&places));
    }

    #[test]
    fn where_others_take_one_after_another_what_is_left_there_is_one_for_each() {
        let places = Places::new(most(64, 64, 64));
        let mut held = Vec::new();
        let taken: Vec<_> = (0..7)
            .map(|number| {
                let taken = all(&places, Some(&of(&format!("greedy-{number}"))));
                let many = taken.len();
                held.extend(taken);
                many
            })
            .collect();
        assert_eq!(taken, [32, 16, 8, 1, 1, 1, 1]);
        assert!(places.take(address(1), None).is_none(), "who has none is known");
        let victim = of("victim");
        let first = places.take(address(1), Some(&victim)).expect("one");
        assert!(places.take(address(1), Some(&victim)).is_none(), "others may have none");
        drop(first);
        assert!(places.take(address(1), Some(&victim)).is_some());
        drop(held);
        assert!(is_empty(&places));
    }

    #[test]
    fn what_three_leave_is_more_than_one_for_each_of_the_others() {
        let places = Places::new(most(1024, 1024, 1024));
        let many = |name: &str| all(&places, Some(&of(name)));
        let greedy: Vec<_> = ["dev", "stage", "prod"].map(many).into();
        let left: Vec<_> = (0..8).map(|number| many(&format!("other-{number}"))).collect();
        let counts: Vec<_> = left.iter().map(Vec::len).collect();
        assert_eq!(greedy.iter().map(Vec::len).collect::<Vec<_>>(), [512, 256, 128]);
        assert!(counts.iter().all(|count| *count > 5), "{counts:?}");
    }

    #[test]
    fn whom_nobody_knows_has_few_and_one_address_fewer() {
        let places = Places::new(most(1_000, 100, 32));
        let strangers = all(&places, None);
        assert_eq!(strangers.len(), 32);
        assert!(
            places.take(address(999), Some(&of("a"))).is_some(),
            "who is known is unharmed"
        );
        drop(strangers);
        let one: Vec<_> = (0..100).map_while(|_| places.take(address(1), None)).collect();
        assert_eq!(one.len(), 4);
        drop(one);
        let few = Places::new(most(8, 8, 32));
        assert_eq!(all(&few, None).len(), 4, "they leave as much as a namespace does");
    }

    #[test]
    fn who_becomes_known_is_a_stranger_no_more() {
        let places = Places::new(most(6, 6, 2));
        let new = all(&places, None);
        assert_eq!(new.len(), 2);
        assert!(new.iter().all(|place| place.is_of(&of("a")) && place.is_of(&of("a"))));
        let others = [11, 12].map(|last| places.take(address(last), None).expect("theirs are free again"));
        assert!(others[0].is_of(&of("b")));
        assert!(!others[1].is_of(&of("a")), "its namespace has what it may");
        drop((new, others));
        assert!(is_empty(&places));
    }
}
