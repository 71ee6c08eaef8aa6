//! The engine's edge: how a call's arguments get from the codec into a guest, and its result back.
//!
//! There are two ways. [`fast`] is for the shapes that carry bulk: no parameter, or one that is a string or a numeric list, with a result
//! of the like; it copies buffers whole. [`values`] is for all other shapes, through wasmtime's dynamic values, element by element.

mod fast;
mod values;

use bytes::Bytes;
use rwasm_types::{Code, Error};
use rwasm_values::{
    Signature,
    codec::{ArgsView, Limits},
};
use wasmtime::{
    AsContextMut, Store,
    component::{Func, ResourceAny, Val},
};

use crate::store::Host;

/// Why a call has no result.
#[derive(Debug)]
pub(crate) enum CallError {
    /// wasmtime ended the guest, or the guest broke the canonical ABI.
    Guest(wasmtime::Error),
    /// The message or the result does not follow the codec.
    Ours(Error),
}

impl From<wasmtime::Error> for CallError {
    fn from(error: wasmtime::Error) -> Self {
        Self::Guest(error)
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

/// How the values of one export cross.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    signature: Signature,
    fast: Option<fast::Fast>,
}

impl Edge {
    pub(crate) fn new(signature: Signature) -> Self {
        Self { fast: fast::select(&signature), signature }
    }

    /// Whether buffers cross whole.
    pub(crate) fn is_fast(&self) -> bool {
        self.fast.is_some()
    }

    /// The same without the fast way, so that a benchmark can show both.
    #[must_use]
    pub(crate) fn slow(&self) -> Self {
        Self { signature: self.signature.clone(), fast: None }
    }

    /// The same for a function that makes or takes a resource, of which this is the type beside that. It crosses the dynamic way.
    pub(crate) fn dynamic(outward: Signature) -> Self {
        Self { signature: outward, fast: None }
    }

    /// Calls a function that makes a resource; gives it beside the result without it, if it was made.
    pub(crate) async fn make(&self, func: &Func, store: &mut Store<Host>, args: &[u8]) -> Result<(Bytes, Option<ResourceAny>), CallError> {
        let limits = limits(store);
        let view = ArgsView::parse(&self.signature, args, &args_limits(args))?;
        let params = values::params(&self.signature, &view, &mut store.as_context_mut())?;
        drop(view);
        let mut results = [Val::Bool(false)];
        func.call_async(&mut *store, &params, &mut results).await?;
        let [result] = &mut results;
        let made = values::take_resource(result);
        Ok((values::message(&self.signature, &results, &limits, &mut store.as_context_mut())?, made))
    }

    /// Calls a method of a resource.
    pub(crate) async fn call_on(
        &self,
        resource: ResourceAny,
        func: &Func,
        store: &mut Store<Host>,
        args: &[u8],
    ) -> Result<Bytes, CallError> {
        let limits = limits(store);
        let view = ArgsView::parse(&self.signature, args, &args_limits(args))?;
        let mut params = values::params(&self.signature, &view, &mut store.as_context_mut())?;
        drop(view);
        params.insert(0, Val::Resource(resource));
        let mut results = values::results(&self.signature);
        func.call_async(&mut *store, &params, &mut results).await?;
        Ok(values::message(&self.signature, &results, &limits, &mut store.as_context_mut())?)
    }

    /// Calls on the current thread.
    pub(crate) fn call(&self, func: &Func, store: &mut Store<Host>, args: &[u8]) -> Result<Bytes, CallError> {
        let limits = limits(store);
        let view = ArgsView::parse(&self.signature, args, &args_limits(args))?;
        match &self.fast {
            Some(fast) => (fast.call)(func, store, &view, &limits),
            None => {
                let params = values::params(&self.signature, &view, &mut store.as_context_mut())?;
                let mut results = values::results(&self.signature);
                func.call(&mut *store, &params, &mut results)?;
                Ok(values::message(&self.signature, &results, &limits, &mut store.as_context_mut())?)
            }
        }
    }

    /// Calls on a fiber.
    pub(crate) async fn call_async(&self, func: &Func, store: &mut Store<Host>, args: &[u8]) -> Result<Bytes, CallError> {
        let limits = limits(store);
        let view = ArgsView::parse(&self.signature, args, &args_limits(args))?;
        match &self.fast {
            Some(fast) => (fast.call_async)(func, store, &view, &limits).await,
            None => {
                let params = values::params(&self.signature, &view, &mut store.as_context_mut())?;
                drop(view);
                let mut results = values::results(&self.signature);
                func.call_async(&mut *store, &params, &mut results).await?;
                Ok(values::message(&self.signature, &results, &limits, &mut store.as_context_mut())?)
            }
        }
    }
}

/// What a result may cost.
fn limits(store: &Store<Host>) -> Limits {
    let bytes = usize::try_from(store.data().budget.limits.result_bytes).unwrap_or(usize::MAX);
    Limits { bytes, ..Limits::default() }
}

/// Arguments are in memory already; what they may cost was checked where they came in.
fn args_limits(args: &[u8]) -> Limits {
    Limits { bytes: args.len(), ..Limits::default() }
}

/// A result beyond the limit is the task's fault and has a code of its own.
pub(crate) fn result_error(error: Error) -> Error {
    if error.code() == Code::VALUE_TOO_LARGE {
        Error::new(Code::RESULT_TOO_LARGE, format!("the result is larger than the task's limit: {}", error.message()))
            .hint("raise it with --max-result")
    } else {
        error
    }
}
