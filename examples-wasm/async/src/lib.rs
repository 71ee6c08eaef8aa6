//! Async functions, a stream and a command, all by WASI 0.3. The contract is `wit/world.wit`.

use rwasm::streams::{StreamReader, spawn_local};

rwasm::generate!();

use exports::wasi::cli::run;
use wasi::{cli::stdout, clocks::monotonic_clock};

struct Example;

impl run::Guest for Example {
    async fn run() -> Result<(), ()> {
        let (mut writer, reader) = wit_stream::new();
        let written = stdout::write_via_stream(reader);
        let rest = writer.write_all(b"Hello from WASI 0.3!\n".to_vec()).await;
        drop(writer);
        if rest.is_empty() { written.await.map_err(drop) } else { Err(()) }
    }
}

impl Guest for Example {
    async fn double_later(number: u32, milliseconds: u64) -> u32 {
        monotonic_clock::wait_for(milliseconds.saturating_mul(1_000_000)).await;
        number.wrapping_mul(2)
    }

    async fn upper(mut text: StreamReader<u8>) -> StreamReader<u8> {
        let (mut writer, reader) = wit_stream::new();
        // The caller reads after this function has returned, so the work goes on beside it.
        spawn_local(async move {
            while let Some(byte) = text.next().await {
                if writer.write_one(byte.to_ascii_uppercase()).await.is_some() {
                    break;
                }
            }
        });
        reader
    }
}

export!(Example);
