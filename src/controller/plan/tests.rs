use super::*;

const HASH: &str = "hash";

fn at(minutes: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + chrono::TimeDelta::minutes(minutes)
}

fn secret() -> SecretFacts {
    SecretFacts {
        uid: "secret-uid".into(),
        resource_version: "7".into(),
        owner_uid: Some("uid".into()),
        owner_name: Some("app".into()),
        retained: false,
        issued_at: Some(at(0)),
        expiration: Some(at(60)),
        inputs_hash: Some(HASH.into()),
        data_hash: Some("data".into()),
        refresh_answered: None,
        fallback: None,
        foreign_data: false,
        own_keys: 7,
    }
}

fn failing(until: i64) -> Memory {
    Memory {
        failing: Some(Box::new(Failing {
            problem: Problem::new(Reason::NotTrusted, "x"),
            count: 1,
            since: at(0),
            not_before: at(until),
            attempt: HASH.into(),
        })),
        ..Memory::default()
    }
}

fn decide_with(
    minutes: i64,
    secret: Option<&SecretFacts>,
    requested: Option<&str>,
    memory: &Memory,
    hash: &str,
) -> Decision {
    decide(&Observed {
        now: at(minutes),
        inputs_hash: hash,
        attempt: hash,
        refresh_requested: requested,
        ..observed(secret, memory)
    })
}

fn observed<'a>(secret: Option<&'a SecretFacts>, memory: &'a Memory) -> Observed<'a> {
    Observed {
        now: at(1),
        name: "app",
        uid: "uid",
        inputs_hash: HASH,
        attempt: HASH,
        oidc_works: false,
        keys: 7,
        refresh_requested: None,
        secret_name: "app-credentials",
        deletion_policy: DeletionPolicy::Delete,
        issued_before: true,
        rival: None,
        secret,
        memory,
    }
}

fn kept() -> SecretFacts {
    SecretFacts {
        retained: true,
        ..secret()
    }
}

#[test]
fn a_changed_deletion_policy_changes_the_owner_and_costs_no_exchange() {
    let memory = failing(100);
    for (secret, deletion_policy) in [
        (secret(), DeletionPolicy::Retain),
        (kept(), DeletionPolicy::Delete),
    ] {
        let seen = Observed {
            deletion_policy,
            ..observed(Some(&secret), &memory)
        };
        assert_eq!(decide(&seen), Decision::ChangeOwner);
    }
}

#[test]
fn what_an_earlier_binding_of_the_name_left_is_taken_over_by_an_exchange() {
    let none = Memory::default();
    let left = SecretFacts {
        owner_uid: Some("earlier".into()),
        ..kept()
    };
    assert_eq!(
        decide(&observed(Some(&left), &none)),
        Decision::Exchange(Cause::Inherited)
    );
    let of_another = SecretFacts {
        owner_name: Some("other".into()),
        ..left
    };
    let Decision::Conflict(problem) = decide(&observed(Some(&of_another), &none)) else {
        panic!("taken from another")
    };
    assert!(
        problem.message.contains("kept for other"),
        "{}",
        problem.message
    );
}

#[test]
fn marks_that_nobody_remembers_are_not_believed() {
    let none = Memory::default();
    let secret = secret();
    let unproven = Observed {
        issued_before: false,
        ..observed(Some(&secret), &none)
    };
    assert_eq!(decide(&unproven), Decision::Exchange(Cause::Unproven));
    // The status could not be written, but this process knows what it did.
    let memory = Memory {
        written: Some("secret-uid".into()),
        ..Memory::default()
    };
    let seen = Observed {
        memory: &memory,
        ..unproven
    };
    assert!(matches!(decide(&seen), Decision::Fresh { .. }));
}

#[test]
fn oidc_takes_over_from_the_fallback_as_soon_as_it_works() {
    let none = Memory::default();
    let by_node = SecretFacts {
        fallback: Some(Reason::IssuerBroken),
        ..secret()
    };
    let seen = observed(Some(&by_node), &none);
    assert!(matches!(decide(&seen), Decision::Fresh { .. }));
    let works = Observed {
        oidc_works: true,
        ..seen
    };
    assert_eq!(decide(&works), Decision::Exchange(Cause::OidcWorks));
    let by_oidc = secret();
    let works = Observed {
        secret: Some(&by_oidc),
        ..works
    };
    assert!(matches!(decide(&works), Decision::Fresh { .. }));
}

#[test]
fn a_rival_counts_only_where_nobody_owns_the_secret() {
    let none = Memory::default();
    let seen = Observed {
        rival: Some("older"),
        ..observed(None, &none)
    };
    let Decision::Conflict(problem) = decide(&seen) else {
        panic!("made in spite of the rival")
    };
    assert!(problem.message.contains("older"), "{}", problem.message);
    let secret = secret();
    let seen = Observed {
        secret: Some(&secret),
        ..seen
    };
    assert!(matches!(decide(&seen), Decision::Fresh { .. }));
}

#[test]
fn a_fresh_secret_needs_nothing_until_it_is_due() {
    let none = Memory::default();
    let Decision::Fresh { due } = decide_with(10, Some(&secret()), None, &none, HASH) else {
        panic!("not fresh")
    };
    assert!((at(30)..=at(39)).contains(&due));
    assert_eq!(
        decide_with(40, Some(&secret()), None, &none, HASH),
        Decision::Exchange(Cause::Due)
    );
}

