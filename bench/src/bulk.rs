//! What bytes cost on their way into a guest and out again, beside one plain copy of as many; and a start from the compile cache.

use std::{hint::black_box, sync::Arc};

use bytes::Bytes;
use rwasm_engine::{Engine, Prepared};
use rwasm_types::{ArtifactDigest, Code, Error, Result, Tenant};
use rwasm_values::{Arg, Args, Flat, Value, codec};

use crate::{Setup, layers::request, timing::Suite};

/// Gives back what it is given.
const SAME: &str = include_str!("bulk.wat");

const LARGE: usize = 64 << 20;
const SMALL: usize = 1 << 20;

pub(crate) async fn rows(setup: &Setup, engine: &Engine, suite: &mut Suite<'_>) -> Result<()> {
    let typed = prepare(engine, SAME.as_bytes()).await?;
    let dynamic = Arc::new(typed.without_fast_calls());
    if !typed.is_fast(0) || dynamic.is_fast(0) {
        return Err(Error::internal("a list of bytes does not take the typed way"));
    }
    for (name, size) in [("1 MiB", SMALL), ("64 MiB", LARGE)] {
        let bytes = vec![7_u8; size];
        let mut warm = bytes.clone();
        suite.time(&format!("bulk: one copy of {name} into warm memory"), 1.0, || {
            black_box(&mut warm).copy_from_slice(black_box(&bytes));
            Ok(())
        })?;
        // An instance's memory is new to it, so this is what one copy into a guest costs at least.
        suite.time(&format!("bulk: one copy of {name} into new memory"), 1.0, || {
            let new = memmap2::MmapMut::map_anon(size);
            let mut new = new.map_err(|error| Error::new(Code::NO_CAPACITY, format!("there is no memory to copy into: {error}")))?;
            black_box(&mut new).copy_from_slice(black_box(&bytes));
            Ok(())
        })?;
        let args = encode(&typed, &bytes)?;
        suite.time(&format!("bulk: {name} in and out, typed"), 1.0, || round_trip(&typed, &args))?;
        if size == SMALL {
            suite.time(&format!("bulk: {name} in and out, dynamic"), 1.0, || round_trip(&dynamic, &args))?;
        }
    }
    match &setup.hello {
        Some(hello) => cold_start(engine, hello, suite).await,
        None => Ok(()),
    }
}

async fn prepare(engine: &Engine, bytes: &[u8]) -> Result<Arc<Prepared>> {
    engine.prepare(&Tenant::default(), digest(bytes), bytes).await
}

fn digest(bytes: &[u8]) -> ArtifactDigest {
    ArtifactDigest(*blake3::hash(bytes).as_bytes())
}

fn encode(prepared: &Prepared, bytes: &[u8]) -> Result<Bytes> {
    let export = prepared.info().exports.first().ok_or_else(|| Error::internal("the guest exports nothing"))?;
    let args = Args { refs: Vec::new(), params: vec![Arg::Value(Value::Flat(Flat::from_slice(bytes)))] };
    codec::encode_args(&export.signature, &args, &codec::Limits::default())
}

fn round_trip(prepared: &Prepared, args: &Bytes) -> Result<()> {
    let result = prepared.run(request(0, args.clone())).result?;
    // Arguments and result carry the same value, so they differ by their headers alone.
    if result.len().abs_diff(args.len()) > 64 || result.last() != args.last() {
        return Err(Error::internal("the guest gave back something else"));
    }
    Ok(())
}

/// An artifact that is compiled, but not in memory: read, checked, loaded, linked, instantiated and called.
async fn cold_start(engine: &Engine, hello: &Bytes, suite: &mut Suite<'_>) -> Result<()> {
    let (tenant, digest) = (Tenant::default(), digest(hello));
    let prepared = engine.prepare(&tenant, digest, hello).await?;
    let (number, export) = prepared
        .info()
        .exports
        .iter()
        .enumerate()
        .find(|(_, export)| export.name.func.as_str() == "greet")
        .ok_or_else(|| Error::internal("the guest has no `greet`"))?;
    let args = Args { refs: Vec::new(), params: vec![Arg::Value(Value::String("Ada".to_owned()))] };
    let args = codec::encode_args(&export.signature, &args, &codec::Limits::default())?;
    suite
        .time_async("start: hello from the compile cache", 1.0, || {
            engine.forget(&tenant, digest);
            let (tenant, args) = (&tenant, args.clone());
            async move { engine.prepare(tenant, digest, hello).await?.run(request(number, args)).result.map(drop) }
        })
        .await
}
