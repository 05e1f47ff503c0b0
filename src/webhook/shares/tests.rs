use futures::FutureExt;

use super::*;

fn shares() -> Shares {
    Shares::new(&Limits {
        bodies_of_one: 4 << 10,
        reviews_of_one: 8 << 10,
        evaluations_of_one: 2,
        in_flight_of_one: 2,
        ..Limits::default()
    })
}

fn body(shares: &Shares, namespace: &str, user: &str, kib: usize) -> Result<Body, Full> {
    shares.body(&shares.of(namespace, user), kib << 10)
}

/// A place to be evaluated, where there is one now.
fn evaluated(share: &Share) -> Option<Place> {
    share.evaluation().now_or_never().flatten()
}

/// However many one user sends, a launcher's reviews are answered.
#[tokio::test]
async fn one_user_takes_half_of_what_is_in_flight_and_evaluated() {
    let shares = shares();
    let (tess, lea) = (shares.of("a", "tess"), shares.of("a", "lea"));
    let held = (tess.in_flight().unwrap(), evaluated(&tess).unwrap());
    assert_eq!(tess.in_flight().err(), Some(Full::User));
    assert!(evaluated(&tess).is_none());
    let other = (lea.in_flight().unwrap(), evaluated(&lea).unwrap());
    let eve = shares.of("a", "eve");
    assert_eq!(eve.in_flight().err(), Some(Full::Namespace));
    assert!(evaluated(&eve).is_none());
    assert!(shares.of("b", "tess").in_flight().is_ok());
    drop((held, other));
    assert!(tess.in_flight().is_ok() && evaluated(&tess).is_some());
}

#[tokio::test]
async fn a_namespace_has_its_share_and_no_other_ones() {
    let shares = shares();
    let evaluated = |namespace: &str, user: &str| evaluated(&shares.of(namespace, user));
    let held = [evaluated("a", "ann").unwrap(), evaluated("a", "bob").unwrap()];
    assert!(evaluated("a", "cat").is_none());
    assert!(evaluated("b", "ann").is_some());
    drop(held);
    assert!(evaluated("a", "cat").is_some());
}

/// However much is written into a namespace, its class is set.
#[tokio::test]
async fn who_fills_a_namespaces_share_keeps_nobody_from_changing_the_namespace() {
    let shares = shares();
    let held = (
        body(&shares, "a", "ann", 2).unwrap(),
        body(&shares, "a", "bob", 2).unwrap(),
        [
            evaluated(&shares.of("a", "ann")).unwrap(),
            evaluated(&shares.of("a", "bob")).unwrap(),
        ],
    );
    assert_eq!(body(&shares, "a", "cat", 1).err(), Some(Full::Namespace));
    let changes = shares.of_modes("a", "ann");
    assert!(shares.body(&changes, usize::MAX).is_ok());
    assert!(evaluated(&changes).is_some());
    // One namespace's changes wait for no other one's.
    let other = evaluated(&shares.of_modes("b", "ann"));
    assert!(evaluated(&shares.of_modes("a", "ann")).is_some());
    drop((held, other));
}

/// Whatever somebody may write in no namespace, nobody else's is kept waiting by it.
#[tokio::test]
async fn what_lies_in_no_namespace_is_each_users_own() {
    let shares = shares();
    let held = evaluated(&shares.of("", "tess")).unwrap();
    assert!(evaluated(&shares.of("", "tess")).is_none());
    assert!(evaluated(&shares.of("", "admin")).is_some());
    // Nor is that of a namespace, or of its changes, however the user is called.
    for user in ["a", "/a", ""] {
        let of_user = evaluated(&shares.of("", user)).unwrap();
        assert!(evaluated(&shares.of("a", "x")).is_some());
        assert!(evaluated(&shares.of_modes("a", "x")).is_some());
        drop(of_user);
    }
    drop(held);
}

#[tokio::test]
async fn one_user_takes_half_of_a_namespaces_room_for_bodies() {
    let shares = shares();
    let held = [
        body(&shares, "a", "tess", 1).unwrap(),
        body(&shares, "a", "tess", 1).unwrap(),
    ];
    assert_eq!(body(&shares, "a", "tess", 0).err(), Some(Full::User));
    let other = body(&shares, "a", "lea", 2).unwrap();
    assert_eq!(body(&shares, "a", "eve", 0).err(), Some(Full::Namespace));
    assert!(body(&shares, "b", "tess", 2).is_ok());
    drop((held, other));
    assert!(body(&shares, "a", "tess", 2).is_ok());
}

#[tokio::test]
async fn the_largest_body_comes_alone_and_leaves_half_to_others() {
    let shares = shares();
    let held = body(&shares, "a", "tess", 1 << 20).unwrap();
    assert_eq!(body(&shares, "a", "tess", 0).err(), Some(Full::User));
    assert_eq!(body(&shares, "a", "lea", 1 << 20).err(), Some(Full::Namespace));
    assert!(body(&shares, "a", "lea", 2).is_ok());
    drop(held);
    assert!(body(&shares, "a", "lea", 1 << 20).is_ok());
}

#[tokio::test]
async fn the_heaviest_review_comes_alone() {
    let shares = shares();
    assert_eq!([0, 7, 9].map(|kib| shares.weight_parsed(kib)), [1, 7, 8]);
    let whole = shares.weight_parsed(usize::MAX);
    let reviews = |namespace: &str| shares.of(namespace, "ann").all.reviews;
    let held = reviews("a").try_acquire_many_owned(whole).unwrap();
    assert!(reviews("a").try_acquire_many_owned(1).is_err());
    assert!(reviews("b").try_acquire_many_owned(1).is_ok());
    drop(held);
}

#[tokio::test]
async fn namespaces_and_users_that_hold_nothing_are_forgotten_and_others_are_not() {
    let shares = shares();
    let room = |at: usize| {
        let share = shares.of(&format!("holds-{at}"), "ann");
        let mut rooms = share.user.each().into_iter().chain(share.all.each());
        rooms.nth(at).map(Arc::clone).unwrap()
    };
    let held = [0, 1, 2, 3, 4, 5, 6, 7].map(|at| {
        let room = room(at);
        let all = u32::try_from(room.available_permits()).unwrap();
        room.try_acquire_many_owned(all).unwrap()
    });
    for number in 0..10 * REMEMBERED {
        drop(shares.of(&format!("n{number}"), &format!("u{number}")));
    }
    assert!(shares.of.lock().unwrap().len() <= REMEMBERED + held.len());
    assert!(shares.of_users.lock().unwrap().len() <= REMEMBERED + held.len());
    for at in 0..held.len() {
        assert!(
            room(at).try_acquire_owned().is_err(),
            "holds-{at} still holds what it held"
        );
    }
}