#[test]
fn what_differs_is_the_cause() {
    let none = Memory::default();
    let exchange = Decision::Exchange;
    assert_eq!(
        decide_with(1, None, None, &none, HASH),
        exchange(Cause::Missing)
    );
    assert_eq!(
        decide_with(1, Some(&secret()), None, &none, "other"),
        exchange(Cause::InputsChanged)
    );
    assert_eq!(
        decide_with(1, Some(&secret()), Some("now"), &none, HASH),
        exchange(Cause::Requested)
    );
    let taken = SecretFacts {
        own_keys: 6,
        ..secret()
    };
    assert_eq!(
        decide_with(1, Some(&taken), None, &none, HASH),
        exchange(Cause::ForeignEdit)
    );
    let unknown = SecretFacts {
        expiration: None,
        ..secret()
    };
    assert_eq!(
        decide_with(1, Some(&unknown), None, &none, HASH),
        exchange(Cause::InputsChanged)
    );
}

#[test]
fn a_foreign_writer_is_verified_once_per_version() {
    let touched = SecretFacts {
        foreign_data: true,
        ..secret()
    };
    let none = Memory::default();
    assert_eq!(
        decide_with(1, Some(&touched), None, &none, HASH),
        Decision::Verify
    );
    let verified = Memory {
        verified_version: Some("7".into()),
        ..Memory::default()
    };
    assert!(matches!(
        decide_with(1, Some(&touched), None, &verified, HASH),
        Decision::Fresh { .. }
    ));
}

#[test]
fn another_owners_secret_is_never_written() {
    for owner in [None, Some("another uid".to_owned())] {
        let foreign = SecretFacts {
            owner_uid: owner,
            ..secret()
        };
        assert!(matches!(
            decide_with(50, Some(&foreign), None, &Memory::default(), HASH),
            Decision::Conflict(_)
        ));
    }
}

#[test]
fn a_failed_attempt_waits_unless_the_inputs_change() {
    let memory = failing(5);
    assert_eq!(
        decide_with(1, None, None, &memory, HASH),
        Decision::BackOff { until: at(5) }
    );
    assert_eq!(
        decide_with(1, None, None, &memory, "other"),
        Decision::Exchange(Cause::Missing)
    );
    assert_eq!(
        decide_with(5, None, None, &memory, HASH),
        Decision::Exchange(Cause::Missing)
    );
}

#[test]
fn a_clock_that_was_set_back_silences_nothing() {
    const YEAR: i64 = 365 * 24 * 60;
    let (none, exchange) = (Memory::default(), Decision::Exchange);
    // Issued by the wrong clock, with the expiration that STS told.
    let future = SecretFacts {
        issued_at: Some(at(YEAR)),
        ..secret()
    };
    let seen = decide_with(10, Some(&future), None, &none, HASH);
    assert_eq!(seen, exchange(Cause::Due));
    let seen = decide_with(10, None, None, &failing(YEAR), HASH);
    assert_eq!(seen, exchange(Cause::Missing));
    let forced = Memory {
        last_forced: Some(at(YEAR)),
        ..Memory::default()
    };
    let seen = decide_with(10, Some(&secret()), None, &forced, "other");
    assert_eq!(seen, exchange(Cause::InputsChanged));
}

#[test]
fn a_forced_exchange_that_failed_is_tried_again_at_the_pace_of_failures() {
    let memory = Memory {
        last_forced: Some(at(10)),
        ..failing(11)
    };
    let seen = |minutes| decide_with(minutes, None, None, &memory, HASH);
    assert_eq!(seen(10), Decision::BackOff { until: at(11) });
    assert_eq!(seen(11), Decision::Exchange(Cause::Missing));
    let memory = Memory {
        last_forced: Some(at(11)),
        ..failing(11)
    };
    let seen = |hash| decide_with(11, Some(&secret()), None, &memory, hash);
    assert_eq!(
        seen(HASH),
        decide_with(11, Some(&secret()), None, &Memory::default(), HASH)
    );
    // Another edit is another attempt.
    assert!(matches!(seen("other"), Decision::Defer { .. }));
}

#[test]
fn dates_that_a_tenant_writes_on_the_secret_force_no_more_than_others() {
    let joke = SecretFacts {
        issued_at: Some(at(-100)),
        expiration: Some(at(-40)),
        ..secret()
    };
    let memory = Memory {
        last_forced: Some(at(10)),
        due: Some(at(35)),
        ..Memory::default()
    };
    assert_eq!(
        decide_with(10, Some(&joke), None, &memory, HASH),
        Decision::Defer {
            until: at(11),
            cause: Cause::Due
        }
    );
    assert_eq!(
        decide_with(35, Some(&joke), None, &memory, HASH),
        Decision::Exchange(Cause::Due)
    );
}

#[test]
fn tenants_force_at_most_one_exchange_a_minute() {
    let memory = Memory {
        last_forced: Some(at(10)),
        ..Memory::default()
    };
    for (secret, hash) in [(Some(secret()), "other"), (None, HASH)] {
        assert!(matches!(
            decide_with(10, secret.as_ref(), None, &memory, hash),
            Decision::Defer { .. }
        ));
        assert!(matches!(
            decide_with(11, secret.as_ref(), None, &memory, hash),
            Decision::Exchange(_)
        ));
    }
    // A refresh in time is not the tenant's doing.
    let due = SecretFacts {
        issued_at: Some(at(-50)),
        expiration: Some(at(10)),
        ..secret()
    };
    assert_eq!(
        decide_with(10, Some(&due), None, &memory, HASH),
        Decision::Exchange(Cause::Due)
    );
}
