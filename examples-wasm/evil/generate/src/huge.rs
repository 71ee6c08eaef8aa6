//! Guests that are valid, and large or hard to compile. Each is deterministic, and none does harm when it runs.

use std::fmt::Write;

use wasm_encoder::{BlockType, CodeSection, ExportKind, ExportSection, Function, FunctionSection, Module, TypeSection, ValType};

/// Makes a guest.
pub type Make = fn() -> Vec<u8>;

/// Every guest of this kind, by its name.
pub const ALL: &[(&str, Make)] = &[
    ("huge-function", function),
    ("huge-functions", functions),
    ("huge-branches", branches),
    ("huge-data", data),
    ("compile-bomb", compile_bomb),
    ("many-exports", many_exports),
    ("many-instances", many_instances),
    ("deep-type", deep_type),
];

/// A module of functions that all take and return a number, the first of which is exported as `run`.
fn module(functions: impl IntoIterator<Item = Function>) -> Module {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32], [ValType::I32]);
    let (mut declarations, mut code) = (FunctionSection::new(), CodeSection::new());
    for function in functions {
        declarations.function(0);
        code.function(&function);
    }
    let mut exports = ExportSection::new();
    exports.export("run", ExportKind::Func, 0);
    let mut module = Module::new();
    module.section(&types).section(&declarations).section(&exports).section(&code);
    module
}

/// One function near the limit of a function's size, 7,654,321 bytes: 5 million instructions, in which 900,000 values are alive at once.
fn function() -> Vec<u8> {
    const VALUES: u32 = 900_000;
    let mut function = Function::new([]);
    let mut body = function.instructions();
    for _ in 0..VALUES {
        body.local_get(0).i32_const(7).i32_mul().local_tee(0);
    }
    for _ in 1..VALUES {
        body.i32_xor();
    }
    body.end();
    module([function]).finish()
}

/// 100,000 functions of some 80 instructions each.
fn functions() -> Vec<u8> {
    const FUNCTIONS: u32 = 100_000;
    let functions = (0..FUNCTIONS).map(|number| {
        let mut function = Function::new([(4, ValType::I32)]);
        let mut body = function.instructions();
        for step in 0..16 {
            // Every function differs, so none can be taken for another.
            body.local_get(step % 5).i32_const((number ^ (step << 20)) as i32).i32_mul().local_get((step + 1) % 5).i32_xor();
            body.local_set((step + 2) % 5);
        }
        body.local_get(0).local_get(1).i32_add();
        body.end();
        function
    });
    module(functions).finish()
}

/// 20 functions, each with a jump table of 65,000 targets, each of which is a block of its own around the others.
fn branches() -> Vec<u8> {
    const FUNCTIONS: u32 = 20;
    const BLOCKS: u32 = 65_000;
    let functions = (0..FUNCTIONS).map(|number| {
        let mut function = Function::new([]);
        let mut body = function.instructions();
        for _ in 0..BLOCKS {
            body.block(BlockType::Empty);
        }
        body.local_get(0).br_table((0..BLOCKS - 1).collect::<Vec<_>>(), BLOCKS - 1);
        for _ in 0..BLOCKS {
            body.end();
            body.local_get(0).i32_const(number as i32 + 1).i32_add().local_set(0);
        }
        body.local_get(0);
        body.end();
        function
    });
    module(functions).finish()
}

/// 48 MiB of data that no compression makes small, and next to no code.
fn data() -> Vec<u8> {
    use wasm_encoder::{ConstExpr, DataSection, MemorySection, MemoryType};

    const BYTES: usize = 48 << 20;
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut bytes = Vec::with_capacity(BYTES);
    while bytes.len() < BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: (BYTES >> 16) as u64, maximum: None, memory64: false, shared: false, page_size_log2: None });
    let mut segments = DataSection::new();
    segments.active(0, &ConstExpr::i32_const(0), bytes);
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32], [ValType::I32]);
    let mut declarations = FunctionSection::new();
    declarations.function(0);
    let mut exports = ExportSection::new();
    exports.export("run", ExportKind::Func, 0);
    let mut function = Function::new([]);
    function.instructions().local_get(0).i32_load8_u(wasm_encoder::MemArg { offset: 0, align: 0, memory_index: 0 }).end();
    let mut code = CodeSection::new();
    code.function(&function);
    let mut module = Module::new();
    module.section(&types).section(&declarations).section(&memories).section(&exports).section(&code).section(&segments);
    module.finish()
}

/// A small module that is hard to compile: every one of many variables has to be followed through every one of many loops around it.
fn compile_bomb() -> Vec<u8> {
    const LOOPS: u32 = 6_000;
    const VARIABLES: u32 = 6_000;
    let mut function = Function::new([(VARIABLES, ValType::I32)]);
    let mut body = function.instructions();
    for _ in 0..LOOPS {
        body.loop_(BlockType::Empty);
    }
    for variable in 1..=VARIABLES {
        body.local_get(variable).local_get(variable - 1).i32_add().local_set(variable);
    }
    for _ in 0..LOOPS {
        body.local_get(VARIABLES).br_if(0);
        body.end();
    }
    body.local_get(VARIABLES);
    body.end();
    module([function]).finish()
}

/// A component with 10,000 exports.
fn many_exports() -> Vec<u8> {
    const EXPORTS: u32 = 10_000;
    let mut text = "(component (core module $M (func (export \"one\") (result i32) (i32.const 1)))
        (core instance $m (instantiate $M))\n"
        .to_owned();
    for number in 0..EXPORTS {
        let _ = writeln!(text, "(func (export \"export-n{number}\") (result u32) (canon lift (core func $m \"one\")))");
    }
    component(text)
}

/// A component that instantiates a module 900 times, each time with a memory and a table.
fn many_instances() -> Vec<u8> {
    const INSTANCES: u32 = 900;
    let mut text =
        "(component (core module $M (memory 1) (table 10 funcref) (func (export \"one\") (result i32) (i32.const 1)))\n".to_owned();
    for number in 0..INSTANCES {
        let _ = writeln!(text, "(core instance $m{number} (instantiate $M))");
    }
    text.push_str("(func (export \"one\") (result u32) (canon lift (core func $m0 \"one\")))");
    component(text)
}

/// A component with a type that is nested almost as deep as the standard's limit, 100.
fn deep_type() -> Vec<u8> {
    const DEPTH: u32 = 95;
    let mut text = "(component (type $t0 u8)\n".to_owned();
    for level in 1..=DEPTH {
        let _ = writeln!(text, "(type $t{level} (list $t{}))", level - 1);
    }
    let _ = write!(
        text,
        "(core module $M (memory (export \"memory\") 1) (func (export \"give\") (result i32) (i32.const 0)))
         (core instance $m (instantiate $M))
         (func (export \"give\") (result $t{DEPTH}) (canon lift (core func $m \"give\") (memory (core memory $m \"memory\"))))"
    );
    component(text)
}

fn component(mut text: String) -> Vec<u8> {
    text.push(')');
    wat::parse_str(&text).unwrap_or_else(|error| panic!("generated text: {error}"))
}
