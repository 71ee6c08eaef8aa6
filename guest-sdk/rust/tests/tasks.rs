//! What a function that starts tasks relies on in its tests: calls run at once, with the arguments and results that the cluster would carry.

#![expect(clippy::panic, clippy::unwrap_used, reason = "tasks of tests may panic")]

use std::{num::ParseIntError, time::Duration};

use rwasm::{
    Object, Task,
    object::{self, Any},
    task::{self, Error, Options, Pending},
    testing,
};

#[rwasm::export]
fn fibonacci(n: u32) -> Result<u64, Error> {
    if n < 2 {
        return Ok(n.into());
    }
    let (before, last) = (fibonacci::submit(n - 2)?, fibonacci::with(Options::new().cpus(0.1)).submit(n - 1)?);
    Ok(before.get()?? + last.get()??)
}

#[rwasm::export]
fn parse_all(texts: &[String], sign: &str, r#type: Option<(u8, char)>) -> Result<Vec<i64>, ParseIntError> {
    assert_eq!(r#type, Some((1, 'x')));
    texts.iter().map(|text| format!("{sign}{text}").parse()).collect()
}

#[rwasm::export]
fn sum(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

#[rwasm::export]
fn stored(numbers: &Object<Vec<i64>>) -> Result<u64, object::Error> {
    numbers.info().map(|info| info.size)
}

#[rwasm::export]
fn put_each(numbers: &[i64]) -> Vec<Object<i64>> {
    numbers.iter().map(|number| Object::put(number).unwrap()).collect()
}

#[rwasm::export]
fn first_of(objects: Vec<Object<i64>>, others: &Object<i64>) -> Object<i64> {
    objects.into_iter().next().unwrap_or_else(|| others.duplicate().unwrap())
}

#[rwasm::export]
fn fail() {
    panic!("as it should");
}

#[rwasm::export]
fn whoami() -> String {
    rwasm::context::task_id()
}

/// Another artifact.
mod shop {
    rwasm::import!({
        artifact: "shop:1",
        world: "shop",
        inline: "
            package test:shop@1.2.0;

            interface types {
                enum currency { eur, usd }
                record price { %type: currency, cents: u64 }
            }

            interface catalogue {
                use types.{price};
                use rwasm:core/objects@0.1.0.{object};
                variant found { nothing, one(price), several(list<price>) }
                flags search { exact, sold-out }
                record scan { picture: object, of: string }

                /// Looks for prices.
                search-for: func(name: string, how: search, within: option<tuple<price, price>>) -> result<found, string>;
                scans: func(of: list<string>) -> list<scan>;
                forget: func();
            }

            world shop {
                use types.{price};
                export catalogue;
                export total: func(prices: list<price>, self: bool) -> price;
            }
        ",
    });
}

use shop::{
    catalogue::{self, Found, Scan, Search},
    types::{Currency, Price},
};

#[test]
fn a_function_starts_itself() {
    assert_eq!(fibonacci(12), Ok(144));
    assert_eq!(fibonacci::submit(12).unwrap().get().unwrap(), Ok(144));
}

#[test]
fn arguments_are_values_references_or_what_others_made() {
    let parsed = parse_all::submit(vec!["1".to_owned(), "2".to_owned()], "-", Some((1, 'x'))).unwrap();
    assert_eq!(parsed.get().unwrap(), Ok(vec![-1, -2]));
    let texts = ["7".to_owned()];
    assert_eq!(parse_all::submit(&texts, "+".to_owned(), Some((1, 'x'))).unwrap().get().unwrap(), Ok(vec![7]));
    assert!(parse_all::submit(&texts[..], "x", Some((1, 'x'))).unwrap().get().unwrap().unwrap_err().contains("invalid digit"));

    let numbers = Object::put(&vec![1, 2, 3]).unwrap();
    assert_eq!(sum::submit(&numbers).unwrap().get(), Ok(6));
    assert_eq!(sum::submit(&[1, 2]).unwrap().get(), Ok(3));
    assert_eq!(stored::submit(&numbers).unwrap().get(), Ok(Ok(24)));
    assert_eq!(stored::submit(numbers).unwrap().get(), Ok(Ok(24)));

    let one: Task<i64> = sum::submit(&[4]).unwrap();
    let objects = put_each::submit(&[4, 5]).unwrap().get().unwrap();
    assert_eq!(first_of::submit(&objects, &one).unwrap().get().unwrap().get(), Ok(4));
    assert_eq!(first_of::submit(vec![], &one).unwrap().get().unwrap().get(), Ok(4));
    assert_eq!(first_of::submit(vec![], &objects[1]).unwrap().get().unwrap().get(), Ok(5));
}

#[test]
fn a_panic_is_the_failure_of_its_task_and_of_those_that_need_it() {
    let failed = fail::submit().unwrap();
    let error = failed.get().unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (Some("RW0401"), "RW0401: the guest trapped: as it should"));
    let needing = sum::submit(&failed.into_output().cast()).unwrap();
    assert_eq!(needing.get().unwrap_err().code(), Some("RW0401"));
    needing.cancel();
}

#[test]
fn a_result_is_an_object_of_its_type() {
    let task = parse_all::submit(&["1".to_owned()], "", Some((1, 'x'))).unwrap();
    assert_eq!(task.output().info().unwrap().value_type, "result<list<s64>, string>");
    assert_eq!(task.into_output().cast::<i64>().get(), Err(object::Error::Malformed));
    let objects = put_each::submit(&[1, 2]).unwrap().into_output();
    assert_eq!(objects.info().unwrap().value_type, "list<own<rwasm:core/objects.object>>");
    let objects = objects.get().unwrap();
    assert_eq!(objects[1].get(), Ok(2));
    assert_eq!(Object::put(&objects).unwrap_err(), object::Error::Malformed);
}

#[test]
fn tasks_of_any_type_are_waited_for_together() {
    let (number, nothing) = (sum::submit(&[1]).unwrap(), stored::submit(Object::put(&vec![]).unwrap()).unwrap());
    let object = Object::put(&1_u8).unwrap();
    let all: [&dyn Pending; 3] = [&number, &nothing, &object];
    assert_eq!(task::wait(&all, usize::MAX, Some(Duration::ZERO)), Ok(vec![0, 1, 2]));
    assert_eq!(task::wait(&[number], 1, None), Ok(vec![0]));
}

#[test]
fn a_task_has_an_id_of_its_own() {
    testing::set_context(testing::Context::default());
    let (first, second) = (whoami::submit().unwrap(), whoami::submit().unwrap());
    assert_ne!(first.id(), second.id());
    assert_eq!((first.get().unwrap(), second.get().unwrap()), (first.id(), second.id()));
    assert_eq!(whoami(), "t1-1-1");
}

#[test]
fn the_functions_of_another_artifact_are_called_by_their_wit() {
    let price = |cents| Price { type_: Currency::Usd, cents };
    shop::total::answer(|prices, own| Price { type_: Currency::Eur, cents: prices.iter().map(|p| p.cents).sum::<u64>() * u64::from(own) });
    assert_eq!(shop::total::submit(&[price(2), price(3)], true).unwrap().get(), Ok(Price { type_: Currency::Eur, cents: 5 }));

    catalogue::search_for::answer(|name, how, within| match within {
        Some((least, most)) if how.contains(Search::SOLD_OUT) => Ok(Found::Several(vec![least, most])),
        Some((least, _)) => Ok(Found::One(least)),
        None if name.is_empty() => Err("no name".to_owned()),
        None => Ok(Found::Nothing),
    });
    let search = |name: &str, how, within| catalogue::search_for::submit(name, how, within).unwrap();
    let within = Some((price(1), price(2)));
    let several = Ok(Found::Several(vec![price(1), price(2)]));
    assert_eq!(search("tea", Search::EXACT | Search::SOLD_OUT, within.clone()).get(), Ok(several));
    assert_eq!(search("tea", Search::empty(), within).get(), Ok(Ok(Found::One(price(1)))));
    assert_eq!(search("", Search::empty(), None).get(), Ok(Err("no name".to_owned())));
    let nothing = search("tea", Search::empty(), None);
    assert_eq!(
        nothing.output().info().unwrap().value_type,
        "result<variant { nothing, one(record { type: enum { eur, usd }, cents: u64 }), several(list<record { type: enum { eur, usd }, \
         cents: u64 }>) }, string>"
    );
    assert_eq!(nothing.get(), Ok(Ok(Found::Nothing)));

    catalogue::scans::answer(|of| {
        let picture = Object::put(&vec![1_u8, 2]).unwrap();
        of.into_iter().map(|of| Scan { picture: picture.duplicate().unwrap().cast::<Any>(), of }).collect()
    });
    let scans = catalogue::scans::submit(vec!["a".to_owned(), "b".to_owned()]).unwrap().get().unwrap();
    assert_eq!(scans.len(), 2);
    for scan in scans {
        assert_eq!(scan.picture.cast::<Vec<u8>>().get(), Ok(vec![1, 2]), "{}", scan.of);
    }
}

#[test]
fn an_artifact_that_nobody_stands_in_for_is_not_there() {
    let error = catalogue::forget::with(Options::new().artifact("shop:2").timeout(Duration::from_secs(1))).submit().unwrap_err();
    assert_eq!(error.code(), Some("RW0201"));
    assert!(error.to_string().contains("test:shop/catalogue@1.2.0/forget"), "{error}");
    catalogue::forget::answer(|| ());
    assert_eq!(catalogue::forget::submit().unwrap().get(), Ok(()));
}
