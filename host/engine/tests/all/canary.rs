//! No instance leaves anything behind for the next one, which gets its slot of the pool.

use crate::{
    common::{Task, Way, lab},
    guests::{PROFILES, silent},
};

/// Returns whatever is left of an earlier instance, in a global, in memory that was there, in memory that was grown and in a table that was
/// grown; then writes to all of them.
fn canary(pages: u32) -> String {
    silent(
        &format!(
            r#"
  (memory $memory {pages})
  (data (i32.const 64) "\07")
  (global $global (mut i64) (i64.const 0))
  (table $table 2 100 funcref)
  (elem declare func $probe)
  (func $probe (export "probe") (param $value i64) (result i64)
    (local $found i64) (local $address i32)
    (local.set $found (global.get $global))
    (local.set $found (i64.or (local.get $found) (i64.load (i32.const 8))))
    ;; What the image holds is there each time, as it was.
    (local.set $found (i64.or (local.get $found) (i64.xor (i64.load8_u (i32.const 64)) (i64.const 7))))
    (local.set $address (i32.mul (memory.grow (i32.const 3)) (i32.const 65536)))
    (local.set $found (i64.or (local.get $found) (i64.load offset=131072 (local.get $address))))
    (local.set $found (i64.or (local.get $found)
      (i64.extend_i32_u (i32.eqz (ref.is_null (table.get $table (i32.const 1)))))))
    (drop (table.grow $table (ref.null func) (i32.const 5)))
    (local.set $found (i64.or (local.get $found)
      (i64.extend_i32_u (i32.eqz (ref.is_null (table.get $table (i32.const 6)))))))
    (global.set $global (local.get $value))
    (i64.store (i32.const 8) (local.get $value))
    (i64.store8 (i32.const 64) (local.get $value))
    (i64.store offset=131072 (local.get $address) (local.get $value))
    (table.set $table (i32.const 1) (ref.func $probe))
    (table.set $table (i32.const 6) (ref.func $probe))
    (local.get $found))"#
        ),
        r#"(func (export "probe") (param "value" u64) (result u64) (canon lift (core func $m "probe")))"#,
    )
}

#[tokio::test]
async fn nothing_is_left_by_an_earlier_instance() {
    const ROUNDS: usize = 500;
    let lab = lab();
    for profile in PROFILES {
        // Two artifacts take turns in the few slots, and then one has them for itself.
        let (first, second) = (lab.prepare(&profile(&canary(1))).await, lab.prepare(&profile(&canary(3))).await);
        let turns = [&first, &second].into_iter().cycle().take(ROUNDS).chain(std::iter::repeat_n(&first, ROUNDS));
        for (round, prepared) in turns.enumerate() {
            for way in Way::of(prepared) {
                let ran = Task::new(prepared, "probe(18446744073709551615)").run(*way).await;
                assert_eq!(ran.wave(), "0", "round {round}, {way:?}");
            }
        }
    }
}
