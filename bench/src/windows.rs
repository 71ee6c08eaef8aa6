//! What it costs a guest to read an object once: through a window, and copied into memory that it did not have before. Beside them, the same
//! sum without a guest, and a window that is opened and not looked at.

use std::{hint::black_box, sync::Arc, time::Duration};

use bytes::Bytes;
use rwasm_engine::{Engine, Prepared, objects::LocalObjects};
use rwasm_objects::{Config, Store};
use rwasm_types::{ArtifactDigest, Error, JobId, NodeId, ObjectId, Result, TaskLimits, Tenant};
use rwasm_values::{Arg, Args, Ref, Type, Value, codec};

use crate::{layers::request, timing::Suite};

const GUEST: &str = include_str!("windows.wat");

/// Around where a window becomes cheaper than a copy, and far beyond.
const SIZES: &[(&str, usize)] =
    &[("256 KiB", 256 << 10), ("1 MiB", 1 << 20), ("4 MiB", 4 << 20), ("16 MiB", 16 << 20), ("64 MiB", 64 << 20), ("1 GiB", 1 << 30)];

pub(crate) async fn rows(engine: &Engine, suite: &mut Suite<'_>) -> Result<()> {
    let guest = engine.prepare(&Tenant::default(), ArtifactDigest(*blake3::hash(GUEST.as_bytes()).as_bytes()), GUEST.as_bytes()).await?;
    for (name, size) in SIZES {
        let labels = ["without a guest", "through a window", "as a copy", "as a window that is not read"]
            .map(|way| format!("objects: {name} {way}"));
        if labels.iter().any(|label| suite.wants(label)) {
            of_size(&guest, *size, &labels, suite).await?;
        }
    }
    Ok(())
}

async fn of_size(guest: &Arc<Prepared>, size: usize, [native, window, copy, open]: &[String; 4], suite: &mut Suite<'_>) -> Result<()> {
    let numbers: Vec<u64> = (0..size as u64 / 8).collect();
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let sum = numbers.iter().sum();
    suite.time(native, 1.0, || equal(black_box(&numbers).iter().sum(), sum))?;
    drop(numbers);
    // A segment more than it takes, so that nothing has to make room.
    let store = Store::open(Config::new(2 * size as u64 + Config::SEGMENT_BYTES_MAX))?;
    let task = JobId { owner: NodeId::FIRST, session: 1 }.task(0);
    let objects = Arc::new(LocalObjects::new(store, Tenant::default(), task, Duration::ZERO));
    let object = objects.put(Type::list(Type::U8), &bytes)?;
    drop(bytes);
    for (label, export, expected) in [(window, "scan", sum), (copy, "scan-copy", sum), (open, "open", 0)] {
        let (number, args) = call(guest, export, object, size)?;
        suite
            .time_async(label, 1.0, || {
                let mut request = request(number, args.clone());
                request.objects = Arc::<LocalObjects>::clone(&objects);
                request.limits = TaskLimits { memory_bytes: TaskLimits::MEMORY_BYTES_MAX, ..TaskLimits::default() };
                let run = Arc::clone(guest).run_async(request);
                async move {
                    let message = run.await.result?;
                    let given = message.last_chunk().map_or(0, |number| u64::from_le_bytes(*number));
                    equal(given, expected)
                }
            })
            .await?;
    }
    Ok(())
}

fn equal(given: u64, expected: u64) -> Result<()> {
    if given == expected { Ok(()) } else { Err(Error::internal(format!("the sum is {given} instead of {expected}"))) }
}

/// The number of an export, and the arguments of a call with an object and its size.
fn call(guest: &Prepared, name: &str, object: ObjectId, size: usize) -> Result<(usize, Bytes)> {
    let found = guest.info().exports.iter().enumerate().find(|(_, export)| export.name.func.as_str() == name);
    let (number, export) = found.ok_or_else(|| Error::internal(format!("the guest has no `{name}`")))?;
    let params = vec![Arg::Value(Value::Handle(0)), Arg::Value(Value::U32(size as u32))];
    let args = Args { refs: vec![Ref::Object(object)], params };
    Ok((number, codec::encode_args(&export.signature, &args, &codec::Limits::default())?))
}
