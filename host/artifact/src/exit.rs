//! Lets a module of WASI preview 1 end with any status. The published adapter knows `exit` of `wasi:cli`, which tells success from failure
//! and no more; `exit-with-code` takes the number, and has the very type of `proc_exit`, so the module is made to import it instead.

use rwasm_types::Error;
use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as PREVIEW1;
use wasm_encoder::{
    ImportSection, RawSection,
    reencode::{Reencode, RoundtripReencoder},
};
use wasmparser::{Parser, Payload, TypeRef};

use crate::{adapt::embed, features};

/// The function of preview 1.
pub(crate) const PROC_EXIT: &str = "proc_exit";

/// What stands for it: the interface as the adapter imports it too, and the function.
const EXIT: &str = "wasi:cli/exit@0.2.12";
const EXIT_WITH_CODE: &str = "exit-with-code";

const WORLD: &str = "package rwasm:adapted-exit;
world adapted { import wasi:cli/exit@0.2.12; }
package wasi:cli@0.2.12 { interface exit { exit: func(status: result); exit-with-code: func(status-code: u8); } }
";

/// Puts `exit-with-code` in place of `proc_exit`, for a module that imports it with its right type.
pub(crate) fn keep_status(wasm: &[u8]) -> Result<Vec<u8>, Error> {
    let mut module = wasm_encoder::Module::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(features::malformed)?;
        if let Payload::ImportSection(section) = payload {
            let mut imports = ImportSection::new();
            for import in section.into_imports() {
                let import = import.map_err(features::malformed)?;
                let (from, name) = match import.ty {
                    TypeRef::Func(_) if (import.module, import.name) == (PREVIEW1, PROC_EXIT) => (EXIT, EXIT_WITH_CODE),
                    _ => (import.module, import.name),
                };
                let ty = RoundtripReencoder.entity_type(import.ty);
                imports.import(from, name, ty.map_err(|error| Error::internal(format!("an import cannot be written: {error}")))?);
            }
            module.section(&imports);
        } else if let Some((id, range)) = payload.as_section() {
            module.section(&RawSection { id, data: &wasm[range] });
        }
    }
    let mut module = module.finish();
    embed(&mut module, WORLD, "rwasm:adapted-exit")?;
    Ok(module)
}
