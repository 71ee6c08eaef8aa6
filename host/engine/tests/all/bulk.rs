//! Large values: they cross whole, and not element by element.

use std::{hint::black_box, time::Instant};

use crate::{
    common::{Task, Way, lab},
    guests::{PROFILES, silent},
};

const BYTES: usize = 64 << 20;

/// Takes bytes, gives 64 MiB, and gives back the bytes that it took. Memory comes from the end, and nothing is given back.
fn bulk() -> String {
    silent(
        r#"
  (memory (export "memory") 1)
  (global $end (mut i32) (i32.const 65536))
  (func $take (export "realloc") (param i32 i32 i32) (param $size i32) (result i32) (local $at i32)
    (local.set $at (global.get $end))
    (global.set $end (i32.and (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 15)) (i32.const -16)))
    (drop (memory.grow (i32.shr_u (i32.add (local.get $size) (i32.const 131071)) (i32.const 16))))
    (local.get $at))
  (func (export "length") (param i32 i32) (result i32) (local.get 1))
  (func (export "give") (result i32)
    (i32.store (i32.const 0) (call $take (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 0x4000000)))
    (i32.store (i32.const 4) (i32.const 0x4000000))
    (i32.const 0))
  (func (export "same") (param $at i32) (param $count i32) (result i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $count))
    (i32.const 0))"#,
        r#"
  (func (export "take") (param "bytes" (list u8)) (result u32)
    (canon lift (core func $m "length") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
  (func (export "give") (result (list u8))
    (canon lift (core func $m "give") (memory (core memory $m "memory"))))
  (func (export "echo") (param "bytes" (list u8)) (result (list u8))
    (canon lift (core func $m "same") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
  (func (export "numbers") (param "numbers" (list u64)) (result (list u64))
    (canon lift (core func $m "same") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
  (func (export "text") (param "text" string) (result string)
    (canon lift (core func $m "same") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))"#,
    )
}

#[tokio::test]
async fn bulk_crosses_whole() {
    let lab = lab();
    for make in PROFILES {
        let prepared = lab.prepare(&make(&bulk())).await;
        let exports = &prepared.info().exports;
        let fast = |name: &str| prepared.is_fast(exports.iter().position(|export| export.name.func == name).unwrap());
        for name in ["take", "give", "echo", "numbers", "text"] {
            assert!(fast(name), "{name} goes through dynamic values");
        }
        // Both ways say the same.
        let slow = std::sync::Arc::new(prepared.without_fast_calls());
        for call in ["take([1, 2, 3])", "echo([1, 2, 255])", "echo([])", "numbers([0, 18446744073709551615])", r#"text("héllo")"#] {
            for way in Way::of(&prepared) {
                let whole = Task::new(&prepared, call).run(*way).await.wave();
                assert_eq!(whole, Task::new(&slow, call).run(*way).await.wave(), "{call}, {way:?}");
            }
        }
    }
}

/// 64 MiB each way come through. What it takes is printed beside the copies that it cannot do without, and is not judged here.
#[tokio::test]
async fn large_arguments_and_results() {
    let lab = lab();
    let prepared = lab.prepare(&bulk()).await;
    let bytes = vec![0xa5_u8; BYTES];
    let mut warm = vec![0_u8; BYTES];
    let timed = |work: &mut dyn FnMut()| {
        (0..3)
            .map(|_| {
                let begun = Instant::now();
                work();
                begun.elapsed()
            })
            .min()
            .unwrap()
    };
    let copy_warm = timed(&mut || black_box(&mut warm).copy_from_slice(black_box(&bytes)));
    let copy_fresh = timed(&mut || drop(black_box(bytes.clone())));
    println!("one copy of 64 MiB: {copy_warm:?} into warm memory, {copy_fresh:?} into fresh memory");
    for name in ["take", "give", "echo"] {
        let mut best = std::time::Duration::MAX;
        for _ in 0..3 {
            let task = if name == "give" { Task::new(&prepared, "give()") } else { Task::with_bytes(&prepared, name, &bytes) };
            let ran = task.run(Way::Thread).await;
            match name {
                "take" => assert_eq!(ran.wave(), BYTES.to_string()),
                // Version, success and length stand before the bytes.
                "give" => assert_eq!(ran.outcome.result.as_ref().unwrap().len(), 6 + BYTES),
                _ => assert_eq!(&ran.outcome.result.as_ref().unwrap()[6..], &bytes),
            }
            best = best.min(ran.outcome.wall);
        }
        println!(
            "{name} of 64 MiB, with a fresh instance: {best:?}, {:.1} copies into fresh memory",
            best.as_secs_f64() / copy_fresh.as_secs_f64()
        );
    }
}
